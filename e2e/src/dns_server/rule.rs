//! What queries get: a reply, and how it is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The kind of address that a query asks for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// A.
    A,
    /// AAAA.
    Aaaa,
}

/// What a query gets. A query for a family without an address gets an answer without records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// This address.
    Address(Ipv4Addr),
    /// This address.
    AddressV6(Ipv6Addr),
    /// One address of each family.
    Both(Ipv4Addr, Ipv6Addr),
    /// This address, at the end of three CNAME records.
    Alias(Ipv4Addr),
    /// This address, behind other records of so many bytes. Truncated over UDP where the client did not announce the size.
    Large(Ipv4Addr, usize),
    /// This address. Over UDP the answer is truncated and has no records.
    Truncated(Ipv4Addr),
    /// The name exists, without an address.
    Empty,
    /// NXDOMAIN.
    Absent,
    /// SERVFAIL.
    Failed,
    /// REFUSED.
    Refused,
    /// This response code.
    Code(u8),
    /// A referral by a server that does no recursion: no error, no records.
    Lame,
    /// Nothing.
    Silence,
    /// A malformed or contradictory message, or something that is no answer to the query.
    Lie(Lie),
}

/// How a message is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lie {
    /// Another id.
    Number,
    /// A CNAME that points to itself.
    Circle,
    /// A compressed name that points to itself.
    Pointer,
    /// More records are announced than there are.
    Counts,
    /// It ends in the middle of the question.
    Half,
    /// Truncated over UDP and over TCP.
    Truncated,
    /// The answer to another question.
    Question,
    /// The query itself.
    Echo,
    /// No byte.
    Nothing,
    /// The id, and noise behind it.
    Noise,
    /// An A record of five bytes.
    Length,
    /// A record that is longer than the message.
    Overrun,
    /// A compressed name that points behind the end.
    Beyond,
    /// Messages with another id without end; over TCP bytes without end.
    Flood,
    /// Truncated over UDP; over TCP it announces 1,000 bytes and sends ten a second.
    Drip,
    /// The address comes truncated over UDP; over TCP more is announced than sent.
    Short,
}

/// Over which transport queries get a reply. Others get nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Over {
    /// UDP and TCP.
    #[default]
    Both,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a query with an OPT record (EDNS0) gets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Edns {
    /// The reply.
    #[default]
    Understood,
    /// This response code: FORMERR is 1, NOTIMP is 4.
    Code(u8),
    /// FORMERR with a header and nothing else.
    HeaderOnly,
    /// Nothing.
    Lost,
}

/// A reply, and how it is given.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The reply.
    pub reply: Reply,
    /// How long it takes.
    pub delay: Duration,
    /// The transport.
    pub over: Over,
    /// EDNS0.
    pub edns: Edns,
    /// So many first queries get nothing.
    pub lost: usize,
    /// Forged answers with the address [`super::FORGED`] are sent before it over UDP, from several sources.
    pub forged: bool,
}

impl From<Reply> for Rule {
    fn from(reply: Reply) -> Self {
        Self {
            reply,
            delay: Duration::ZERO,
            over: Over::Both,
            edns: Edns::Understood,
            lost: 0,
            forged: false,
        }
    }
}

impl Rule {
    /// The same, so late.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same, over this transport only.
    #[must_use]
    pub const fn over(self, over: Over) -> Self {
        Self { over, ..self }
    }

    /// The same, with this for queries with EDNS0.
    #[must_use]
    pub const fn edns(self, edns: Edns) -> Self {
        Self { edns, ..self }
    }

    /// The same, after so many queries that get nothing.
    #[must_use]
    pub const fn lost(self, lost: usize) -> Self {
        Self { lost, ..self }
    }

    /// The same, behind forged answers.
    #[must_use]
    pub const fn forged(self) -> Self {
        Self { forged: true, ..self }
    }
}

impl Reply {
    /// The address that it has for a family.
    pub(super) fn address(self, family: Family) -> Option<IpAddr> {
        match (self, family) {
            (
                Self::Address(ip)
                | Self::Both(ip, _)
                | Self::Alias(ip)
                | Self::Large(ip, _)
                | Self::Truncated(ip),
                Family::A,
            ) => Some(ip.into()),
            (Self::AddressV6(ip) | Self::Both(_, ip), Family::Aaaa) => Some(ip.into()),
            (Self::Lie(_), Family::A) => Some(Ipv4Addr::LOCALHOST.into()),
            (Self::Lie(_), Family::Aaaa) => Some(Ipv6Addr::LOCALHOST.into()),
            _ => None,
        }
    }
}
