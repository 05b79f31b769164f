//! From a name to its addresses: a stub resolver that behaves as Go's (net/dnsclient_unix.go), since every set-up on which
//! a Go program finds its server must work here too. musl's own does not: it fails where AAAA is answered with an error,
//! never asks for a short name as it stands, and takes the quickest of several servers at its word.
//!
//! `/etc/hosts` first, then DNS. Nothing is remembered from one look-up to the next. A look-up ends when its future is
//! dropped; its parts have their own limits, and the caller sets one over all of it.

pub mod fuzzing;
mod hosts;
mod message;
mod order;
mod resolv_conf;
mod transport;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::{input_file, random};
use message::{DomainName, Family, Reply};
use resolv_conf::ResolvConf;
use transport::{Manner, NoAnswer};

/// Hosts files are read up to this size, in bytes. A pod's has a few hundred.
const LARGEST_HOSTS: usize = 4 * 1024 * 1024;
/// The same of resolv.conf, of which the kubelet writes 2 kB at most.
const LARGEST_RESOLV_CONF: usize = 256 * 1024;
/// How long a look-up waits for the other family, once one has addresses (RFC 8305 §3 allows 50 ms; an AAAA that the
/// server has to ask for takes longer), and once A says that there is no such name: then in all, not for each candidate.
const OTHER_FAMILY: Duration = Duration::from_secs(1);
/// The same at most where this machine has no way to those addresses.
const OTHER_FAMILY_REPEATED: Duration = Duration::from_secs(7);
/// How many servers and their troubles are named in a failure.
const MOST_NAMED: usize = 6;

/// The addresses of a name, and how they were found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// At least one, in the order in which to try them.
    pub addresses: Vec<SocketAddr>,
    /// Who knew them.
    pub source: KnownBy,
}

/// Who knew the addresses of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KnownBy {
    /// `/etc/hosts`.
    Hosts,
    /// DNS.
    Dns {
        /// The server that answered.
        server: SocketAddr,
        /// The name that it knew: the one that was given, or that with a search domain behind it.
        name: String,
    },
}

/// Why a name has no address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotFound {
    /// True when every server that was asked says that no such name, or no address of it, exists. False when any question
    /// went without an answer.
    pub is_absent: bool,
    /// The name, and what each server said.
    pub detail: String,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Looks a name up. `progress` is called with each trouble as it happens.
///
/// # Errors
/// There is no such name, or no server gave an answer.
pub async fn look_up(host: &str, port: u16, progress: &dyn Fn(&str)) -> Result<Found, NotFound> {
    let hosts = input_file::read(Path::new("/etc/hosts"), LARGEST_HOSTS).unwrap_or_default();
    let conf = input_file::read(Path::new("/etc/resolv.conf"), LARGEST_RESOLV_CONF).unwrap_or_default();
    let hostname = rustix::system::uname();
    let conf = ResolvConf::parse(&conf, &hostname.nodename().to_string_lossy());
    look_up_in(&hosts, conf, host, port, progress).await
}

async fn look_up_in(
    hosts: &[u8],
    conf: ResolvConf,
    host: &str,
    port: u16,
    progress: &dyn Fn(&str),
) -> Result<Found, NotFound> {
    let mut addresses = hosts::addresses(hosts, host, port);
    if !addresses.is_empty() {
        order::sort(&mut addresses);
        return Ok(Found { addresses, source: KnownBy::Hosts });
    }
    LookUp::new(conf, progress).run(host, port).await
}

/// One look-up in DNS.
struct LookUp<'a> {
    conf: ResolvConf,
    /// The index of the server to begin with.
    first_server: usize,
    /// What each server did so far.
    states: RefCell<Vec<ServerState>>,
    /// The server that denied a name last.
    denied_by: Cell<Option<SocketAddr>>,
    /// What went wrong, each thing once.
    troubles: RefCell<Vec<String>>,
    /// How long AAAA may still be waited for where A says that there is no such name.
    patience: Cell<Duration>,
    progress: &'a dyn Fn(&str),
}

/// What a server did within one look-up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ServerState {
    /// It was not asked, or has time left to answer.
    Unknown,
    /// It answered a query, whatever it was.
    Answered,
    /// It let a query time out, and answered none.
    Silent,
}

/// What is known of one family of a name's addresses.
enum Known {
    /// These, by this server.
    Addresses(Vec<IpAddr>, SocketAddr),
    /// The server says that the name does not exist.
    NoSuchName,
    /// The server says that it exists, without such an address.
    NoAddress,
    /// No server answered usefully.
    Unanswered,
}

