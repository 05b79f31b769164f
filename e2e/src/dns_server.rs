//! A fake DNS server on port 53 of several loopback addresses, for tests in their own network
//! namespace. The reply is set for each name, family and server: an answer, an error, nothing, or a
//! late, truncated or malformed message.

mod message;
mod rule;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use message::Question;
pub use rule::{Edns, Family, Lie, Reply, Rule, Transport};

/// A server over UDP and TCP.
pub const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// A second server over UDP and TCP.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// A third server over UDP and TCP.
pub const THIRD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// A server over TCP only: its UDP port is closed.
pub const TCP_ONLY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
/// A server over UDP only: its TCP port is closed.
pub const UDP_ONLY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
/// An address without a server: both ports are closed.
pub const CLOSED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// The address in forged answers, and their source address if that is forged too.
pub const FORGED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// The number of datagrams of a flood; more than any resolver should read.
const FLOOD_DATAGRAMS: usize = 20_000;
/// The longest time over which a TCP message is sent byte by byte.
const LONGEST_DRIP: Duration = Duration::from_secs(60);

/// A query that was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// The server that received it.
    pub server: Ipv4Addr,
    /// The name, in lower case, without a final dot.
    pub name: String,
    /// The address family that it asks for.
    pub family: Family,
    /// True over TCP, false over UDP.
    pub tcp: bool,
    /// True with an OPT record (EDNS0).
    pub edns: bool,
}

/// A name, a server and a family for which a rule is set. `None` means every server or both
/// families.
type Key = (String, Option<Ipv4Addr>, Option<Family>);

#[derive(Debug, Default)]
struct State {
    /// Each rule, with the number of queries that it has matched.
    rules: BTreeMap<Key, (Rule, usize)>,
    queries: Vec<Query>,
}

/// A running DNS server. It stops when the process exits.
#[derive(Clone, Debug)]
pub struct DnsServer(Arc<Mutex<State>>);

impl DnsServer {
    /// Starts it on all its addresses. A name without a rule does not exist.
    ///
    /// # Panics
    /// If the process may not listen on port 53.
    #[must_use]
    pub fn start() -> Self {
        let server = Self(Arc::default());
        for address in [FIRST, SECOND, THIRD, UDP_ONLY] {
            let udp = UdpSocket::bind((address, 53)).expect("this process has its own network namespace");
            let known = server.clone();
            std::thread::spawn(move || known.serve_udp(address, &udp));
        }
        for address in [FIRST, SECOND, THIRD, TCP_ONLY] {
            let tcp = TcpListener::bind((address, 53)).expect("this process has its own network namespace");
            let known = server.clone();
            std::thread::spawn(move || {
                for stream in tcp.incoming().map_while(Result::ok) {
                    let known = known.clone();
                    std::thread::spawn(move || known.serve_tcp(address, stream));
                }
            });
        }
        server
    }

    /// Sets the reply of all servers for a name and both families. Earlier rules for the name are
    /// removed.
    pub fn set(&self, name: &str, rule: impl Into<Rule>) {
        let mut state = self.state();
        state.rules.retain(|(set, _, _), _| set != name);
        state.rules.insert((name.to_owned(), None, None), (rule.into(), 0));
    }

    /// Sets the reply of all servers for a name and one family.
    pub fn set_family(&self, name: &str, family: Family, rule: impl Into<Rule>) {
        self.state().rules.insert((name.to_owned(), None, Some(family)), (rule.into(), 0));
    }

    /// Sets the reply of one server for a name and both families.
    pub fn set_at(&self, server: Ipv4Addr, name: &str, rule: impl Into<Rule>) {
        self.state().rules.insert((name.to_owned(), Some(server), None), (rule.into(), 0));
    }

    /// The names of all queries, in order.
    #[must_use]
    pub fn queried_names(&self) -> Vec<String> {
        self.state().queries.iter().map(|query| query.name.clone()).collect()
    }

