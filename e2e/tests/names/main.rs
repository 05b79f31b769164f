//! Name resolution of the shipped binary, against a fake DNS server, Go's resolver and, in the long
//! form, CoreDNS.
//!
//! This program enters its own network namespace, where it may listen on port 53 and replace files
//! of /etc.

mod changes;
mod coredns;
mod etc_files;
mod families;
mod go_resolver;
mod messages;
mod plain_http;
mod search;
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use dexsidecar_e2e::dns_server::DnsServer;
use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::process::killed_with_parent;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, failed_step, program, report, shipped};
use dexsidecar_e2e::trial_time::timed;
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

/// The environment variable that is set inside the namespace.
const INSIDE: &str = "DEXSIDECAR_E2E_NAMES";
/// The environment variable of the long form of the tests.
const LONG: &str = "DEXSIDECAR_E2E_LONG";
/// The environment variable with the path of CoreDNS, set inside the namespace.
const COREDNS: &str = "DEXSIDECAR_E2E_COREDNS";

/// The search domains of this program's own resolv.conf.
const SEARCHED: [&str; 6] = [
    "default.svc.cluster.local",
    "svc.cluster.local",
    "cluster.local",
    "a.example",
    "b.example",
    "c.example",
];

/// One server, one attempt, a timeout of one second.
const ONCE: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";

/// The fake DNS server of all tests.
static DNS: OnceLock<DnsServer> = OnceLock::new();

fn dns() -> &'static DnsServer {
    DNS.get().expect("it is started before the tests")
}

/// A test and its name.
type Test = (&'static str, fn());

/// Tests by their names.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test as fn())),*] };
}
use tests;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let inside = std::env::var_os(INSIDE).is_some();
    if !inside && !arguments.list {
        return enter();
    }
    if inside {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "this test needs ip (iproute2)");
        assert!(DNS.set(DnsServer::start()).is_ok(), "it is started once");
        if std::env::var_os(LONG).is_some() {
            coredns::start();
        }
    }
    let all = [
        changes::TESTS,
        families::TESTS,
        etc_files::TESTS,
        go_resolver::TESTS,
        messages::TESTS,
        plain_http::TESTS,
        search::TESTS,
        servers::TESTS,
    ];
    let trial = |(name, test): Test| {
        Trial::test(name, move || {
            timed(name, test);
            Ok(())
        })
    };
    let mut trials: Vec<Trial> = all.concat().into_iter().map(trial).collect();
    let short = std::env::var_os(LONG).is_none();
    trials.extend(coredns::TESTS.iter().map(|test| trial(*test).with_ignored_flag(short)));
    // Tests wait most of the time.
    let threads = arguments.test_threads.unwrap_or(6);
    libtest_mimic::run(&Arguments { test_threads: Some(threads), ..arguments }, trials).exit_code()
}

fn enter() -> ExitCode {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("resolv.conf");
    let searched = SEARCHED.join(" ");
    let text = format!("nameserver 127.0.0.1\nsearch {searched}\noptions ndots:5 timeout:1 attempts:1\n");
    fs::write(&config, text).expect("a temporary directory");
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost both.test\n::1 localhost both.test\n")
        .expect("a temporary directory");
    let this = std::env::current_exe().expect("the path of this program");
    let script = format!(
        "mount --bind {} /etc/resolv.conf; mount --bind {} /etc/hosts; exec {} \"$@\"",
        config.display(),
        hosts.display(),
        this.display()
    );
    let status = killed_with_parent("/usr/bin/unshare".as_ref())
        .args(["--user", "--map-root-user", "--net", "--mount", "sh", "-ec", &script, "sh"])
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .env("SIDECAR_BIN", shipped())
        // Built here, since the namespace has no network.
        .envs(std::env::var_os(LONG).map(|_| (COREDNS, dexsidecar_e2e::coredns::prepare())))
        .status();
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    if code.is_none() {
        let _ = writeln!(std::io::stderr(), "this test needs unshare with user namespaces (util-linux)");
    }
    ExitCode::from(code.unwrap_or(1))
}

/// A fake Dex that is reached by host names, and a subject token.
struct Dex {
    endpoint: FakeDex,
    volume: ProjectedVolume,
}

impl Dex {
    fn start() -> Self {
        let endpoint = FakeDex::start();
        Self { endpoint, volume: ProjectedVolume::with("eyJh.eyJi.canary") }
    }

    /// A sidecar that reaches it by this host name.
    fn under(&self, name: &str) -> Setup {
        setup(&self.endpoint, &self.volume, name)
    }

    /// The addresses of a name with these files, or the code and the message of the failure.
    fn resolve(&self, etc: &Etc, name: &str) -> Result<BTreeSet<IpAddr>, (String, String)> {
        resolved(&etc.mounted_for(self.under(name)))
    }
}

/// A sidecar whose endpoint has this host name.
fn setup(endpoint: &FakeDex, volume: &ProjectedVolume, name: &str) -> Setup {
    let url = format!("http://{name}:{}/dex/token", endpoint.address().port());
    Setup::new().subject(volume).set("dex_endpoint", url).set("DEXSIDECAR_ALLOW_INSECURE_HTTP", "true")
}

/// The addresses that the DNS step of `check` reports, or the code and the message of its failure.
fn resolved(setup: &Setup) -> Result<BTreeSet<IpAddr>, (String, String)> {
    found(&report(setup))
}

/// The addresses in the DNS step of a report, or the code and the message of its failure.
fn found(report: &serde_json::Value) -> Result<BTreeSet<IpAddr>, (String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let failed = failed_step(report);
    if failed["step"] == "dns" {
        return Err((text(&failed["code"]), text(&failed["message"])));
    }
    let steps = report["steps"].as_array().cloned().unwrap_or_default();
    let step = steps.iter().find(|step| step["step"] == "dns").map(|step| text(&step["message"]));
    let step = step.unwrap_or_else(|| panic!("the report has a DNS step: {report:#}"));
    // Their source follows in brackets.
    let list = step.split(" (").next().unwrap_or_default();
    Ok(list.split([' ', ',']).filter_map(|word| word.parse().ok()).collect())
}

fn only(ip: &str) -> BTreeSet<IpAddr> {
    [ip.parse().expect("an address")].into()
}

/// A directory that is mounted as /etc for a program. Tests may change its files while the program
/// runs.
struct Etc(TempDir);

impl Etc {
    /// A directory with this resolv.conf and a hosts file with `localhost`.
    fn with(resolv_conf: impl AsRef<[u8]>) -> Self {
        let etc = Self(tempfile::tempdir().expect("a temporary directory"));
        etc.write("resolv.conf", resolv_conf);
        etc.write("hosts", "127.0.0.1 localhost\n");
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a temporary directory");
    }

    /// The sidecar with this /etc.
    fn mounted_for(&self, setup: Setup) -> Setup {
        let script = "mount --bind \"$0\" /etc; exec \"$@\"";
        let words = ["/usr/bin/unshare", "--mount", "/bin/sh", "-ec", script].map(Path::new);
        setup.program(&[&words[..], &[self.0.path(), &program()]].concat())
    }

    /// The sidecar with this /etc and without capabilities, so that file permissions apply.
    fn mounted_without_capabilities_for(&self, setup: Setup) -> Setup {
        let script = "mount --bind \"$0\" /etc; exec setpriv --inh-caps=-all --bounding-set=-all \"$@\"";
        let words = ["/usr/bin/unshare", "--mount", "/bin/sh", "-ec", script].map(Path::new);
        setup.program(&[&words[..], &[self.0.path(), &program()]].concat())
    }
}
