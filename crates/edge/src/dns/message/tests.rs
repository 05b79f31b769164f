//! Tests of the reader of DNS messages: truncated, forged and malformed ones.

use super::*;

fn query() -> Query {
    Query::new(&DomainName::parse("dex.example").unwrap(), Family::V4, 0x1234, true, false).unwrap()
}

/// An answer to [`query`] with these flags and response code, and these encoded records.
fn answer(flags: u16, records: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(flags.to_be_bytes());
    bytes.extend([0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(b"\x03dex\x07example\x00\x00\x01\x00\x01");
    bytes.extend(records.concat());
    bytes
}

const RESPONSE: u16 = 0x8180;
const NAME: [u8; 2] = [0xc0, 12];

fn record(kind: u8, data: &[u8]) -> Vec<u8> {
    let head = [0, kind, 0, 1, 0, 0, 0, 30, 0, u8::try_from(data.len()).unwrap()];
    [&NAME[..], &head, data].concat()
}

fn a(last: u8) -> Vec<u8> {
    record(1, &[10, 0, 0, last])
}

fn ips(list: &[&str]) -> Option<Reply> {
    Some(Reply::Addresses(list.iter().map(|ip| ip.parse().unwrap()).collect()))
}

#[test]
fn a_query_encodes_id_name_type_and_edns() {
    let sent = query().bytes().to_vec();
    assert_eq!(sent[..12], [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(sent[12..29], *b"\x03dex\x07example\x00\x00\x01\x00\x01");
    // The OPT record with 1232 bytes (RFC 6891 §6.1.2).
    assert_eq!(sent[29..], [0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    let without_edns = Query::new(&DomainName::parse("d").unwrap(), Family::V6, 7, false, true).unwrap();
    assert_eq!(
        without_edns.bytes(),
        *b"\x00\x07\x01\x20\x00\x01\x00\x00\x00\x00\x00\x00\x01d\x00\x00\x1c\x00\x01"
    );
}

#[test]
fn names_are_accepted_as_by_go() {
    for valid in ["dex", "dex.example", "_dex._tcp.example", "a-b.c", "1.example", "x".repeat(63).as_str()] {
        assert!(DomainName::parse(valid).is_some(), "{valid}");
    }
    let long = vec!["x".repeat(63); 4].join(".");
    for invalid in
        ["", ".", "127.1", "0", "a..b", ".a", "a b", "d\u{e9}x", "a\\046b", "x".repeat(64).as_str(), &long]
    {
        assert!(DomainName::parse(invalid).is_none(), "{invalid}");
    }
    assert!(DomainName::parse(&long[..253]).is_some());
}

#[test]
fn addresses_beside_cname_records_are_found_in_any_order() {
    let alias = record(5, b"\x05alias\xc0\x10");
    assert_eq!(
        query().parse_reply(&answer(RESPONSE, &[&alias, &a(1), &a(2)])),
        ips(&["10.0.0.1", "10.0.0.2"])
    );
    assert_eq!(query().parse_reply(&answer(RESPONSE, &[&a(1), &alias, &a(1)])), ips(&["10.0.0.1"]));
    assert_eq!(query().parse_reply(&answer(RESPONSE, &[&alias])), Some(Reply::NoAddress));
    let other = record(28, &[0; 16]);
    assert_eq!(query().parse_reply(&answer(RESPONSE, &[&other])), Some(Reply::NoAddress));
    assert_eq!(query().parse_reply(&answer(RESPONSE, &[&other, &a(1)])), ips(&["::", "10.0.0.1"]));
    let many: Vec<_> = (0..100).map(a).collect();
    let many: Vec<_> = many.iter().map(Vec::as_slice).collect();
    let Some(Reply::Addresses(found)) = query().parse_reply(&answer(RESPONSE, &many)) else { panic!("none") };
    assert_eq!(found.len(), MOST_ADDRESSES);
}

#[test]
fn response_codes_are_distinguished() {
    let of = |flags| query().parse_reply(&answer(flags, &[])).unwrap();
    assert_eq!(of(RESPONSE), Reply::NoAddress);
    assert_eq!(of(RESPONSE | 3), Reply::NoSuchName);
    assert_eq!(of(RESPONSE | 2), Reply::Failed(Error::Rcode(2)));
    assert_eq!(of(RESPONSE | 5), Reply::Failed(Error::Rcode(5)));
    assert_eq!(of(RESPONSE | 1), Reply::NotUnderstood(Error::Rcode(1)));
    assert_eq!(of(RESPONSE | 4), Reply::NotUnderstood(Error::Rcode(4)));
    // Not authoritative, no recursion, no records: a referral (golang/go#15434).
    assert_eq!(of(0x8100), Reply::Failed(Error::LameReferral));
    assert_eq!(of(0x8500), Reply::NoAddress);
    let header_only = [&[0x12, 0x34, 0x80, 0x01][..], &[0; 8]].concat();
    assert_eq!(query().parse_reply(&header_only), Some(Reply::NotUnderstood(Error::Rcode(1))));
    assert_eq!(Error::Rcode(9).to_string(), "response code 9");
}

#[test]
fn f131_addresses_in_a_truncated_answer_are_kept() {
    const TRUNCATED: u16 = RESPONSE | 0x0200;
    let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
    let complete = answer(TRUNCATED, &[&a(1), &a(2)]);
    assert_eq!(query().parse_reply(&complete), Some(Reply::Truncated(vec![ip(1), ip(2)])));
    let cut = &complete[..complete.len() - 3];
    assert_eq!(query().parse_reply(cut), Some(Reply::Truncated(vec![ip(1)])));
    assert_eq!(query().parse_reply(&answer(TRUNCATED, &[])), Some(Reply::Truncated(vec![])));
}

#[test]
fn f133_answers_to_other_queries_and_malformed_ones_are_ignored() {
    let valid = answer(RESPONSE, &[&a(1)]);
    assert!(query().parse_reply(&valid).is_some());
    let changed = |at: usize, to: u8| {
        let mut bytes = valid.clone();
        bytes[at] = to;
        query().parse_reply(&bytes)
    };
    // ID, QR bit, name, type, class, counts, a compression pointer to itself, the length of the
    // data.
    for (at, to) in
        [(0, 0), (1, 0), (2, 0), (5, 2), (5, 0), (13, b'x'), (26, 28), (28, 3), (29, 0xff), (30, 29), (40, 5)]
    {
        assert_eq!(changed(at, to), None, "byte {at}");
    }
    // As in Go, addresses before a missing or malformed record count.
    assert_eq!(changed(7, 2), ips(&["10.0.0.1"]));
    let mut broken = answer(RESPONSE, &[&a(1), &record(1, &[10, 0, 0])]);
    assert_eq!(query().parse_reply(&broken), ips(&["10.0.0.1"]));
    broken[9] = 5;
    assert_eq!(query().parse_reply(&broken), ips(&["10.0.0.1"]));
    // Names are compared without regard to case (RFC 4343).
    assert!(changed(13, b'D').is_some());
    for end in 0..valid.len() {
        assert_eq!(query().parse_reply(&valid[..end]), None, "cut at {end}");
    }
}
