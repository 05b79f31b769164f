//! The parsers of this module for the fuzz target `dns`. Nothing else uses it.

use std::net::SocketAddr;

use super::hosts;
use super::message::{DomainName, Family, Query, Reply};
use super::resolv_conf::ResolvConf;

/// What is asserted of a resolv.conf that was read.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The name servers.
    pub servers: Vec<SocketAddr>,
    /// The names to ask for, for a host.
    pub candidates: Vec<String>,
    /// The longest time for one query, in seconds.
    pub timeout: u64,
    /// The number of attempts.
    pub attempts: usize,
}

/// The number of addresses in an answer with the id of the query; nothing where it does not count as an answer.
#[must_use]
pub fn addresses_in_answer(bytes: &[u8], name: &str, id: u16, is_v4: bool) -> Option<usize> {
    let family = if is_v4 { Family::V4 } else { Family::V6 };
    let query = Query::new(&DomainName::parse(name)?, family, id, true, false)?;
    Some(match query.answered_by(bytes)? {
        Reply::Addresses(addresses) | Reply::Truncated(addresses) => addresses.len(),
        Reply::NoAddress | Reply::NoSuchName | Reply::NotUnderstood(_) | Reply::Failed(_) => 0,
    })
}

/// The bytes of a query; nothing where the name is none.
#[must_use]
pub fn query(name: &str, id: u16, is_v4: bool) -> Option<Vec<u8>> {
    let family = if is_v4 { Family::V4 } else { Family::V6 };
    Some(Query::new(&DomainName::parse(name)?, family, id, true, false)?.bytes().to_vec())
}

/// Reads a resolv.conf.
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

/// Looks a host up in a hosts file.
#[must_use]
pub fn hosts(content: &[u8], host: &str) -> Vec<SocketAddr> {
    hosts::addresses(content, host, 443)
}
