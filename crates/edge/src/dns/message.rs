//! DNS messages (RFC 1035 §4, RFC 6891): queries for the addresses of a name, and their answers.
//! The [`domain`] crate parses the bytes. The rules for accepting an answer are Go's
//! (net/dnsclient_unix.go).

use std::fmt;
use std::net::IpAddr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::dep::octseq::array::Array;
use domain::rdata::{A, Aaaa};

/// The UDP payload size that queries announce, in bytes: the value of DNS flag day 2020, which Go
/// uses too.
const UDP_SIZE: u16 = 1232;
/// Upper bound of the addresses per name: the A records that fit into an answer of [`UDP_SIZE`].
const MOST_ADDRESSES: usize = 75;
/// Large enough for the longest query: header, name of 255 bytes, question, OPT record.
type QueryBytes = Array<300>;

/// The address family of a query.
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

/// A domain name in wire format.
pub(super) struct DomainName(Name<Array<255>>);

impl DomainName {
    /// Parses a name of letters, digits, `-` and `_`, with labels of at most 63 bytes and 253 bytes
    /// in all. Returns `None` for any other text, and for one of digits and dots only.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.is_empty() || is_number || !text.chars().all(allowed) {
            return None;
        }
        Name::from_chars(text.chars()).ok().map(Self)
    }
}

/// One encoded query.
pub(super) struct Query(Message<QueryBytes>);

/// A valid answer to a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    /// The addresses of the name, at least one.
    Addresses(Vec<IpAddr>),
    /// The name exists, without an address of this family.
    NoAddress,
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The answer was too long for UDP and has the TC bit. These addresses were in the part that
    /// arrived.
    Truncated(Vec<IpAddr>),
    /// The server did not understand the query: FORMERR, NOTIMP or BADVERS.
    NotUnderstood(Error),
    /// The server failed or refused: SERVFAIL, REFUSED and all other codes.
    Failed(Error),
}

/// A failure that a server reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Error {
    /// A response code (RFC 1035 §4.1.1, RFC 6891 §9).
    Rcode(u16),
    /// A referral to other servers, from a server that offers no recursion.
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
            Self::LameReferral => f.write_str("the server offers no recursion"),
        }
    }
}

impl Query {
    /// Encodes a query with the RD bit. `edns` adds an OPT record, which announces [`UDP_SIZE`];
    /// `ad` sets the AD bit.
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

    /// The message as UDP carries it.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Parses an answer to this query. Returns `None` for bytes that do not answer it, and for
    /// malformed bytes without an address: the caller ignores both as forged.
    pub(super) fn parse_reply(&self, bytes: &[u8]) -> Option<Reply> {
        let message = Message::from_octets(bytes).ok()?;
        let header = message.header();
        let header_only = message.header_counts().qdcount() == 0
            && header.qr()
            && header.id() == self.0.header().id()
            && header.rcode() == Rcode::FORMERR;
        if header_only {
            // Old servers without EDNS answer with a header only.
            return Some(Reply::NotUnderstood(Error::Rcode(1)));
        }
        if !message.is_answer(&self.0) {
            return None;
        }
        let family = Family::of(self.0.sole_question().ok()?.qtype())?;
        // As in Go, addresses before a malformed record count. An answer without addresses must be
        // well-formed.
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

/// Returns the addresses in the answer section and the number of records there. Owner names and
/// classes are not compared: a recursive server puts CNAME records and the addresses of their
/// targets there (RFC 1034 §4.3.1), and Go takes them all. Without a record of the queried family
/// the list is empty.
///
/// # Errors
/// A record is malformed. The value holds the addresses before it.
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