impl<'a> LookUp<'a> {
    fn new(conf: ResolvConf, progress: &'a dyn Fn(&str)) -> Self {
        let first = if conf.rotate { usize::from(random::number()) % conf.servers.len() } else { 0 };
        Self {
            first_server: first,
            states: vec![ServerState::Unknown; conf.servers.len()].into(),
            denied_by: Cell::default(),
            conf,
            troubles: RefCell::default(),
            patience: Cell::new(OTHER_FAMILY),
            progress,
        }
    }

    async fn run(&self, host: &str, port: u16) -> Result<Found, NotFound> {
        // A name server must not see such a name (RFC 7686).
        let is_onion = host.trim_end_matches('.').to_ascii_lowercase().ends_with(".onion");
        if is_onion || DomainName::parse(host).is_none() {
            return Err(NotFound {
                is_absent: true,
                detail: format!("{host} is not a name that DNS can hold"),
            });
        }
        let (mut is_absent, mut without_address) = (true, None);
        for candidate in self.conf.candidates(host) {
            // One with a search domain behind it may be too long.
            let Some(name) = DomainName::parse(&candidate) else { continue };
            let (v4, v6) = self.addresses(&name).await;
            match (v4, v6) {
                (Known::Addresses(ips, server), Known::Addresses(more, _)) => {
                    return Ok(found(candidate, server, ips.into_iter().chain(more), port));
                }
                (Known::Addresses(ips, server), _) | (_, Known::Addresses(ips, server)) => {
                    return Ok(found(candidate, server, ips.into_iter(), port));
                }
                // There are servers that say so for AAAA of a name that has an A record; the other way round there are none.
                (Known::NoSuchName, _) => {}
                (Known::NoAddress, Known::NoAddress | Known::NoSuchName) => without_address = Some(candidate),
                _ => is_absent = false,
            }
        }
        Err(NotFound { is_absent, detail: self.detail(host, is_absent, without_address.as_deref()) })
    }

    /// What is known of the A and of the AAAA records. They are asked for side by side; one family's trouble is not the
    /// other's.
    async fn addresses(&self, name: &DomainName) -> (Known, Known) {
        let mut v4 = pin!(self.family(name, Family::V4));
        if self.conf.no_aaaa {
            return (v4.await, Known::NoAddress);
        }
        let mut v6 = pin!(self.family(name, Family::V6));
        if self.conf.single_request {
            let v4 = v4.await;
            let v6 = self.after_v4(&v4, v6).await;
            return (v4, v6);
        }
        tokio::select! {
            biased;
            v4 = &mut v4 => {
                let v6 = self.after_v4(&v4, v6).await;
                (v4, v6)
            }
            // That a name does not exist is believed of an answer to A only.
            v6 = &mut v6 => {
                let v4 = self.after_addresses(&v6, v4).await;
                (v4, v6)
            }
        }
    }

    /// The AAAA records, once it is known what A says.
    async fn after_v4(&self, v4: &Known, v6: impl Future<Output = Known>) -> Known {
        if matches!(v4, Known::NoSuchName) {
            let patience = self.patience.get();
            let (known, left) = within_counted(patience, v6).await;
            self.patience.set(left);
            return known;
        }
        self.after_addresses(v4, v6).await
    }

    /// The other family, once one is known. For addresses that this machine has no way to, it is waited for until its query
    /// has been repeated once: a lost datagram must not leave an IPv4-only pod with addresses of IPv6.
    async fn after_addresses(&self, known: &Known, other: impl Future<Output = Known>) -> Known {
        match known {
            Known::Addresses(ips, _) if ips.iter().any(|ip| order::is_routed(*ip)) => {
                within(OTHER_FAMILY, other).await
            }
            Known::Addresses(..) => {
                within((self.conf.timeout + OTHER_FAMILY).min(OTHER_FAMILY_REPEATED), other).await
            }
            Known::NoSuchName | Known::NoAddress | Known::Unanswered => other.await,
        }
    }

