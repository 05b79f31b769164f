//! Real programs that use the token, with a token that a real Dex issued and dexsidecar wrote, each
//! through at least one refresh while it runs.
//!
//! The configuration files are those of docs/consumers, under the names that they have there. So
//! this program enters namespaces of its own for the network and for mounts, in which
//! `dex.example.com` is a real Dex, `/etc` is a copy and `/run` is empty.

mod curl;
mod envoy;
mod git;
mod incus;
mod kubernetes;
mod oauth2_proxy;
mod openbao;
mod otel_collector;
mod prometheus;
mod several;
mod vmauth;
mod world;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use dexsidecar_e2e::process::killed_with_parent;
use dexsidecar_e2e::sidecar::shipped;
use dexsidecar_e2e::trial_time::timed;
use dexsidecar_fetch::counterparts::{DEX, Source};
use dexsidecar_fetch::{Error, machine};
use libtest_mimic::{Arguments, Trial};

use crate::world::World;

/// The environment variable that is set inside the namespaces: to `root`, or to [`USER`].
const INSIDE: &str = "DEXSIDECAR_E2E_CONSUMERS";
/// The value for the namespaces of a user, who is root there only.
const USER: &str = "user";
/// The environment variable of the long form of the tests.
const LONG: &str = "DEXSIDECAR_E2E_LONG";

/// A test of a consumer.
#[derive(Clone, Copy)]
struct ConsumerTest {
    name: &'static str,
    test: fn(&World),
    /// The programs that it runs.
    needs: &'static [Source],
    /// Whether the program works as root of the machine only, not as root of a user namespace.
    root: bool,
    /// Whether it belongs to the long form.
    long: bool,
}

impl ConsumerTest {
    const fn new(name: &'static str, test: fn(&World), needs: &'static [Source]) -> Self {
        Self { name, test, needs, root: false, long: false }
    }

    /// The same, for root of the machine only.
    const fn as_root(self) -> Self {
        Self { root: true, ..self }
    }

    /// The same, in the long form only.
    const fn in_the_long_form(self) -> Self {
        Self { long: true, ..self }
    }
}

/// A test with its name, and the programs that it runs.
macro_rules! test {
    ($test:ident, $needs:expr) => {
        $crate::ConsumerTest::new(stringify!($test), $test, $needs)
    };
}
use test;

/// The Dex of all tests.
static WORLD: OnceLock<World> = OnceLock::new();

fn all() -> Vec<ConsumerTest> {
    [
        curl::TESTS,
        envoy::TESTS,
        git::TESTS,
        incus::TESTS,
        kubernetes::TESTS,
        oauth2_proxy::TESTS,
        openbao::TESTS,
        otel_collector::TESTS,
        prometheus::TESTS,
        several::TESTS,
        vmauth::TESTS,
        world::TESTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if std::env::var_os(INSIDE).is_none() && !arguments.list {
        return enter(&arguments);
    }
    if !arguments.list {
        assert!(WORLD.set(World::start()).is_ok(), "it is started once");
    }
    let trials = all().into_iter().map(|one| {
        let trial = Trial::test(one.name, move || {
            timed(one.name, || (one.test)(WORLD.get().expect("it is started before the tests")));
            Ok(())
        });
        trial.with_ignored_flag(why_ignored(&one).is_some())
    });
    // Tests wait most of the time.
    let threads = arguments.test_threads.unwrap_or(8);
    libtest_mimic::run(&Arguments { test_threads: Some(threads), ..arguments }, trials.collect()).exit_code()
}

/// Whether this is root of the machine.
fn is_root() -> bool {
    machine::is_root() && std::env::var(INSIDE).as_deref() != Ok(USER)
}

/// Why a test cannot run here.
fn why_ignored(one: &ConsumerTest) -> Option<String> {
    if one.long && std::env::var_os(LONG).is_none() {
        return Some("it belongs to the long form".to_owned());
    }
    if one.root && !is_root() {
        return Some("it needs root: run it with sudo -E".to_owned());
    }
    one.needs.iter().find(|source| !source.is_cached()).map(|source| format!("{} is missing", source.label()))
}

/// Fetches what the selected tests need, and runs this program inside the namespaces.
fn enter(arguments: &Arguments) -> ExitCode {
    let note = |text: &str| drop(writeln!(std::io::stderr(), "note: {text}"));
    let is_selected = |one: &&ConsumerTest| {
        let is =
            |filter: &String| if arguments.exact { one.name == filter } else { one.name.contains(&**filter) };
        arguments.filter.as_ref().is_none_or(is) && (!one.long || std::env::var_os(LONG).is_some())
    };
    let tests = all();
    let mut needs = vec![Source::Go(DEX)];
    needs.extend(tests.iter().filter(is_selected).flat_map(|one| one.needs));
    for source in needs {
        match source.get(&mut |_| ()) {
            Ok(()) => {}
            Err(Error::Unavailable(why)) => {
                note(&format!("the tests with {} are skipped: {why}", source.label()));
            }
            Err(Error::Failed(why)) => {
                note(&why);
                return ExitCode::FAILURE;
            }
        }
    }
    if !machine::is_root() && tests.iter().any(|one| one.root) {
        note("the tests that need root are skipped: run them with sudo -E");
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    let status = inside(root.path()).status();
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    if code.is_none() {
        note("these tests need unshare with namespaces (util-linux)");
    }
    ExitCode::from(code.unwrap_or(1))
}

/// The command that enters the namespaces: those of root where this is root, because Incus needs
/// that, else those of a user.
fn inside(etc: &Path) -> Command {
    let this = std::env::current_exe().expect("the path of this program");
    // Some files of /etc cannot be read by a user.
    let script = "cp -a /etc/. \"$1\" 2>/dev/null || true
        mount --bind \"$1\" /etc
        mount -t tmpfs -o mode=755 tmpfs /run
        printf '127.0.0.1 localhost dex.example.com app.example.com git.example.com\\n10.88.0.1 kubernetes.example.com incus.example.com\\n' > /etc/hosts
        ip link set lo up
        ip addr add 10.88.0.1/32 dev lo
        shift; exec \"$@\"";
    let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
    if !machine::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--net", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"])
        .arg(etc)
        .arg(this)
        .args(std::env::args().skip(1))
        .env(INSIDE, if machine::is_root() { "root" } else { USER })
        .env("SIDECAR_BIN", shipped());
    command
}
