//! A real CoreDNS with Kubernetes' Corefile, in the long form of the tests.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::OnceLock;

use dexsidecar_e2e::coredns::CoreDns;
use dexsidecar_e2e::dns_server::{FIRST, Family, Reply};
use rustix::process::Signal;

use super::{COREDNS, Dex, Etc, Test, names, only, tests};

/// In the short form they count as ignored.
pub(crate) const TESTS: &[Test] = tests![
    f126_coredns_finds_a_service_under_each_of_its_names,
    f124_coredns_with_errors_of_its_upstream_is_used_for_what_it_knows,
    f007_coredns_that_denies_a_name_or_lost_its_upstream_is_reported,
    f130_coredns_is_asked_over_tcp,
    f131_coredns_sends_large_answers,
    f128_coredns_is_killed_and_started_again,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);
const SHARED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

fn binary() -> PathBuf {
    std::env::var_os(COREDNS).expect("it is built before the namespace is entered").into()
}

/// The CoreDNS that tests share. It ends with the main thread, which starts it.
static RUNNING: OnceLock<CoreDns> = OnceLock::new();

pub(crate) fn start() {
    let coredns = CoreDns::start(&binary(), SHARED, FIRST);
    assert!(RUNNING.set(coredns).is_ok(), "it is started once");
}

/// The resolv.conf of a pod in the namespace `auth` whose DNS is the shared CoreDNS.
fn pod(options: &str) -> Etc {
    resolv_conf(SHARED, options)
}

fn resolv_conf(server: Ipv4Addr, options: &str) -> Etc {
    let search = "search auth.svc.cluster.local svc.cluster.local cluster.local";
    Etc::with(format!("{search}\nnameserver {server}\noptions ndots:5 {options}\n"))
}

fn f126_coredns_finds_a_service_under_each_of_its_names() {
    let dex = Dex::start();
    names().set("dex.upstream.example", HERE);
    names().set("external.upstream.example", HERE);
    for (name, etc) in [
        // Services have no AAAA record: an answer without records.
        ("dex", pod("")),
        ("dex.auth", pod("")),
        ("dex.auth.svc", pod("")),
        ("DEX.auth.svc.cluster.local", pod("")),
        ("dex.auth.svc.cluster.local", pod("ndots:2")),
        ("dex.auth.svc", pod("ndots:2")),
        ("dex.auth.svc.cluster.local", pod("single-request")),
        // An ExternalName, a name outside, and one of the hosts plugin, behind three search domains.
        ("external", pod("")),
        ("dex.upstream.example", pod("")),
        ("dex.hosts.example", pod("")),
    ] {
        assert_eq!(dex.looked_up(&etc, name), Ok(only("127.0.0.1")), "{name}");
    }
    let dual = dex.looked_up(&pod(""), "dual").expect("it is there");
    assert_eq!(dual.len(), 2, "{dual:?}");
    let done = pod("").around(dex.under("dex.auth.svc.cluster.local")).done(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

fn f124_coredns_with_errors_of_its_upstream_is_used_for_what_it_knows() {
    let dex = Dex::start();
    for (number, reply) in
        [Reply::Failed, Reply::Refused, Reply::Absent, Reply::Code(4), Reply::Silence].into_iter().enumerate()
    {
        let name = format!("apart-{number}.upstream.example");
        names().set_family(&name, Family::A, HERE);
        names().set_family(&name, Family::Aaaa, reply);
        assert_eq!(dex.looked_up(&pod(""), &name), Ok(only("127.0.0.1")), "AAAA {reply:?}");
    }
}

fn f007_coredns_that_denies_a_name_or_lost_its_upstream_is_reported() {
    let dex = Dex::start();
    for (name, reply, code, words) in [
        ("absent.upstream.example", Reply::Absent, "name_not_found", "NXDOMAIN"),
        ("empty.upstream.example", Reply::Empty, "name_not_found", "no address"),
        ("failed.upstream.example", Reply::Failed, "name_lookup_failed", "SERVFAIL"),
        ("refused.upstream.example", Reply::Refused, "name_lookup_failed", "REFUSED"),
        ("lost.upstream.example", Reply::Silence, "name_lookup_failed", "127.0.0.6"),
    ] {
        names().set(name, reply);
        let etc = pod("timeout:3 attempts:1");
        let failed = dex.looked_up(&etc, name).expect_err("nobody knows it");
        assert_eq!(failed.0, code, "{name}: {}", failed.1);
        assert!(failed.1.contains(name) && failed.1.contains(words), "{}", failed.1);
        let mut sidecar = etc.around(dex.under(name)).run();
        sidecar.process.until_logged(&format!("code={code}"), 1);
        names().set(name, HERE);
        // CoreDNS remembers denials for 30 s, and errors for 5 s.
        sidecar.until_token();
        sidecar.process.until_logged("recovered", 1);
    }
    let failed =
        dex.looked_up(&pod(""), "nowhere.auth.svc.cluster.local").expect_err("there is no such Service");
    assert_eq!(failed.0, "name_not_found");
}

fn f130_coredns_is_asked_over_tcp() {
    let dex = Dex::start();
    names().set("tcp.upstream.example", HERE);
    for name in ["dex", "dex.auth.svc.cluster.local", "tcp.upstream.example"] {
        assert_eq!(dex.looked_up(&pod("use-vc"), name), Ok(only("127.0.0.1")), "{name}");
    }
}

/// No more than 75 addresses of a family are used: 60 and 120 are there.
fn f131_coredns_sends_large_answers() {
    let dex = Dex::start();
    for (name, used) in [("many", 60), ("more", 75)] {
        let found = dex.looked_up(&pod(""), name).expect("it is there");
        assert_eq!(found.len(), used, "{found:?}");
    }
}

fn f128_coredns_is_killed_and_started_again() {
    let dex = Dex::start();
    let etc = resolv_conf(OWN, "");
    let mut coredns = CoreDns::start(&binary(), OWN, FIRST);
    let mut sidecar = etc.around(dex.under("dex")).run();
    let token = sidecar.until_token();
    coredns.kill();
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&token), "the token stays");
    coredns.start_again();
    sidecar.until_another_token(&token);
    sidecar.process.until_logged("recovered", 1);
}