    /// The queries for names with this prefix, in order.
    #[must_use]
    pub fn queries(&self, prefix: &str) -> Vec<Query> {
        self.state().queries.iter().filter(|query| query.name.starts_with(prefix)).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_udp(&self, address: Ipv4Addr, socket: &UdpSocket) {
        let mut query = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let Some(question) = Question::parse(&query[..length]) else { continue };
            if question.family.is_none() {
                let _ = socket.send_to(&question.no_records(), from);
                continue;
            }
            let Some(rule) = self.rule(address, &question, false) else { continue };
            let socket = socket.try_clone().expect("a socket can be cloned");
            if rule.delay.is_zero() && rule.reply != Reply::Lie(Lie::Flood) {
                answer_udp(&socket, from, &question, rule);
            } else {
                std::thread::spawn(move || {
                    std::thread::sleep(rule.delay);
                    answer_udp(&socket, from, &question, rule);
                });
            }
        }
    }

    /// Serves one query, since the resolvers under test send one per connection.
    fn serve_tcp(&self, address: Ipv4Addr, mut stream: TcpStream) {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let Some(question) = Question::parse(&query) else { return };
        let rule = self.rule(address, &question, true);
        let Some(rule) = rule.filter(|rule| rule.reply != Reply::Silence) else {
            // The connection stays open and silent until the client closes it.
            let _ = stream.read(&mut [0; 1]);
            return;
        };
        std::thread::sleep(rule.delay);
        answer_tcp(&mut stream, &question, rule);
    }

    /// The rule for this query; nothing if the query is lost.
    fn rule(&self, server: Ipv4Addr, question: &Question, tcp: bool) -> Option<Rule> {
        let family = question.family?;
        let name = question.name.clone();
        let mut state = self.state();
        state.queries.push(Query { server, name: name.clone(), family, tcp, edns: question.edns.is_some() });
        let keys = [(Some(server), Some(family)), (Some(server), None), (None, Some(family)), (None, None)];
        let key = keys.map(|(server, family)| (name.clone(), server, family));
        let key = key.iter().find(|key| state.rules.contains_key(key));
        let (rule, seen) = match key.and_then(|key| state.rules.get_mut(key)) {
            Some((rule, seen)) => {
                *seen += 1;
                (*rule, *seen)
            }
            None => (Reply::Absent.into(), 1),
        };
        drop(state);
        let is_served = match rule.transport {
            Transport::Both => true,
            Transport::Tcp => tcp,
            Transport::Udp => !tcp,
        };
        let is_lost = seen <= rule.lost || question.edns.is_some() && rule.edns == Edns::Lost;
        (is_served && !is_lost).then_some(rule)
    }
}

fn answer_udp(socket: &UdpSocket, from: SocketAddr, question: &Question, rule: Rule) {
    if rule.forged {
        for forged in question.forgeries(FORGED) {
            let _ = socket.send_to(&forged, from);
        }
        let well_formed = question.answer(Reply::Address(FORGED), rule.edns, false);
        for source in [FIRST, FORGED] {
            let other = UdpSocket::bind((source, 0)).expect("a free port");
            if let Some(bytes) = &well_formed {
                let _ = other.send_to(bytes, from);
            }
        }
    }
    let Some(answer) = question.answer(rule.reply, rule.edns, false) else { return };
    let times = if rule.reply == Reply::Lie(Lie::Flood) { FLOOD_DATAGRAMS } else { 1 };
    for _ in 0..times {
        if socket.send_to(&answer, from).is_err() {
            return;
        }
    }
}

fn answer_tcp(stream: &mut TcpStream, question: &Question, rule: Rule) {
    let Some(answer) = question.answer(rule.reply, rule.edns, true) else { return };
    let mut send = |length: usize, bytes: &[u8]| {
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length, bytes].concat())
    };
    let _ = match rule.reply {
        Reply::Lie(Lie::Flood) => {
            while send(usize::MAX, &[0; 4096]).is_ok() {}
            Ok(())
        }
        Reply::Lie(Lie::Short) => send(answer.len() + 100, &answer),
        Reply::Lie(Lie::Drip) => {
            let mut sent = send(1_000, &[]);
            for _ in 0..LONGEST_DRIP.as_millis() / 100 {
                sent = sent.and_then(|()| stream.write_all(&[0]));
                std::thread::sleep(Duration::from_millis(100));
            }
            sent
        }
        _ => send(answer.len(), &answer),
    };
}
