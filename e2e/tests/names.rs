//! Names and their troubles, with a name server that does as it is told and the binary as it ships, whose resolver is musl's.
//!
//! This program enters a network namespace of its own, where it may listen on port 53 and say what /etc/resolv.conf is.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::Duration;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::names::{Lie, Names, Reply};
use dexsidecar_e2e::process::tied;
use dexsidecar_e2e::sidecar::{Setup, broken, program, report, shipped};
use dexsidecar_e2e::volume::Volume;
use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;

/// Says to the program inside that it is there.
const INSIDE: &str = "DEXSIDECAR_E2E_NAMES";

/// What is put behind a name, one after the other.
const SEARCHED: [&str; 6] = [
    "default.svc.cluster.local",
    "svc.cluster.local",
    "cluster.local",
    "a.example",
    "b.example",
    "c.example",
];

static NAMES: OnceLock<Names> = OnceLock::new();

fn names() -> &'static Names {
    NAMES.get().expect("it was started before the stories")
}

type Story = (&'static str, fn());

/// The stories by their names.
macro_rules! stories {
    ($($story:ident),* $(,)?) => { [$((stringify!($story), $story as fn())),*] };
}

const STORIES: [Story; 11] = stories![
    f007_a_name_that_is_not_to_be_had_is_told_and_healed,
    f007_a_name_that_is_lost_later_takes_no_token_away,
    f007_a_name_server_that_lies_is_told_and_healed,
    f010_localhost_is_this_machine_whatever_a_name_server_says,
    f008_a_resolver_that_hangs_holds_up_nothing,
    f008_a_resolver_that_hangs_costs_one_thread_and_delays_no_exit,
    f009_search_domains_and_answers_over_tcp_work,
    f009_trouble_with_any_search_domain_does_not_hide_a_full_name,
    f010_another_address_is_taken_at_the_next_exchange,
    f010_another_resolv_conf_is_read_at_the_next_exchange,
    f121_without_ipv6_a_name_with_both_is_reached,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let inside = std::env::var_os(INSIDE).is_some();
    if !inside && !arguments.list {
        return enter();
    }
    if inside {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "ip is there (iproute2)");
        assert!(NAMES.set(Names::start()).is_ok(), "it is started once");
    }
    let trials = STORIES.map(|(name, story)| {
        Trial::test(name, move || {
            story();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn enter() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("resolv.conf");
    let searched = SEARCHED.join(" ");
    let text = format!("nameserver 127.0.0.1\nsearch {searched}\noptions ndots:5 timeout:1 attempts:1\n");
    fs::write(&config, text).expect("a temporary folder");
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost both.test\n::1 localhost both.test\n")
        .expect("a temporary folder");
    let this = std::env::current_exe().expect("a program knows where it is");
    let script = format!(
        "mount --bind {} /etc/resolv.conf; mount --bind {} /etc/hosts; exec {} \"$@\"",
        config.display(),
        hosts.display(),
        this.display()
    );
    let status = tied("/usr/bin/unshare".as_ref())
        .args(["--user", "--map-root-user", "--net", "--mount", "sh", "-ec", &script, "sh"])
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .env("SIDECAR_BIN", shipped())
        .status();
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    if code.is_none() {
        let _ = writeln!(std::io::stderr(), "this test needs unshare with user namespaces (util-linux)");
    }
    ExitCode::from(code.unwrap_or(1))
}

/// A sidecar that asks for this name.
fn setup(endpoint: &Endpoint, volume: &Volume, name: &str) -> Setup {
    let url = format!("http://{name}:{}/dex/token", endpoint.address().port());
    Setup::new().subject(volume).set("dex_endpoint", url).set("DEXSIDECAR_ALLOW_INSECURE_HTTP", "true")
}

/// The same with this file for /etc/resolv.conf, which may be rewritten meanwhile.
fn with_resolver(setup: Setup, config: &Path) -> Setup {
    let script = "mount --bind \"$0\" /etc/resolv.conf; exec \"$@\"";
    let words = ["/usr/bin/unshare", "--mount", "/bin/sh", "-ec", script].map(Path::new);
    setup.program(&[&words[..], &[config, &program()]].concat())
}

fn f007_a_name_that_is_not_to_be_had_is_told_and_healed() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for (name, reply, code) in [
        ("absent.test", Reply::Absent, "name_not_found"),
        ("empty.test", Reply::Empty, "name_not_found"),
        ("failed.test", Reply::Failed, "name_lookup_failed"),
        ("refused.test", Reply::Refused, "name_lookup_failed"),
    ] {
        names().set(name, reply);
        let setup = setup(&endpoint, &volume, name);
        let told = broken(&report(&setup));
        assert_eq!(told["code"], code, "{name}: {told:#}");
        assert_eq!(told["rung"], "name");
        let mut sidecar = setup.run();
        sidecar.process.until_said(&format!("code={code}"), 1);
        names().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        sidecar.until_token();
        sidecar.process.until_said("recovered", 1);
    }
}

fn f007_a_name_that_is_lost_later_takes_no_token_away() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for (name, reply, code) in [
        ("absent-later.test", Reply::Absent, "name_not_found"),
        ("empty-later.test", Reply::Empty, "name_not_found"),
        ("failed-later.test", Reply::Failed, "name_lookup_failed"),
        ("refused-later.test", Reply::Refused, "name_lookup_failed"),
        ("silent-later.test", Reply::Silence, "name_lookup_failed"),
    ] {
        names().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        let mut sidecar = setup(&endpoint, &volume, name).run();
        let token = sidecar.until_token();
        names().set(name, reply);
        sidecar.process.signal(Signal::HUP);
        sidecar.process.until_said(&format!("code={code}"), 1);
        assert_eq!(sidecar.token(), Some(token), "{name}");
        assert_eq!(sidecar.setup().done(&["ready"]).code, Some(0), "{name}");
    }
}

/// Plain http is let through to this machine, with all its secrets, and a name server is not to lead it elsewhere.
fn f010_localhost_is_this_machine_whatever_a_name_server_says() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let elsewhere = Endpoint::start(&format!("127.0.0.3:{}", endpoint.address().port()), None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for name in ["localhost", "localhost.", "dex.localhost"] {
        names().set(name.trim_end_matches('.'), Reply::Address(Ipv4Addr::new(127, 0, 0, 3)));
        let setup = setup(&endpoint, &volume, name).unset("DEXSIDECAR_ALLOW_INSECURE_HTTP");
        assert_eq!(setup.done(&["once"]).code, Some(0), "{name}");
    }
    assert_eq!((endpoint.heard().len(), elsewhere.heard().len()), (3, 0));
}

/// Nothing that a name server can say makes it fall, hang or connect to where nobody said; when it tells the truth again, all
/// is well.
fn f007_a_name_server_that_lies_is_told_and_healed() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let lies = [Lie::Number, Lie::Circle, Lie::Pointer, Lie::Counts, Lie::Half, Lie::Truncated];
    std::thread::scope(|scope| {
        for lie in lies {
            let (endpoint, volume) = (&endpoint, &volume);
            scope.spawn(move || {
                let name = format!("{lie:?}.lies.test").to_lowercase();
                names().set(&name, Reply::Lie(lie));
                let mut sidecar =
                    setup(endpoint, volume, &format!("{name}.")).arguments("--attempt-timeout 4s").run();
                // Some resolvers read as much of it as makes sense.
                sidecar.process.until(&format!("{lie:?} is told or seen through"), |process| {
                    process.said("code=name_")
                        + process.said("code=timed_out")
                        + process.said("token written")
                        > 0
                });
                names().set(&name, Reply::Address(Ipv4Addr::LOCALHOST));
                sidecar.process.until_said("token written", 1);
                assert_eq!(sidecar.terminate(), Some(0), "{lie:?}");
            });
        }
    });
}

fn f008_a_resolver_that_hangs_holds_up_nothing() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let reply = |reply| {
        for suffix in ["", ".default.svc.cluster.local", ".svc.cluster.local", ".cluster.local"] {
            names().set(&format!("silent.test{suffix}"), reply);
        }
    };
    reply(Reply::Silence);
    let asks = || names().asked().iter().filter(|name| name.starts_with("silent.test")).count();
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 500ms").run();
    sidecar.process.until_said("code=timed_out", 1);
    drop(sidecar);
    // Four names that nobody answers for, a second each: whoever waits for the resolver is not done sooner.
    let before = asks();
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 5m").run();
    sidecar.process.until("it asks", |_| asks() > before);
    sidecar.process.signal(Signal::TERM);
    let ended = sidecar.process.ended_within(Duration::from_secs(3));
    assert_eq!(ended, Some(Some(0)), "in the middle of it\n{}", sidecar.process.timeline());
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 3s").run();
    let before = asks();
    sidecar.process.until("it asks", |_| asks() > before);
    reply(Reply::Address(Ipv4Addr::LOCALHOST));
    sidecar.until_token();
}

