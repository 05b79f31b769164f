//! DNS messages (RFC 1035 §4, RFC 6891): a query for the addresses of a name, and what an answer to it means. The bytes
//! are parsed by [`domain`]; which answers count, and for what, is Go's policy (net/dnsclient_unix.go).

use std::fmt;
use std::net::IpAddr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::dep::octseq::array::Array;
use domain::rdata::{A, Aaaa};

/// What we can take over UDP, in bytes (the value of DNS flag day 2020, and Go's).
const UDP_SIZE: u16 = 1232;
/// No more addresses of one name are used: as many A records as fit into an answer of [`UDP_SIZE`].
const MOST_ADDRESSES: usize = 75;
/// The longest query: header, name, question, OPT record.
type QueryBytes = Array<300>;

/// The kind of address that is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl Family {
    const fn record_type(self) -> Rtype {
        match self {
            Self::V4 => Rtype::A,
            Self::V6 => Rtype::AAAA,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "A",
            Self::V6 => "AAAA",
        })
    }
}

/// A domain name as messages carry it.
pub(super) struct DomainName(Name<Array<255>>);

impl DomainName {
    /// Reads a name of letters, digits, `-` and `_` in labels of at most 63 bytes, 253 bytes in all, that is no number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.is_empty() || is_number || !text.chars().all(allowed) {
            return None;
        }
        Name::from_chars(text.chars()).ok().map(Self)
    }
}

/// One query, ready to be sent.
pub(super) struct Query(Message<QueryBytes>);

/// What an answer means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    /// The addresses of the name, at least one.
    Addresses(Vec<IpAddr>),
    /// The name exists, without an address of this family.
    NoAddress,
    /// NXDOMAIN.
    NoSuchName,
    /// The answer was too long for UDP; these addresses of it came through.
    Truncated(Vec<IpAddr>),
    /// The server does not understand the query: FORMERR, NOTIMP or BADVERS.
    NotUnderstood(Error),
    /// The server is in trouble, or does not do this for us: SERVFAIL, REFUSED and others.
    Failed(Error),
}

/// A response code, or an answer that means as much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Error {
    /// This code (RFC 1035 §4.1.1, RFC 6891 §9).
    Rcode(u16),
    /// A referral to other servers by one that does no recursion.
    LameReferral,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rcode(1) => f.write_str("FORMERR"),
            Self::Rcode(2) => f.write_str("SERVFAIL"),
            Self::Rcode(4) => f.write_str("NOTIMP"),
            Self::Rcode(5) => f.write_str("REFUSED"),
            Self::Rcode(16) => f.write_str("BADVERS"),
            Self::Rcode(code) => write!(f, "response code {code}"),
            Self::LameReferral => f.write_str("it does not resolve names for clients"),
        }
    }
}

impl Query {
    /// A query with recursion desired. `edns` announces that more than 512 bytes can be taken over UDP.
    pub(super) fn new(name: &DomainName, family: Family, id: u16, edns: bool, ad: bool) -> Option<Self> {
        let mut builder = MessageBuilder::from_target(QueryBytes::default()).ok()?;
        let header = builder.header_mut();
        header.set_id(id);
        header.set_rd(true);
        header.set_ad(ad);
        let mut question = builder.question();
        question.push((&name.0, family.record_type(), Class::IN)).ok()?;
        let mut additional = question.additional();
        if edns {
            additional
                .opt(|opt| {
                    opt.set_udp_payload_size(UDP_SIZE);
                    Ok(())
                })
                .ok()?;
        }
        Some(Self(additional.into_message()))
    }

    /// As it goes over UDP.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// What these bytes answer; nothing if they are no answer to this query, or cannot be parsed and bring no address: both
    /// count as forged.
    pub(super) fn answered_by(&self, bytes: &[u8]) -> Option<Reply> {
        let message = Message::from_octets(bytes).ok()?;
        let header = message.header();
        let header_only = message.header_counts().qdcount() == 0
            && header.qr()
            && header.id() == self.0.header().id()
            && header.rcode() == Rcode::FORMERR;
        if header_only {
            // Old servers that do not know EDNS say no more than this.
            return Some(Reply::NotUnderstood(Error::Rcode(1)));
        }
        if !message.is_answer(&self.0) {
            return None;
        }
        let family = Family::of(self.0.sole_question().ok()?.qtype())?;
        // Addresses count as far as they can be read, whatever stands behind them, as for Go. Without any the answer as a
        // whole must be well-formed.
        let (addresses, records) = match addresses(&message, family) {
            Ok(read) => read,
            Err(partial) if header.tc() || !partial.is_empty() => (partial, 1),
            Err(_) => return None,
        };
        if header.tc() {
            return Some(Reply::Truncated(addresses));
        }
        let additional = message.additional().map_or(0, Iterator::count);
        match message.opt_rcode().to_int() {
            0 if !addresses.is_empty() => Some(Reply::Addresses(addresses)),
            0 if records == 0 && !header.aa() && !header.ra() && additional == 0 => {
                Some(Reply::Failed(Error::LameReferral))
            }
            0 => Some(Reply::NoAddress),
            3 => Some(Reply::NoSuchName),
            code @ (1 | 4 | 16) => Some(Reply::NotUnderstood(Error::Rcode(code))),
            code => Some(Reply::Failed(Error::Rcode(code))),
        }
    }
}

impl Family {
    fn of(kind: Rtype) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.record_type() == kind)
    }
}

/// The addresses in the answer section, and how many records there are. Owners and classes are not compared: a server
/// that resolves for us puts aliases and their addresses there (RFC 1034 §4.3.1), and Go takes them all. Without a record
/// of the family that was asked for there is none.
///
/// # Errors
/// A record that cannot be parsed: with the addresses of this family before it.
fn addresses(message: &Message<&[u8]>, family: Family) -> Result<(Vec<IpAddr>, usize), Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = Vec::new();
    let (mut records, mut of_family) = (0, false);
    for record in message.answer().map_err(|_| Vec::new())? {
        let Ok(record) = record else { return Err(of_family_only(found, of_family)) };
        records += 1;
        let address: IpAddr = match record.rtype() {
            Rtype::A => match record.to_record::<A>() {
                Ok(Some(record)) => record.data().addr().into(),
                _ => return Err(of_family_only(found, of_family)),
            },
            Rtype::AAAA => match record.to_record::<Aaaa>() {
                Ok(Some(record)) => record.data().addr().into(),
                _ => return Err(of_family_only(found, of_family)),
            },
            _ => continue,
        };
        of_family |= record.rtype() == family.record_type();
        if found.len() < MOST_ADDRESSES && !found.contains(&address) {
            found.push(address);
        }
    }
    Ok((of_family_only(found, of_family), records))
}

fn of_family_only(found: Vec<IpAddr>, has_family: bool) -> Vec<IpAddr> {
    if has_family { found } else { Vec::new() }
}

#[cfg(test)]
mod tests;
