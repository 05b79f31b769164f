//! Lookups against fake name servers on loopback.

mod servers;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use super::*;

/// Returns the answers of a fake server to a query: its name, its family, whether it came over TCP,
/// and its bytes up to the end of the question.
type Handler = fn(&str, Family, bool, &[u8]) -> Vec<Vec<u8>>;

struct Server {
    address: SocketAddr,
    /// One line per query, as `dex.example A TCP EDNS`.
    queries: Arc<Mutex<Vec<String>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Server {
    async fn start(handler: Handler) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let queries: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&queries);
        let over_udp = tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = udp.recv_from(&mut query).await.unwrap();
                for answer in answers(handler, &query[..length], false, &noted) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let noted = Arc::clone(&queries);
        let over_tcp = tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let Ok(length) = stream.read_u16().await else { continue };
                let mut query = vec![0; usize::from(length)];
                if stream.read_exact(&mut query).await.is_err() {
                    continue;
                }
                for answer in answers(handler, &query, true, &noted) {
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    let _ = stream.write_all(&[&length, &answer[..]].concat()).await;
                }
            }
        });
        Self { address, queries, tasks: [over_udp, over_tcp] }
    }

    fn queries(&self) -> Vec<String> {
        self.queries.lock().unwrap().clone()
    }
}

fn answers(handler: Handler, query: &[u8], tcp: bool, queries: &Mutex<Vec<String>>) -> Vec<Vec<u8>> {
    let (mut name, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        name.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + label.len();
    }
    let name = name.join(".");
    let family = if query[at + 2] == 1 { Family::V4 } else { Family::V6 };
    let edns = if query[11] > 0 { " EDNS" } else { "" };
    queries.lock().unwrap().push(format!("{name} {family}{}{edns}", if tcp { " TCP" } else { "" }));
    handler(&name, family, tcp, &query[..at + 5])
}

/// An answer to the question with this response code and, if `last` is set, one address:
/// 127.0.0.`last` for A, fd00::`last` for AAAA.
fn reply(question: &[u8], code: u8, last: Option<u8>) -> Vec<u8> {
    let mut answer =
        [&question[..2], &[0x81, 0x80 | code, 0, 1, 0, u8::from(last.is_some()), 0, 0, 0, 0]].concat();
    answer.extend(&question[12..]);
    if let Some(last) = last {
        let kind = question[question.len() - 3];
        let data: Vec<u8> =
            if kind == 1 { vec![127, 0, 0, last] } else { [&[0xfd][..], &[0; 14], &[last]].concat() };
        answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1, 0, u8::try_from(data.len()).unwrap()]);
        answer.extend(data);
    }
    answer
}

async fn resolve(text: &str, servers: &[&Server], host: &str) -> Result<BTreeSet<String>, NotFound> {
    let mut conf = ResolvConf::parse(text.as_bytes(), "");
    conf.servers = servers.iter().map(|server| server.address).collect();
    let found = look_up_in(b"", conf, host, 7, &|_| {}).await?;
    Ok(found.addresses.iter().map(|address| address.ip().to_string()).collect())
}

fn only(ip: &str) -> Result<BTreeSet<String>, NotFound> {
    Ok([ip.to_owned()].into())
}

const ONE_SECOND: &str = "options timeout:1 attempts:1";

#[tokio::test]
async fn f124_an_error_for_one_family_does_not_affect_the_other() {
    for handler in [
        |_: &str, family: Family, _: bool, question: &[u8]| match family {
            Family::V4 => vec![reply(question, 0, Some(7))],
            Family::V6 => vec![reply(question, 3, None)],
        },
        |_, family, _, question| {
            vec![reply(
                question,
                if family == Family::V4 { 0 } else { 2 },
                Some(7).filter(|_| family == Family::V4),
            )]
        },
        |_, family, _, question| {
            vec![reply(
                question,
                if family == Family::V4 { 0 } else { 5 },
                Some(7).filter(|_| family == Family::V4),
            )]
        },
        |_, family, _, question| {
            vec![reply(
                question,
                if family == Family::V4 { 0 } else { 4 },
                Some(7).filter(|_| family == Family::V4),
            )]
        },
        |_, family, _, question| {
            vec![reply(
                question,
                if family == Family::V4 { 0 } else { 1 },
                Some(7).filter(|_| family == Family::V4),
            )]
        },
        |_, family, _, question| match family {
            Family::V4 => vec![reply(question, 0, Some(7))],
            Family::V6 => vec![vec![1, 2, 3]],
        },
    ] as [Handler; 6]
    {
        let server = Server::start(handler).await;
        for options in [ONE_SECOND, "options timeout:1 attempts:2 single-request"] {
            assert_eq!(resolve(options, &[&server], "dex.example").await, only("127.0.0.7"));
        }
    }
    let server = Server::start(|_, family, _, question| match family {
        Family::V4 => vec![reply(question, 2, None)],
        Family::V6 => vec![reply(question, 0, Some(7))],
    })
    .await;
    assert_eq!(resolve(ONE_SECOND, &[&server], "dex.example").await, only("fd00::7"));
}

