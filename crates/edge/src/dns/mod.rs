//! A stub resolver that behaves like Go's (net/dnsclient_unix.go): where a Go program resolves a
//! name, this program must resolve it too. The resolver of musl is not used. It fails when AAAA is
//! answered with an error, never queries a short name as given, and believes the fastest of several
//! servers.
//!
//! A lookup reads `/etc/hosts` first, then queries DNS. Nothing is cached between lookups. A lookup
//! ends when its future is dropped. Each query has its own time limit; the caller sets the limit of
//! the whole lookup.

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
use transport::{NoAnswer, QueryOptions};

/// The largest hosts file that is read, in bytes. The hosts file of a pod has a few hundred bytes.
const LARGEST_HOSTS: usize = 4 * 1024 * 1024;
/// The largest resolv.conf that is read, in bytes. The kubelet writes at most 2 kB.
const LARGEST_RESOLV_CONF: usize = 256 * 1024;
/// How long a lookup waits for the second family once the first has addresses. RFC 8305 §3
/// recommends 50 ms; an AAAA query that the server must forward takes longer. After NXDOMAIN for A
/// it is the total for all candidate names.
const SECOND_FAMILY_WAIT: Duration = Duration::from_secs(1);
/// Upper bound of that wait when this machine has no route to the addresses of the first family.
/// The default query timeout of 5 s, one repeated query and [`SECOND_FAMILY_WAIT`] fit into it.
const UNROUTED_FAMILY_WAIT: Duration = Duration::from_secs(7);
/// Upper bound of the errors that a failure lists.
const MOST_ERRORS: usize = 6;

/// The addresses of a name, and their source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The addresses, at least one, in the order in which to try them.
    pub addresses: Vec<SocketAddr>,
    /// Where the addresses were found.
    pub source: AnsweredBy,
}

/// Where the addresses of a name were found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AnsweredBy {
    /// `/etc/hosts`.
    Hosts,
    /// A name server.
    Dns {
        /// The server that answered.
        server: SocketAddr,
        /// The name that has the addresses: the host as given, or with a search domain appended.
        name: String,
    },
}

/// A failed lookup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotFound {
    /// True if every queried server answered that the name does not exist or has no address. False
    /// if any query failed or timed out.
    pub is_absent: bool,
    /// The name, and the error of each server.
    pub detail: String,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Resolves a host name to addresses with this port. `progress` is called with the list of errors
/// so far each time one is added.
///
/// # Errors
/// [`NotFound`]: the name does not exist or has no address (`is_absent`), or no server gave a valid
/// answer.
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
        return Ok(Found { addresses, source: AnsweredBy::Hosts });
    }
    Lookup::new(conf, progress).run(host, port).await
}

/// One lookup in DNS.
struct Lookup<'a> {
    conf: ResolvConf,
    /// The index of the server to query first.
    first_server: usize,
    /// The state of each server, by its index in `conf.servers`.
    states: RefCell<Vec<ServerState>>,
    /// The server that last answered that a name does not exist or has no address.
    denied_by: Cell<Option<SocketAddr>>,
    /// The errors so far, without duplicates.
    errors: RefCell<Vec<String>>,
    /// What is left of [`SECOND_FAMILY_WAIT`] for AAAA after NXDOMAIN for A, over all candidate
    /// names.
    nxdomain_wait: Cell<Duration>,
    progress: &'a dyn Fn(&str),
}

/// How a server behaved in one lookup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ServerState {
    /// Not queried yet, or still within its time limit.
    Unknown,
    /// Answered a query, possibly with an error.
    Answered,
    /// Answered no query, and at least one timed out.
    Silent,
}

/// The result of the queries for one address family of a name.
enum FamilyResult {
    /// These addresses, from this server.
    Addresses(Vec<IpAddr>, SocketAddr),
    /// The name does not exist.
    NoSuchName,
    /// The name exists and has no address of this family.
    NoAddress,
    /// No server gave a valid answer.
    Unanswered,
}

impl<'a> Lookup<'a> {
    fn new(conf: ResolvConf, progress: &'a dyn Fn(&str)) -> Self {
        let first = if conf.rotate { usize::from(random::u16()) % conf.servers.len() } else { 0 };
        Self {
            first_server: first,
            states: vec![ServerState::Unknown; conf.servers.len()].into(),
            denied_by: Cell::default(),
            conf,
            errors: RefCell::default(),
            nxdomain_wait: Cell::new(SECOND_FAMILY_WAIT),
            progress,
        }
    }

