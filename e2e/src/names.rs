//! A name server that does as it is told: answers, refuses, lies, truncates or swallows. For programs in a network namespace
//! of their own, since it listens where resolvers ask.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a question gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// This address.
    Address(Ipv4Addr),
    /// The same, but over UDP only that it is too long.
    Truncated(Ipv4Addr),
    /// The name exists, without an address.
    Empty,
    /// There is no such name: NXDOMAIN.
    Absent,
    /// SERVFAIL.
    Failed,
    /// REFUSED.
    Refused,
    /// Nothing.
    Silence,
    /// What is no answer to the question, or none at all.
    Lie(Lie),
}

/// How an answer is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lie {
    /// To another question, by its number.
    Number,
    /// The name is another name for itself.
    Circle,
    /// The name begins where it begins.
    Pointer,
    /// More records are announced than there are.
    Counts,
    /// Half of the question.
    Half,
    /// All that is left out of the message over UDP is left out over TCP too.
    Truncated,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Reply>,
    asked: Vec<String>,
}

/// A running name server, on 127.0.0.1:53. It ends with the process.
#[derive(Clone, Debug)]
pub struct Names(Arc<Mutex<State>>);

impl Names {
    /// Starts it. A name that it was told nothing of is absent.
    ///
    /// # Panics
    /// Where nobody may listen on port 53.
    #[must_use]
    pub fn start() -> Self {
        let names = Self(Arc::new(Mutex::new(State::default())));
        let udp = UdpSocket::bind("127.0.0.1:53").expect("a network namespace of its own");
        let tcp = TcpListener::bind("127.0.0.1:53").expect("a network namespace of its own");
        let known = names.clone();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut question) {
                if let Some(answer) = known.answer(&question[..length], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let known = names.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().map_while(Result::ok) {
                let (mut length, mut question) = ([0; 2], [0; 1500]);
                let read = stream.read_exact(&mut length).is_ok();
                let length = usize::from(u16::from_be_bytes(length)).min(question.len());
                if read
                    && stream.read_exact(&mut question[..length]).is_ok()
                    && let Some(answer) = known.answer(&question[..length], true)
                {
                    let length = u16::try_from(answer.len()).expect("short answers");
                    let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat());
                }
            }
        });
        names
    }

    /// What a name gets from now on.
    pub fn set(&self, name: &str, reply: Reply) {
        self.state().names.insert(name.to_owned(), reply);
    }

    /// Every name that was asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// RFC 1035 §4: the header, the question again, and perhaps one A record.
    fn answer(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (name, end) = name(question)?;
        let kind = question.get(end..end + 2)?;
        let reply = {
            let mut state = self.state();
            state.asked.push(name.clone());
            state.names.get(&name).copied().unwrap_or(Reply::Absent)
        };
        let (code, address, truncated) = match reply {
            Reply::Silence => return None,
            Reply::Address(address) => (0, Some(address), false),
            Reply::Truncated(address) => (0, tcp.then_some(address), !tcp),
            Reply::Empty => (0, None, false),
            Reply::Failed => (2, None, false),
            Reply::Absent => (3, None, false),
            Reply::Refused => (5, None, false),
            Reply::Lie(Lie::Truncated) => (0, None, true),
            Reply::Lie(_) => (0, Some(Ipv4Addr::LOCALHOST), false),
        };
        // Of addresses only those of version 4 are known here.
        let address = address.filter(|_| kind == [0, 1] || matches!(reply, Reply::Lie(_)));
        let mut answer = question.get(..2)?.to_vec();
        answer.extend([0x84 | if truncated { 2 } else { 0 }, 0x80 | code]);
        answer.extend([0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
        answer.extend(question.get(12..end + 4)?);
        if let Some(address) = address {
            // A pointer to the name, type A, class IN, one second to live, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address.octets());
        }
        match reply {
            Reply::Lie(Lie::Number) => answer[0] ^= 0xff,
            Reply::Lie(Lie::Counts) => answer[7] = 200,
            Reply::Lie(Lie::Half) => answer.truncate(12 + (end - 12) / 2),
            Reply::Lie(Lie::Circle) => {
                // CNAME, and as its name a pointer to the question's.
                answer.truncate(end + 4);
                answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
            }
            Reply::Lie(Lie::Pointer) => {
                let here = u8::try_from(end + 4).ok()?;
                answer[end + 4..end + 6].copy_from_slice(&[0xc0, here]);
            }
            _ => {}
        }
        Some(answer)
    }
}

/// The name of the first question, and where its type begins.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, vec![]);
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join(".").to_lowercase(), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).into_owned());
        at += length;
    }
}