#[tokio::test]
async fn f125_a_lost_aaaa_answer_does_not_cost_the_query_timeout() {
    let server = Server::start(|_, family, _, question| match family {
        Family::V4 => vec![reply(question, 0, Some(7))],
        Family::V6 => vec![],
    })
    .await;
    // The query timeouts add up to 150 s.
    assert_eq!(
        timeout(Duration::from_secs(20), resolve("options timeout:30 attempts:5", &[&server], "dex.example"))
            .await
            .unwrap(),
        only("127.0.0.7")
    );
    // After NXDOMAIN for A, the next candidate is tried although AAAA was not answered.
    let server = Server::start(|name, family, _, question| match (name, family) {
        ("dex.b", Family::V4) => vec![reply(question, 0, Some(7))],
        (_, Family::V4) => vec![reply(question, 3, None)],
        _ => vec![],
    })
    .await;
    assert_eq!(
        timeout(
            Duration::from_secs(20),
            resolve("search a b\noptions timeout:30 attempts:5", &[&server], "dex")
        )
        .await
        .unwrap(),
        only("127.0.0.7")
    );
}

#[tokio::test]
async fn ipv4_mapped_addresses_count_as_ipv4() {
    let server = Server::start(|_, family, _, question| {
        let mut answer = reply(question, 0, Some(7).filter(|_| family == Family::V6));
        if family == Family::V6 {
            let end = answer.len();
            answer[end - 16..].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 7]);
        }
        vec![answer]
    })
    .await;
    assert_eq!(resolve(ONE_SECOND, &[&server], "dex.example").await, only("127.0.0.7"));
}

#[tokio::test]
async fn f130_tcp_is_used_when_udp_fails() {
    let tcp_only: Handler =
        |_, _, tcp, question| if tcp { vec![reply(question, 0, Some(7))] } else { vec![] };
    let server = Server::start(tcp_only).await;
    assert!(resolve("options use-vc", &[&server], "dex.example").await.is_ok());
    assert!(server.queries().iter().all(|query| query.contains("TCP")));
    // After a UDP timeout the second attempt uses TCP as well.
    assert!(resolve("options timeout:1", &[&server], "dex.example").await.is_ok());
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let free = UdpSocket::bind(address).await;
        if free.is_ok() {
            break (address, tcp);
        }
    };
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            for answer in answers(tcp_only, &query, true, &Mutex::default()) {
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length, &answer[..]].concat()).await.unwrap();
            }
        }
    });
    let mut conf = ResolvConf::parse(ONE_SECOND.as_bytes(), "");
    conf.servers = vec![udp];
    assert!(look_up_in(b"", conf, "dex.example", 7, &|_| {}).await.is_ok(), "the UDP port is closed");
    serving.abort();
}

#[tokio::test]
async fn f131_a_truncated_answer_is_retried_over_tcp_or_used_as_it_is() {
    let truncated: Handler = |_, _, tcp, question| {
        let mut answer = reply(question, 0, Some(if tcp { 8 } else { 7 }));
        answer[2] |= if tcp { 0 } else { 2 };
        vec![answer]
    };
    let server = Server::start(truncated).await;
    let found = resolve(ONE_SECOND, &[&server], "dex.example").await.unwrap();
    assert_eq!(found, ["127.0.0.8".to_owned(), "fd00::8".to_owned()].into());
    let broken_tcp: Handler = |_, _, tcp, question| {
        let mut answer = reply(question, 0, Some(7));
        answer[2] |= 2;
        if tcp { vec![vec![0; 20]] } else { vec![answer] }
    };
    let server = Server::start(broken_tcp).await;
    let found = resolve(ONE_SECOND, &[&server], "dex.example").await.unwrap();
    assert_eq!(found, ["127.0.0.7".to_owned(), "fd00::7".to_owned()].into());
    let empty: Handler = |_, _, tcp, question| {
        let mut answer = reply(question, 0, None);
        answer[2] |= 2;
        if tcp { vec![vec![0; 20]] } else { vec![answer] }
    };
    let failed = resolve(ONE_SECOND, &[&Server::start(empty).await], "dex.example").await.unwrap_err();
    assert!(failed.detail.contains("truncated answer, then over TCP: malformed answer"), "{failed}");
}

