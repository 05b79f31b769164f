//! Go's resolver is the reference: Go and dexsidecar look up the same names with the same files and
//! servers.
//!
//! One difference is allowed, and marked in the case ([`Case::may_find_more`]): for a name, the
//! servers do not support EDNS0 or drop UDP. Go does not query again without EDNS0 or over TCP, so
//! it may find nothing, or a later candidate.
//!
//! These cases are not generated, since the two resolvers differ by design:
//!
//! - `no-aaaa`: Go does not support it
//! - hosts lines over 64 KiB: Go stops there
//! - a malformed record after valid ones: Go uses those before it, dexsidecar ignores the message
//! - an answer that is truncated over TCP too: for Go the name has no address, dexsidecar queries
//!   the next server
//! - more than 16 addresses
//! - a closed UDP port with TCP open
//! - servers that answer differently, together with `rotate`: dexsidecar starts with a random
//!   server
//! - servers that answer differently, together with a silent one: dexsidecar queries that one last
//!   for later names, and does not wait for its second family

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dexsidecar_e2e::dns_server::{CLOSED, Edns, FIRST, Family, Lie, Reply, Rule, SECOND, THIRD, Transport};
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::sidecar::program;
use dexsidecar_fetch::counterparts::GO_RESOLVE;

use super::{Dex, Etc, LONG, Test, dns, resolved, tests};

pub(crate) const TESTS: &[Test] = tests![f124_to_f131_names_resolve_as_in_go];

/// The number of cases in the short and in the long form.
const CASES: [usize; 2] = [300, 3_000];
/// More than cores, since a case waits most of the time.
const THREADS: usize = 12;

/// SplitMix64, which gives the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("the remainder fits")
    }

    /// True with this probability in percent.
    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// A host name, files and rules of the DNS server.
#[derive(Debug, Default)]
struct Case {
    host: String,
    resolv_conf: Vec<u8>,
    hosts: Vec<u8>,
    /// A server has a fault that dexsidecar works around and Go does not.
    may_find_more: bool,
    /// The rules of the DNS server, for messages.
    rules: String,
}

impl Case {
    /// Generates the case with this number and sets its rules. No name is in two cases.
    fn generate(number: usize) -> Self {
        let mut random = Random(number as u64);
        let own = format!("c{number}");
        let host = match random.below(9) {
            0 | 1 => own,
            2 | 3 => format!("{own}.ns"),
            4 => format!("{own}.ns.svc"),
            5 => format!("{own}.a.b.c.d.e"),
            6 => format!("C{number}.Ns"),
            7 => format!("{own}_x-y.test"),
            _ => format!("{own}.rooted."),
        };
        let mut case = Self { host, ..Self::default() };
        let rotate = random.is(10);
        let search = case.write_resolv_conf(&mut random, rotate);
        case.write_hosts(&mut random);
        let rooted = case.host.strip_suffix('.').map(str::to_lowercase);
        let mut candidates = vec![rooted.clone().unwrap_or_else(|| case.host.to_lowercase())];
        if rooted.is_none() {
            candidates.extend(search.iter().map(|domain| format!("{}.{}", case.host.to_lowercase(), domain)));
        }
        case.set_rules(&mut random, &candidates, rotate);
        case
    }

    /// Writes resolv.conf and gives its search domains.
    fn write_resolv_conf(&mut self, random: &mut Random, rotate: bool) -> Vec<String> {
        let mut lines: Vec<Vec<u8>> = vec![];
        let mut servers: Vec<String> = [FIRST, SECOND, THIRD].map(|server| server.to_string()).into();
        for _ in 0..random.below(3) {
            servers.remove(random.below(servers.len()));
        }
        if random.is(10) {
            servers.insert(random.below(servers.len() + 1), CLOSED.to_string());
        }
        for server in &servers {
            let ending = random.one_of(&["", "", "", " ", " # comment", "\t; x", "\r"]);
            lines.push(format!("nameserver {server}{ending}").into());
        }
        if random.is(8) {
            // Without a server, 127.0.0.1 and ::1 are queried.
            lines.clear();
        }
        let mut search = vec![];
        let known =
            ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example", "d.example"];
        for _ in 0..random.below(6) {
            search.push(random.one_of(&known).to_owned());
        }
        if random.is(10) {
            let more: Vec<String> = (0..20).map(|n| format!("{n}.{}.example", "x".repeat(50))).collect();
            search.extend(more);
        }
        let keyword = if search.len() == 1 && random.is(50) { "domain" } else { "search" };
        if !search.is_empty() {
            let dot = random.one_of(&["", "", "."]);
            let words: Vec<String> = search.iter().map(|domain| format!("{domain}{dot}")).collect();
            let separator = random.one_of(&[" ", " ", "\t", "  "]);
            lines.push(format!("{keyword} {}", words.join(separator)).into());
        } else if random.is(50) {
            lines.push(b"search .".to_vec());
        }
        let mut options = vec!["timeout:1".to_owned()];
        let ndots = ["0", "1", "2", "3", "5", "5", "15", "99", "x", ""];
        if random.is(70) {
            options.push(format!("ndots:{}", random.one_of(&ndots)));
        }
        if random.is(50) {
            options.push(format!("attempts:{}", random.one_of(&["1", "2", "0", "x"])));
        }
        if rotate {
            options.push("rotate".to_owned());
        }
        for option in
            ["single-request", "single-request-reopen", "use-vc", "edns0", "trust-ad", "inet6", "x:y"]
        {
            if random.is(10) {
                options.push(option.to_owned());
            }
        }
        lines.push(format!("options {}", options.join(" ")).into());
        let noise: [&[u8]; 8] = [
            b"# nameserver 127.0.0.66",
            b"; options ndots:15",
            b"",
            b"nameserver",
            b"nameserver 127.1",
            b"nameserver x.example",
            b" nameserver 127.0.0.66",
            b"sortlist \xff\xfe 130.155.160.0/255.255.240.0",
        ];
        for _ in 0..random.below(4) {
            lines.insert(random.below(lines.len() + 1), random.one_of(&noise).to_vec());
        }
        self.resolv_conf = lines.join(&b'\n');
        if random.is(70) {
            self.resolv_conf.push(b'\n');
        }
        search
    }