/// The resolver waits half a minute for each answer, and nothing here waits as long.
fn f008_a_resolver_that_hangs_costs_one_thread_and_delays_no_exit() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("resolv.conf");
    fs::write(&config, "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n").expect("a temporary folder");
    names().set("hangs.test", Reply::Silence);
    let asked = || names().asked().iter().filter(|name| *name == "hangs.test").count();
    let hanging = || with_resolver(setup(&endpoint, &volume, "hangs.test"), &config);

    let mut sidecar = hanging().arguments("--attempt-timeout 5m").run();
    sidecar.process.until("it asks", |_| asked() > 0);
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.ended_within(Duration::from_secs(10)), Some(Some(0)));

    let mut sidecar = hanging().arguments("--attempt-timeout 200ms --log-level debug").run();
    sidecar.process.until_said("code=timed_out", 4);
    let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.process.pid())).expect("it runs").count();
    assert!(tasks <= 2, "{tasks} threads");
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.ended_within(Duration::from_secs(10)), Some(Some(0)));
}

/// No address of the sixth version, not even one's own; the files of names know nothing of that.
fn f121_without_ipv6_a_name_with_both_is_reached() {
    for interface in ["all", "lo"] {
        let flag = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        // A kernel without it has no such file.
        let _ = fs::write(flag, "1");
    }
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let port = endpoint.address().port();
    let other = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect_err("there is no such address");
    assert_ne!(other.kind(), ErrorKind::ConnectionRefused, "nobody listens there, but there is somewhere");
    let volume = Volume::with("eyJh.eyJi.canary");
    for name in ["localhost", "both.test"] {
        let mut sidecar = setup(&endpoint, &volume, name).run();
        sidecar.until_token();
        sidecar.process.until_said("token written", 1);
        assert_eq!(sidecar.process.said("code="), 0, "{name}: {}", sidecar.process.output());
    }
}