#[tokio::test]
async fn f131_a_server_without_edns_is_queried_without_it() {
    let server = Server::start(|_, _, _, question| vec![reply(question, 0, Some(7))]).await;
    resolve(ONE_SECOND, &[&server], "dex.example").await.unwrap();
    assert!(server.queries().iter().all(|query| query.ends_with(" EDNS")));
    for handler in [
        |_: &str, _: Family, _: bool, query: &[u8]| {
            vec![if query[11] > 0 { reply(query, 1, None) } else { reply(query, 0, Some(7)) }]
        },
        |_, _, _, query| vec![if query[11] > 0 { reply(query, 4, None) } else { reply(query, 0, Some(7)) }],
        // A header without a question.
        |_, _, _, query| {
            let header_only = [&query[..2], &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
            vec![if query[11] > 0 { header_only } else { reply(query, 0, Some(7)) }]
        },
    ] as [Handler; 3]
    {
        let server = Server::start(handler).await;
        assert_eq!(resolve(ONE_SECOND, &[&server], "dex.example").await.unwrap().len(), 2);
        assert_eq!(server.queries().len(), 4, "each family twice: {:?}", server.queries());
    }
}

#[tokio::test]
async fn f133_forged_answers_are_ignored_until_the_real_one_arrives() {
    let server = Server::start(|_, _, _, question| {
        let real = reply(question, 0, Some(7));
        let forged = |at: usize, to: u8| {
            let mut bytes = reply(question, 0, Some(66));
            bytes[at] = to;
            bytes
        };
        let id = question[1].wrapping_add(1);
        vec![forged(1, id), vec![], vec![0; 600], forged(13, b'x'), forged(5, 2), real]
    })
    .await;
    let found = resolve(ONE_SECOND, &[&server], "dex.example").await.unwrap();
    assert_eq!(found, ["127.0.0.7".to_owned(), "fd00::7".to_owned()].into());
}

/// The number of datagrams is bounded, not only the time: a flood must not keep a CPU busy for a
/// whole timeout.
#[tokio::test]
async fn f133_a_flood_of_forged_answers_ends_the_query() {
    let server = Server::start(|_, _, _, question| {
        let mut forged = reply(question, 0, Some(66));
        forged[0] ^= 0xff;
        vec![forged; 5_000]
    })
    .await;
    let failed = timeout(
        Duration::from_secs(20),
        resolve("options timeout:30 attempts:1 no-aaaa", &[&server], "dex.example"),
    )
    .await
    .unwrap()
    .unwrap_err();
    assert!(failed.detail.contains("malformed answer"), "{failed}");
}

#[tokio::test]
async fn the_no_aaaa_option_suppresses_aaaa_queries() {
    let server = Server::start(|_, _, _, question| vec![reply(question, 0, Some(7))]).await;
    assert_eq!(resolve("options no-aaaa", &[&server], "dex.example").await, only("127.0.0.7"));
    assert_eq!(server.queries(), ["dex.example A EDNS"]);
}

#[tokio::test]
async fn onion_and_invalid_names_are_not_queried() {
    let server = Server::start(|_, _, _, question| vec![reply(question, 0, Some(7))]).await;
    for name in ["dex.onion", "DEX.ONION.", "127.1", "a..b", &"x".repeat(64)] {
        let absent = resolve(ONE_SECOND, &[&server], name).await.unwrap_err();
        assert!(absent.is_absent, "{absent}");
    }
    assert!(server.queries().is_empty());
}

#[tokio::test]
async fn f127_hosts_entries_take_precedence_over_dns() {
    let server = Server::start(|_, _, _, question| vec![reply(question, 0, Some(7))]).await;
    let mut conf = ResolvConf::parse(b"", "");
    conf.servers = vec![server.address];
    let found = look_up_in(b"10.0.0.9 dex.example", conf, "DEX.example.", 7, &|_| {}).await.unwrap();
    assert_eq!((found.addresses, found.source), (vec!["10.0.0.9:7".parse().unwrap()], AnsweredBy::Hosts));
    assert!(server.queries().is_empty());
}

#[test]
fn ipv6_addresses_may_have_a_zone() {
    assert_eq!(address("10.0.0.1", 7), Some("10.0.0.1:7".parse().unwrap()));
    assert_eq!(address("fe80::1%1", 7), Some("[fe80::1%1]:7".parse().unwrap()));
    assert_eq!(address("fe80::1%lo", 7), Some("[fe80::1%1]:7".parse().unwrap()));
    for wrong in ["", "127.1", "10.0.0.1%lo", "fe80::1%", "fe80::1%..", "fe80::1%../lo", "fe80::1%nosuch"] {
        assert_eq!(address(wrong, 7), None, "{wrong}");
    }
}
