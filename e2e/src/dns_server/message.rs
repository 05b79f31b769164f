//! The messages of the fake DNS server (RFC 1035 §4, RFC 6891): parses queries, writes valid and
//! malformed answers.

use std::net::{IpAddr, Ipv4Addr};

use super::{Edns, Family, Lie, Reply};

/// The largest UDP message without EDNS0, in bytes (RFC 1035 §4.2.1).
const UDP_LIMIT: usize = 512;
/// The compressed form of the name in the question.
const SAME_NAME: [u8; 2] = [0xc0, 12];

const CNAME: u8 = 5;
/// A record type that resolvers skip.
const RRSIG: u8 = 46;

/// The question of a query.
#[derive(Clone, Debug)]
pub(super) struct Question {
    query: Vec<u8>,
    /// The offset of type and class, after the name.
    end: usize,
    /// In lower case, without a final dot.
    pub(super) name: String,
    /// The family of the query; nothing for other types.
    pub(super) family: Option<Family>,
    /// The UDP payload size that the client announces, in bytes.
    pub(super) edns: Option<usize>,
}

impl Question {
    pub(super) fn parse(query: &[u8]) -> Option<Self> {
        let (mut at, mut labels) = (12, vec![]);
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned());
            at += length;
        }
        let family = match query.get(at..at + 2)? {
            [0, 1] => Some(Family::A),
            [0, 28] => Some(Family::Aaaa),
            _ => None,
        };
        // The only additional record is OPT: root name, type, payload size.
        let size = query.get(at + 7..at + 9).filter(|_| query[11] > 0);
        let edns = size.map(|size| usize::from(u16::from_be_bytes([size[0], size[1]])));
        Some(Self { query: query.to_vec(), end: at, name: labels.join(".").to_lowercase(), family, edns })
    }

    /// The message for a reply; nothing for [`Reply::Silence`].
    pub(super) fn answer(&self, reply: Reply, edns: Edns, tcp: bool) -> Option<Vec<u8>> {
        match edns {
            Edns::Code(code) if self.edns.is_some() => return Some(self.head(code, false)),
            Edns::HeaderOnly if self.edns.is_some() => {
                return Some([&self.query[..2], &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
            }
            _ => {}
        }
        let code = match reply {
            Reply::Silence => return None,
            Reply::Failed => 2,
            Reply::Absent => 3,
            Reply::Refused => 5,
            Reply::Code(code) => code,
            _ => 0,
        };
        let mut answer = self.head(code, false);
        let address = reply.address(self.family?);
        match (reply, address) {
            (Reply::Lame, _) => {
                // Neither authoritative nor recursive.
                answer[2] &= !4;
                answer[3] &= !0x80;
            }
            (Reply::Truncated(_), _) if !tcp => answer[2] |= 2,
            (Reply::Alias(_), Some(ip)) => {
                // Each name is the one before it with a label in front.
                let names = [b"\x01a".as_slice(), b"\x01b\x01a", b"\x01c\x01b\x01a"]
                    .map(|labels| [labels, &SAME_NAME].concat());
                let mut owner = SAME_NAME.to_vec();
                for name in names {
                    record(&mut answer, &owner, CNAME, &name);
                    owner = name;
                }
                address_record(&mut answer, &owner, ip);
            }
            (Reply::Large(_, size), Some(ip)) => {
                let mut left = size;
                while left > 0 {
                    let part = left.min(200);
                    record(&mut answer, &SAME_NAME, RRSIG, &vec![7; part]);
                    left -= part;
                }
                address_record(&mut answer, &SAME_NAME, ip);
                if !tcp && answer.len() > self.edns.unwrap_or(UDP_LIMIT) {
                    answer = self.head(0, true);
                }
            }
            (Reply::Lie(lie), Some(ip)) => self.lie(&mut answer, lie, ip, tcp),
            (_, Some(ip)) => address_record(&mut answer, &SAME_NAME, ip),
            _ => {}
        }
        Some(answer)
    }

    /// The answer to a query for another type. CoreDNS sends such queries to check its upstream.
    pub(super) fn no_records(&self) -> Vec<u8> {
        self.head(0, false)
    }

    /// Header and question, without records.
    fn head(&self, code: u8, truncated: bool) -> Vec<u8> {
        let mut answer = self.query[..2].to_vec();
        answer.extend([0x84 | if truncated { 2 } else { 0 }, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
        answer.extend(&self.query[12..self.end + 4]);
        answer
    }

    fn lie(&self, answer: &mut Vec<u8>, lie: Lie, ip: IpAddr, tcp: bool) {
        let first_record = answer.len();
        match lie {
            Lie::Truncated => answer[2] |= 2,
            Lie::Drip if !tcp => answer[2] |= 2,
            Lie::Short if !tcp => {
                answer[2] |= 2;
                address_record(answer, &SAME_NAME, ip);
            }
            Lie::CnameLoop => record(answer, &SAME_NAME, CNAME, &SAME_NAME),
            Lie::WrongLength => record(answer, &SAME_NAME, 1, &[127, 0, 0, 1, 9]),
            _ => address_record(answer, &SAME_NAME, ip),
        }
        match lie {
            Lie::WrongId | Lie::Flood => answer[0] ^= 0xff,
            Lie::WrongCount => answer[7] = 200,
            Lie::CutOff => answer.truncate(12 + (self.end - 12) / 2),
            Lie::PointerLoop => {
                let here = u8::try_from(first_record).expect("a short name");
                answer[first_record..first_record + 2].copy_from_slice(&[0xc0, here]);
            }
            Lie::PointerPastEnd => answer[first_record..first_record + 2].copy_from_slice(&[0xff, 0xff]),
            // This byte is the length of the data.
            Lie::Overrun => answer[first_record + 10] = 0x40,
            Lie::WrongQuestion => answer[13] ^= 1,
            Lie::Echo => answer.clone_from(&self.query),
            Lie::NoBytes => answer.clear(),
            Lie::Noise => {
                let noise = (0..400_usize).map(|n| u8::try_from((n * n * 31 + n) % 251).unwrap_or_default());
                answer.truncate(2);
                answer.extend(noise);
            }
            Lie::Truncated | Lie::CnameLoop | Lie::WrongLength | Lie::Drip | Lie::Short => {}
        }
    }

    /// Messages that a resolver must not accept as the answer. Each has this address.
    pub(super) fn forgeries(&self, ip: Ipv4Addr) -> Vec<Vec<u8>> {
        let valid = self.answer(Reply::Address(ip), Edns::Understood, false);
        let mut valid = valid.unwrap_or_default();
        if self.family == Some(Family::Aaaa) {
            address_record(&mut valid, &SAME_NAME, ip.to_ipv6_mapped().into());
        }
        let changed = |at: usize, mask: u8| {
            let mut bytes = valid.clone();
            bytes[at] ^= mask;
            bytes
        };
        vec![
            // Another id, not a response, another name, another type, no question.
            changed(1, 1),
            changed(2, 0x80),
            changed(13, 1),
            changed(self.end + 1, 29),
            changed(5, 1),
            vec![],
            valid[..valid.len() - 1].to_vec(),
            vec![0xff; 600],
        ]
    }
}

/// Appends a record of class IN with a TTL of one second, and increments the count of answers.
fn record(answer: &mut Vec<u8>, owner: &[u8], kind: u8, data: &[u8]) {
    answer.extend(owner);
    answer.extend([0, kind, 0, 1, 0, 0, 0, 1]);
    answer.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
    answer.extend(data);
    answer[7] += 1;
}

fn address_record(answer: &mut Vec<u8>, owner: &[u8], ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => record(answer, owner, 1, &ip.octets()),
        IpAddr::V6(ip) => record(answer, owner, 28, &ip.octets()),
    }
}