    fn write_hosts(&mut self, random: &mut Random) {
        let mut lines = vec!["127.0.0.1\tlocalhost".to_owned(), "::1 localhost ip6-localhost".to_owned()];
        let name = self.host.trim_end_matches('.').to_owned();
        for _ in 0..random.below(4) {
            let noise =
                ["# comment", "127.1 x", "nonsense", "10.0.0.300 y", "fe80::1%lo link", "10.0.0.9 other #x"];
            lines.push(random.one_of(&noise).to_owned());
            if random.is(15) {
                // The name in a comment, as a prefix, and after an invalid address.
                let trap = [
                    format!("10.9.9.9 other # {name}"),
                    format!("10.9.9.9 {name}x x{name}"),
                    format!("127.1 {name}"),
                ];
                lines.push(random.one_of(&trap));
            }
        }
        if random.is(20) {
            let filler: String = (0..random.below(200)).map(|n| format!("alias-{n}.example ")).collect();
            for _ in 0..=random.below(2) {
                let address = random.one_of(&["10.0.0.7", "10.0.0.8", "fd00::8", "::ffff:10.0.0.7"]);
                let name = if random.is(50) { name.to_uppercase() } else { name.clone() };
                let ending = random.one_of(&["", " x", ".", "#x", "\r"]);
                lines.push(format!("{address} {filler}{name}{ending}"));
            }
        }
        self.hosts = lines.join("\n").into_bytes();
        if random.is(50) {
            self.hosts.push(b'\n');
        }
    }

    /// Looks the name up with both resolvers and compares the outcomes. On a busy machine any
    /// server may seem silent, so only a difference in three runs counts.
    ///
    /// # Errors
    /// The difference and the case.
    fn compare(&self, go: &Path, dex: &Dex) -> Result<&'static str, String> {
        let mut wrong = String::new();
        for _ in 0..3 {
            let (by_go, ours) = self.outcomes(go, dex);
            let why = match judge(self.may_find_more, &by_go, &ours) {
                Ok(count) => return Ok(count),
                Err(why) => why,
            };
            let [resolv_conf, hosts] = [&self.resolv_conf, &self.hosts].map(|f| String::from_utf8_lossy(f));
            wrong = format!(
                "{why}\nGo: {by_go:?}\ndexsidecar: {ours:?}\n{}, may find more: {}{}\n{resolv_conf}\n\n{hosts}\n",
                self.host, self.may_find_more, self.rules
            );
        }
        Err(wrong)
    }

    /// The outcomes of Go and of dexsidecar, one after the other with the same /etc.
    fn outcomes(&self, go: &Path, dex: &Dex) -> (Outcome, Outcome) {
        let etc = Etc::with(&self.resolv_conf);
        etc.write("hosts", &self.hosts);
        let script = "mount --bind \"$0\" /etc; \"$1\" \"$2\" > \"$3\" 2>/dev/null; shift 3; exec \"$@\"";
        let words = ["/usr/bin/unshare", "--mount", "/bin/sh", "-ec", script].map(Path::new);
        let line = etc.path("go");
        let more = [etc.path(""), go.to_owned(), self.host.clone().into(), line.clone(), program()];
        let more: Vec<&Path> = more.iter().map(|word| word.as_path()).collect();
        let setup = dex.under(&self.host).set("DEXSIDECAR_ATTEMPT_TIMEOUT", "1m");
        let ours = resolved(&setup.program(&[&words[..], &more].concat()));
        let go = fs::read_to_string(line).expect("Go has printed a line");
        (by_go(&go), ours.map_err(|(code, _)| code))
    }

    fn set_rules(&mut self, random: &mut Random, candidates: &[String], rotate: bool) {
        let slow = random.is(12);
        // At most two names wait for the timeout of the silent server.
        let silent = (slow && candidates.len() <= 2).then(|| random.one_of(&[FIRST, SECOND, THIRD]));
        let mut has_fault = silent.is_some();
        for (at, name) in candidates.iter().enumerate() {
            let last = u8::try_from(at % 100).expect("it is below 100") + 1;
            let rule = |random: &mut Random| {
                if random.is(55) { Reply::Absent } else { reply(random, last) }
            };
            let first = rule(random);
            dns().set(name, first);
            let _ = write!(self.rules, "\n{name}: {first:?}");
            if random.is(35) {
                let (family, apart) = (random.one_of(&[Family::A, Family::Aaaa]), reply(random, last + 100));
                dns().set_family(name, family, apart);
                let _ = write!(self.rules, ", {family:?} {apart:?}");
                if slow && !has_fault {
                    has_fault = true;
                    dns().set_family(name, family, Reply::Silence);
                    let _ = write!(self.rules, ", then silent");
                }
            } else if !rotate && silent.is_none() && random.is(30) {
                let (server, apart) = (random.one_of(&[FIRST, SECOND, THIRD]), rule(random));
                dns().set_at(server, name, apart);
                let _ = write!(self.rules, ", {server} {apart:?}");
            } else if slow && !has_fault {
                has_fault = true;
                self.may_find_more = true;
                let valid = Rule::from(Reply::Both(Ipv4Addr::new(127, 0, 2, last), v6(last)));
                let rule = random.one_of(&[
                    valid.edns(Edns::Code(1)),
                    valid.edns(Edns::Code(4)),
                    valid.edns(Edns::HeaderOnly),
                    valid.edns(Edns::Lost),
                    valid.over(Transport::Tcp),
                ]);
                dns().set(name, rule);
                let _ = write!(self.rules, " {rule:?}");
            }
            if let Some(server) = silent {
                dns().set_at(server, name, Reply::Silence);
                let _ = write!(self.rules, ", {server} is silent");
            }
        }
    }
}