    async fn run(&self, host: &str, port: u16) -> Result<Found, NotFound> {
        // `.onion` names must not be sent to name servers (RFC 7686).
        let is_onion = host.trim_end_matches('.').to_ascii_lowercase().ends_with(".onion");
        if is_onion || DomainName::parse(host).is_none() {
            return Err(NotFound { is_absent: true, detail: format!("{host} is not a valid DNS name") });
        }
        let (mut is_absent, mut without_address) = (true, None);
        for candidate in self.conf.candidates(host) {
            // With a search domain appended the name may be too long.
            let Some(name) = DomainName::parse(&candidate) else { continue };
            let (v4, v6) = self.addresses(&name).await;
            match (v4, v6) {
                (FamilyResult::Addresses(ips, server), FamilyResult::Addresses(more, _)) => {
                    return Ok(found(candidate, server, ips.into_iter().chain(more), port));
                }
                (FamilyResult::Addresses(ips, server), _) | (_, FamilyResult::Addresses(ips, server)) => {
                    return Ok(found(candidate, server, ips.into_iter(), port));
                }
                // Some servers answer NXDOMAIN for AAAA although the name has an A record. None do
                // so for A.
                (FamilyResult::NoSuchName, _) => {}
                (FamilyResult::NoAddress, FamilyResult::NoAddress | FamilyResult::NoSuchName) => {
                    without_address = Some(candidate);
                }
                _ => is_absent = false,
            }
        }
        Err(NotFound { is_absent, detail: self.detail(host, is_absent, without_address.as_deref()) })
    }

    /// Queries A and AAAA at the same time. An error for one family does not affect the other.
    async fn addresses(&self, name: &DomainName) -> (FamilyResult, FamilyResult) {
        let mut v4 = pin!(self.family(name, Family::V4));
        if self.conf.no_aaaa {
            return (v4.await, FamilyResult::NoAddress);
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
            // Only an answer to A proves that a name does not exist.
            v6 = &mut v6 => {
                let v4 = self.after_addresses(&v6, v4).await;
                (v4, v6)
            }
        }
    }

    /// Waits for AAAA once the result of A is known.
    async fn after_v4(&self, v4: &FamilyResult, v6: impl Future<Output = FamilyResult>) -> FamilyResult {
        if matches!(v4, FamilyResult::NoSuchName) {
            let (result, left) = wait_and_deduct(self.nxdomain_wait.get(), v6).await;
            self.nxdomain_wait.set(left);
            return result;
        }
        self.after_addresses(v4, v6).await
    }

    /// Waits for the second family once the result of the first is known. If this machine has no
    /// route to the addresses of the first, the wait allows for one repeated query: one lost
    /// datagram must not leave an IPv4-only pod with IPv6 addresses only.
    async fn after_addresses(
        &self,
        first: &FamilyResult,
        second: impl Future<Output = FamilyResult>,
    ) -> FamilyResult {
        match first {
            FamilyResult::Addresses(ips, _) if ips.iter().any(|ip| order::is_routed(*ip)) => {
                wait_at_most(SECOND_FAMILY_WAIT, second).await
            }
            FamilyResult::Addresses(..) => {
                let limit = (self.conf.timeout + SECOND_FAMILY_WAIT).min(UNROUTED_FAMILY_WAIT);
                wait_at_most(limit, second).await
            }
            FamilyResult::NoSuchName | FamilyResult::NoAddress | FamilyResult::Unanswered => second.await,
        }
    }

    /// Queries the servers in turn until one gives a valid answer.
    async fn family(&self, name: &DomainName, family: Family) -> FamilyResult {
        for attempt in 0..self.conf.attempts {
            for at in self.server_order() {
                let server = self.conf.servers[at];
                let options = QueryOptions {
                    timeout: self.conf.timeout,
                    tcp_only: self.conf.use_tcp,
                    ad: self.conf.trust_ad,
                    fallback: attempt > 0,
                };
                let reply = transport::query_server(server, name, family, options).await;
                self.record_state(at, &reply);
                match reply {
                    Ok(Reply::Addresses(addresses)) => return FamilyResult::Addresses(addresses, server),
                    Ok(Reply::NoAddress) => {
                        self.denied_by.set(Some(server));
                        return FamilyResult::NoAddress;
                    }
                    Ok(Reply::NoSuchName) => {
                        self.denied_by.set(Some(server));
                        return FamilyResult::NoSuchName;
                    }
                    Ok(_) => {}
                    Err(error) => self.record_error(server, family, &error),
                }
            }
        }
        FamilyResult::Unanswered
    }

