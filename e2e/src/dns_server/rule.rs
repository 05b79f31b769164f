//! The rules of the fake DNS server: which reply a query gets, when and over which transport.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The address family that a query asks for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4: type A.
    A,
    /// IPv6: type AAAA.
    Aaaa,
}

/// The reply to a query. For a family without an address it has no records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// An IPv4 address.
    Address(Ipv4Addr),
    /// An IPv6 address.
    AddressV6(Ipv6Addr),
    /// One address of each family.
    Both(Ipv4Addr, Ipv6Addr),
    /// An IPv4 address at the end of three CNAME records.
    Alias(Ipv4Addr),
    /// An IPv4 address after other records with this number of bytes. Over UDP it is truncated if
    /// the client does not announce that size.
    Large(Ipv4Addr, usize),
    /// An IPv4 address. Over UDP the answer is truncated and has no records.
    Truncated(Ipv4Addr),
    /// NOERROR without records: the name exists and has no address.
    Empty,
    /// NXDOMAIN.
    Absent,
    /// SERVFAIL.
    Failed,
    /// REFUSED.
    Refused,
    /// Another response code.
    Code(u8),
    /// A lame delegation: NOERROR without records, from a server that is not authoritative and does
    /// not recurse.
    Lame,
    /// No reply.
    Silence,
    /// A malformed or contradictory message, or one that does not answer the query.
    Lie(Lie),
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lie {
    /// Another message id.
    WrongId,
    /// A CNAME that points to itself.
    CnameLoop,
    /// A compressed name that points to itself.
    PointerLoop,
    /// The header announces more records than the message has.
    WrongCount,
    /// The message ends in the middle of the question.
    CutOff,
    /// Truncated over UDP and over TCP.
    Truncated,
    /// The answer to another question.
    WrongQuestion,
    /// The query itself.
    Echo,
    /// A message without bytes.
    NoBytes,
    /// The right id, followed by noise.
    Noise,
    /// An A record of five bytes.
    WrongLength,
    /// A record with more data than the message has.
    Overrun,
    /// A compressed name that points past the end of the message.
    PointerPastEnd,
    /// Endless messages with another id over UDP; endless bytes over TCP.
    Flood,
    /// Truncated over UDP. Over TCP it announces 1,000 bytes and sends ten per second.
    Drip,
    /// The address is in a truncated message over UDP. Over TCP more bytes are announced than sent.
    Short,
}

/// The transport over which queries get a reply. Over the other one they get none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transport {
    /// UDP and TCP.
    #[default]
    Both,
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
}

/// The reply to a query with an OPT record (EDNS0).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Edns {
    /// The usual reply.
    #[default]
    Understood,
    /// A response code: FORMERR is 1, NOTIMP is 4.
    Code(u8),
    /// FORMERR with a header only.
    HeaderOnly,
    /// No reply.
    Lost,
}

/// A reply, with its delay and its transport.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The reply.
    pub reply: Reply,
    /// The delay before it is sent.
    pub delay: Duration,
    /// The transport over which it is sent.
    pub transport: Transport,
    /// The reply to queries with EDNS0.
    pub edns: Edns,
    /// The number of first queries that get no reply.
    pub lost: usize,
    /// Over UDP, forged answers with the address [`super::FORGED`] are sent before it, from several
    /// sources.
    pub forged: bool,
}

impl From<Reply> for Rule {
    fn from(reply: Reply) -> Self {
        Self {
            reply,
            delay: Duration::ZERO,
            transport: Transport::Both,
            edns: Edns::Understood,
            lost: 0,
            forged: false,
        }
    }
}

impl Rule {
    /// Sets the delay.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Sets the transport.
    #[must_use]
    pub const fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// Sets the reply to queries with EDNS0.
    #[must_use]
    pub const fn edns(self, edns: Edns) -> Self {
        Self { edns, ..self }
    }

    /// Sets the number of first queries that get no reply.
    #[must_use]
    pub const fn lost(self, lost: usize) -> Self {
        Self { lost, ..self }
    }

    /// Sends forged answers before it.
    #[must_use]
    pub const fn forged(self) -> Self {
        Self { forged: true, ..self }
    }
}

impl Reply {
    /// Its address of a family.
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