fn f009_search_domains_and_answers_over_tcp_work() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    // A Service's short name is found by the search list; a full one only after all of it, as ndots:5 has it.
    names().set("dex.svc.cluster.local", Reply::Address(Ipv4Addr::LOCALHOST));
    names().set("dex.example.test", Reply::Address(Ipv4Addr::LOCALHOST));
    names().set("long.example.test", Reply::Truncated(Ipv4Addr::LOCALHOST));
    for name in ["dex", "dex.example.test", "long.example.test."] {
        let setup = setup(&endpoint, &volume, name);
        let done = setup.done(&["once"]);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
    }
    let asked = names().asked();
    assert!(
        asked.iter().any(|name| name == "dex.example.test.c.example"),
        "the whole list is gone through: {asked:?}"
    );
}

/// One that SERVFAILs, refuses or knows nothing, wherever it stands in the list. And one whose answer is too long for UDP.
fn f009_trouble_with_any_search_domain_does_not_hide_a_full_name() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    std::thread::scope(|scope| {
        for (number, suffix) in SEARCHED.into_iter().enumerate() {
            let (endpoint, volume) = (&endpoint, &volume);
            scope.spawn(move || {
                let is_found = |name: &str| {
                    let done = setup(endpoint, volume, name).done(&["once", "--timeout", "20s"]);
                    assert_eq!(done.code, Some(0), "{name} with {suffix}: {}", done.stderr);
                };
                for reply in [Reply::Failed, Reply::Refused, Reply::Empty] {
                    let name = format!("{reply:?}-{number}.example.test").to_lowercase();
                    names().set(&format!("{name}.{suffix}"), reply);
                    names().set(&name, Reply::Address(Ipv4Addr::LOCALHOST));
                    is_found(&name);
                }
                names().set(&format!("long-{number}.{suffix}"), Reply::Truncated(Ipv4Addr::LOCALHOST));
                is_found(&format!("long-{number}"));
            });
        }
    });
}

fn f010_another_address_is_taken_at_the_next_exchange() {
    let first = Endpoint::start("127.0.0.1:0", None);
    let second = Endpoint::start(&format!("127.0.0.2:{}", first.address().port()), None);
    for endpoint in [&first, &second] {
        endpoint.always(Answer::Token(4));
    }
    let volume = Volume::with("eyJh.eyJi.canary");
    names().set("moves.test", Reply::Address(Ipv4Addr::LOCALHOST));
    let _sidecar = setup(&first, &volume, "moves.test").run();
    first.until_heard(1);
    names().set("moves.test", Reply::Address(Ipv4Addr::new(127, 0, 0, 2)));
    second.until_heard(1);
}

fn f010_another_resolv_conf_is_read_at_the_next_exchange() {
    let first = Endpoint::start("127.0.0.1:0", None);
    let second = Endpoint::start(&format!("127.0.0.2:{}", first.address().port()), None);
    let volume = Volume::with("eyJh.eyJi.canary");
    names().set("rewritten.old.example", Reply::Address(Ipv4Addr::LOCALHOST));
    names().set("rewritten.new.example", Reply::Address(Ipv4Addr::new(127, 0, 0, 2)));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("resolv.conf");
    let write = |server: &str, searched: &str| {
        let text = format!("nameserver {server}\nsearch {searched}\noptions ndots:5 timeout:1 attempts:1\n");
        fs::write(&config, text).expect("a temporary folder");
    };
    // Nobody is there to be asked.
    write("127.0.0.9", "old.example");
    let mut sidecar = with_resolver(setup(&first, &volume, "rewritten"), &config).run();
    sidecar.process.until_said("code=name_lookup_failed", 1);
    write("127.0.0.1", "old.example");
    first.until_heard(1);
    let token = sidecar.until_token();
    write("127.0.0.1", "new.example");
    sidecar.process.signal(Signal::HUP);
    second.until_heard(1);
    sidecar.until_another_token(&token);
}