    /// The indices of the servers in the order of resolv.conf, with silent servers last: a silent
    /// server costs its timeout once, not once per search domain. A server that answered, even with
    /// an error, keeps its place, because a later server may lack the internal names that this one
    /// has.
    fn server_order(&self) -> Vec<usize> {
        let states = self.states.borrow();
        let count = states.len();
        let order = (0..count).map(|offset| (self.first_server + offset) % count);
        let (mut order, silent): (Vec<usize>, Vec<usize>) =
            order.partition(|at| states[*at] != ServerState::Silent);
        order.extend(silent);
        order
    }

    fn record_state(&self, at: usize, reply: &Result<Reply, NoAnswer>) {
        let mut states = self.states.borrow_mut();
        match reply {
            Ok(_) | Err(NoAnswer::Failed(_)) => states[at] = ServerState::Answered,
            Err(NoAnswer::TimedOut(_)) if states[at] == ServerState::Unknown => {
                states[at] = ServerState::Silent
            }
            Err(_) => {}
        }
    }

    fn record_error(&self, server: SocketAddr, family: Family, why: &NoAnswer) {
        let error = format!("{} for {family}: {why}", server.ip());
        let mut errors = self.errors.borrow_mut();
        if errors.len() < MOST_ERRORS && !errors.contains(&error) {
            errors.push(error);
            (self.progress)(&errors.join(", "));
        }
    }

    fn detail(&self, host: &str, is_absent: bool, without_address: Option<&str>) -> String {
        let tried = match self.conf.candidates(host).len() {
            1 => String::new(),
            names => format!(", {names} names tried (search list of /etc/resolv.conf)"),
        };
        if is_absent {
            let server = self.denied_by.get().map_or_else(String::new, |by| format!(" from {}", by.ip()));
            return match without_address {
                Some(name) => format!("{name} has no address (answer{server}){tried}"),
                None => format!("{host} does not exist (NXDOMAIN{server}){tried}"),
            };
        }
        format!("{host}: {}{tried}", self.errors.borrow().join(", "))
    }
}

async fn wait_at_most(limit: Duration, family: impl Future<Output = FamilyResult>) -> FamilyResult {
    timeout(limit, family).await.unwrap_or(FamilyResult::Unanswered)
}

/// Waits like [`wait_at_most`] and returns what is left of the limit: all of it after an answer,
/// nothing after a timeout. With nothing left it still waits 50 ms for an answer that is on its way
/// (RFC 8305 §3).
async fn wait_and_deduct(
    limit: Duration,
    family: impl Future<Output = FamilyResult>,
) -> (FamilyResult, Duration) {
    const MIN_WAIT: Duration = Duration::from_millis(50);
    match timeout(limit.max(MIN_WAIT), family).await {
        Ok(result) => (result, limit),
        Err(_) => (FamilyResult::Unanswered, Duration::ZERO),
    }
}

fn found(name: String, server: SocketAddr, ips: impl Iterator<Item = IpAddr>, port: u16) -> Found {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    // As in Go, `::ffff:10.0.0.7` becomes 10.0.0.7, which a machine without IPv6 can reach.
    for address in ips.map(|ip| SocketAddr::new(ip.to_canonical(), port)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    order::sort(&mut addresses);
    Found { addresses, source: AnsweredBy::Dns { server, name } }
}

/// Parses an address as `/etc/hosts` and resolv.conf have it. An IPv6 address may have a zone:
/// `fe80::1%eth0`.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let Some((ip, zone)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), port));
    };
    let ip = ip.parse().ok()?;
    let index = zone.parse().ok().or_else(|| {
        // sysfs has one directory per interface name.
        let is_name = !["", ".", ".."].contains(&zone) && !zone.contains('/');
        let path = is_name.then(|| Path::new("/sys/class/net").join(zone).join("ifindex"))?;
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    })?;
    Some(SocketAddrV6::new(ip, port, 0, index).into())
}

/// Splits a line into fields, as Go does.
fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t', '\r', '\n']).filter(|field| !field.is_empty())
}

#[cfg(test)]
mod tests;