    /// Asks server after server until one knows.
    async fn family(&self, name: &DomainName, family: Family) -> Known {
        for attempt in 0..self.conf.attempts {
            for at in self.order_of_servers() {
                let server = self.conf.servers[at];
                let manner = Manner {
                    timeout: self.conf.timeout,
                    tcp_only: self.conf.use_tcp,
                    ad: self.conf.trust_ad,
                    fallback: attempt > 0,
                };
                let reply = transport::ask(server, name, family, manner).await;
                self.observe(at, &reply);
                match reply {
                    Ok(Reply::Addresses(addresses)) => return Known::Addresses(addresses, server),
                    Ok(Reply::NoAddress) => {
                        self.denied_by.set(Some(server));
                        return Known::NoAddress;
                    }
                    Ok(Reply::NoSuchName) => {
                        self.denied_by.set(Some(server));
                        return Known::NoSuchName;
                    }
                    Ok(_) => {}
                    Err(why) => self.note(server, family, &why),
                }
            }
        }
        Known::Unanswered
    }

    /// The indices of the servers as resolv.conf has them, those that are silent last: such a server costs its time-out once,
    /// not once for each search domain. A server that answered, even with an error, keeps its place: a later one may not
    /// know the names that this one knows.
    fn order_of_servers(&self) -> Vec<usize> {
        let states = self.states.borrow();
        let count = states.len();
        let order = (0..count).map(|offset| (self.first_server + offset) % count);
        let (mut order, silent): (Vec<usize>, Vec<usize>) =
            order.partition(|at| states[*at] != ServerState::Silent);
        order.extend(silent);
        order
    }

    fn observe(&self, at: usize, reply: &Result<Reply, NoAnswer>) {
        let mut states = self.states.borrow_mut();
        match reply {
            Ok(_) | Err(NoAnswer::Failed(_)) => states[at] = ServerState::Answered,
            Err(NoAnswer::TimedOut(_)) if states[at] == ServerState::Unknown => {
                states[at] = ServerState::Silent
            }
            Err(_) => {}
        }
    }

    fn note(&self, server: SocketAddr, family: Family, why: &NoAnswer) {
        let trouble = format!("{} for {family}: {why}", server.ip());
        let mut troubles = self.troubles.borrow_mut();
        if troubles.len() < MOST_NAMED && !troubles.contains(&trouble) {
            troubles.push(trouble);
            (self.progress)(&troubles.join(", "));
        }
    }

    fn detail(&self, host: &str, is_absent: bool, without_address: Option<&str>) -> String {
        let tried = match self.conf.candidates(host).len() {
            1 => String::new(),
            names => format!(", asked for under {names} names (search list of /etc/resolv.conf)"),
        };
        if is_absent {
            let server = self.denied_by.get().map_or_else(String::new, |by| format!(", says {}", by.ip()));
            return match without_address {
                Some(name) => format!("{name} has no address{server}{tried}"),
                None => format!("{host} does not exist (NXDOMAIN){server}{tried}"),
            };
        }
        format!("{host}: {}{tried}", self.troubles.borrow().join(", "))
    }
}

async fn within(limit: Duration, family: impl Future<Output = Known>) -> Known {
    timeout(limit, family).await.unwrap_or(Known::Unanswered)
}

/// The same, and what is left of the limit: an answer on its way needs a moment, even where nothing is.
async fn within_counted(limit: Duration, family: impl Future<Output = Known>) -> (Known, Duration) {
    const MOMENT: Duration = Duration::from_millis(50);
    match timeout(limit.max(MOMENT), family).await {
        Ok(known) => (known, limit),
        Err(_) => (Known::Unanswered, Duration::ZERO),
    }
}

fn found(name: String, server: SocketAddr, ips: impl Iterator<Item = IpAddr>, port: u16) -> Found {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    // `::ffff:10.0.0.7` is 10.0.0.7, as for Go: a machine without IPv6 reaches it too.
    for address in ips.map(|ip| SocketAddr::new(ip.to_canonical(), port)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    order::sort(&mut addresses);
    Found { addresses, source: KnownBy::Dns { server, name } }
}

/// An address as files have it, with this port; one of version 6 may name its interface: `fe80::1%eth0`.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let Some((ip, zone)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), port));
    };
    let ip = ip.parse().ok()?;
    let index = zone.parse().ok().or_else(|| {
        // The kernel lists interfaces by name.
        let is_name = !["", ".", ".."].contains(&zone) && !zone.contains('/');
        let path = is_name.then(|| Path::new("/sys/class/net").join(zone).join("ifindex"))?;
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    })?;
    Some(SocketAddrV6::new(ip, port, 0, index).into())
}

/// The words of a line, as Go splits it.
fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests;