fn v6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())
}

/// A random reply without delay.
fn reply(random: &mut Random, last: u8) -> Reply {
    let v4 = Ipv4Addr::new(127, 0, 1, last);
    random.one_of(&[
        Reply::Address(v4),
        Reply::AddressV6(v6(last)),
        Reply::Both(v4, v6(last)),
        Reply::Alias(v4),
        Reply::Large(v4, 700),
        Reply::Large(v4, 2_000),
        Reply::Truncated(v4),
        Reply::Empty,
        Reply::Absent,
        Reply::Failed,
        Reply::Refused,
        Reply::Code(4),
        Reply::Code(9),
        Reply::Lame,
        Reply::Lie(Lie::CnameLoop),
    ])
}

type Outcome = Result<BTreeSet<IpAddr>, String>;

fn by_go(line: &str) -> Outcome {
    let addresses: Option<BTreeSet<IpAddr>> =
        line.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
    addresses.filter(|all| !all.is_empty()).ok_or_else(|| line.trim().to_owned())
}

/// The kind of a pair of outcomes, for the statistics.
///
/// # Errors
/// A difference that is not allowed.
fn judge(may_find_more: bool, go: &Outcome, ours: &Outcome) -> Result<&'static str, &'static str> {
    match (go, ours) {
        (Ok(go), Ok(ours)) if go == ours => Ok("both resolved"),
        (Ok(_), Ok(_)) if may_find_more => Ok("both resolved, dexsidecar by an earlier candidate"),
        (Ok(_), Ok(_)) => Err("other addresses"),
        (Ok(_), Err(_)) => Err("resolved by Go only"),
        (Err(_), Ok(_)) if may_find_more => Ok("only dexsidecar"),
        (Err(_), Ok(_)) => Err("resolved by dexsidecar only"),
        (Err(go), Err(ours)) => Ok(match (go.as_str(), ours.as_str()) {
            ("absent", "name_not_found") => "both absent",
            ("failed", "name_lookup_failed") => "both failed",
            // For Go the last candidate decides. dexsidecar needs NXDOMAIN for each.
            ("absent", "name_lookup_failed") => "Go absent, dexsidecar failed",
            // dexsidecar accepts NXDOMAIN in an answer for A, whatever happens to AAAA.
            ("failed", "name_not_found") => "Go failed, dexsidecar absent",
            _ => return Err("an outcome of another kind"),
        }),
    }
}

fn f124_to_f131_names_resolve_as_in_go() {
    let go = prebuilt::program(&GO_RESOLVE);
    let dex = Dex::start();
    let cases = CASES[usize::from(std::env::var_os(LONG).is_some())];
    let next = AtomicUsize::new(0);
    let counts: Mutex<BTreeMap<&str, usize>> = Mutex::default();
    let wrong: Mutex<String> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= cases {
                        return;
                    }
                    match Case::generate(number).compare(&go, &dex) {
                        Ok(count) => {
                            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                            *counts.entry(count).or_default() += 1;
                        }
                        Err(why) => {
                            let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                            let _ = writeln!(wrong, "case {number}: {why}");
                        }
                    }
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(std::io::stderr(), "{cases} names looked up by Go and by dexsidecar: {counts:?}");
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(wrong.is_empty(), "{wrong}");
    assert!(counts["both resolved"] > cases / 4, "enough names resolve");
}
