//! The parsers of this module, made public for the fuzz target `dns` only.

use std::net::SocketAddr;

use super::hosts;
use super::message::{DomainName, Family, Query, Reply};
use super::resolv_conf::ResolvConf;

/// The settings of a parsed resolv.conf, as far as the fuzz target asserts on them.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The name servers, in query order.
    pub servers: Vec<SocketAddr>,
    /// The names to query for the host that was passed to [`configuration`], in query order.
    pub candidates: Vec<String>,
    /// The time limit for one query, in seconds.
    pub timeout: u64,
    /// How often the list of servers is queried.
    pub attempts: usize,
}

/// Counts the addresses in an answer to the query for `name` with this `id`. Returns `None` for
/// bytes that do not answer that query.
#[must_use]
pub fn addresses_in_answer(bytes: &[u8], name: &str, id: u16, is_v4: bool) -> Option<usize> {
    let family = if is_v4 { Family::V4 } else { Family::V6 };
    let query = Query::new(&DomainName::parse(name)?, family, id, true, false)?;
    Some(match query.parse_reply(bytes)? {
        Reply::Addresses(addresses) | Reply::Truncated(addresses) => addresses.len(),
        Reply::NoAddress | Reply::NoSuchName | Reply::NotUnderstood(_) | Reply::Failed(_) => 0,
    })
}

/// Encodes a query. Returns `None` for an invalid name.
#[must_use]
pub fn query(name: &str, id: u16, is_v4: bool) -> Option<Vec<u8>> {
    let family = if is_v4 { Family::V4 } else { Family::V6 };
    Some(Query::new(&DomainName::parse(name)?, family, id, true, false)?.bytes().to_vec())
}

/// Parses a resolv.conf on a machine named `hostname`.
#[must_use]
pub fn configuration(content: &[u8], hostname: &str, host: &str) -> Configuration {
    let conf = ResolvConf::parse(content, hostname);
    Configuration {
        candidates: conf.candidates(host),
        timeout: conf.timeout.as_secs(),
        attempts: conf.attempts,
        servers: conf.servers,
    }
}

/// Returns the addresses of a host in a hosts file, with port 443.
#[must_use]
pub fn hosts(content: &[u8], host: &str) -> Vec<SocketAddr> {
    hosts::addresses(content, host, 443)
}
