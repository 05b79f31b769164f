//! A real CoreDNS with Kubernetes' Corefile. These tests run in the long form only.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::OnceLock;

use dexsidecar_e2e::coredns::CoreDns;
use dexsidecar_e2e::dns_server::{FIRST, Family, Reply};
use rustix::process::Signal;

use super::{COREDNS, Dex, Etc, Test, dns, only, tests};

pub(crate) const TESTS: &[Test] = tests![
    f126_coredns_finds_a_service_under_each_of_its_names,
    f124_an_error_of_coredns_for_aaaa_does_not_hide_an_address,
    f007_a_denied_name_and_a_lost_upstream_of_coredns_are_reported,
    f130_names_are_resolved_by_coredns_over_tcp,
    f131_large_answers_of_coredns_are_used,
    f128_the_token_stays_while_coredns_is_down,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);
const SHARED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

fn binary() -> PathBuf {
    std::env::var_os(COREDNS).expect("it is built before the namespace is entered").into()
}

/// The CoreDNS that tests share. It is killed with the main thread, which starts it.
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
    dns().set("dex.upstream.example", HERE);
    dns().set("external.upstream.example", HERE);
    for (name, etc) in [
        // Services have no AAAA record, so that answer has no records.
        ("dex", pod("")),
        ("dex.auth", pod("")),
        ("dex.auth.svc", pod("")),
        ("DEX.auth.svc.cluster.local", pod("")),
        ("dex.auth.svc.cluster.local", pod("ndots:2")),
        ("dex.auth.svc", pod("ndots:2")),
        ("dex.auth.svc.cluster.local", pod("single-request")),
        // An ExternalName, a name outside the cluster and a name of the hosts plugin, after three
        // search domains.
        ("external", pod("")),
        ("dex.upstream.example", pod("")),
        ("dex.hosts.example", pod("")),
    ] {
        assert_eq!(dex.resolve(&etc, name), Ok(only("127.0.0.1")), "{name}");
    }
    let dual = dex.resolve(&pod(""), "dual").expect("the name resolves");
    assert_eq!(dual.len(), 2, "{dual:?}");
    let done = pod("").mounted_for(dex.under("dex.auth.svc.cluster.local")).execute(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

fn f124_an_error_of_coredns_for_aaaa_does_not_hide_an_address() {
    let dex = Dex::start();
    for (number, reply) in
        [Reply::Failed, Reply::Refused, Reply::Absent, Reply::Code(4), Reply::Silence].into_iter().enumerate()
    {
        let name = format!("apart-{number}.upstream.example");
        dns().set_family(&name, Family::A, HERE);
        dns().set_family(&name, Family::Aaaa, reply);
        assert_eq!(dex.resolve(&pod(""), &name), Ok(only("127.0.0.1")), "AAAA {reply:?}");
    }
}

fn f007_a_denied_name_and_a_lost_upstream_of_coredns_are_reported() {
    let dex = Dex::start();
    for (name, reply, code, words) in [
        ("absent.upstream.example", Reply::Absent, "name_not_found", "NXDOMAIN"),
        ("empty.upstream.example", Reply::Empty, "name_not_found", "no address"),
        ("failed.upstream.example", Reply::Failed, "name_lookup_failed", "SERVFAIL"),
        ("refused.upstream.example", Reply::Refused, "name_lookup_failed", "REFUSED"),
        ("lost.upstream.example", Reply::Silence, "name_lookup_failed", "127.0.0.6"),
    ] {
        dns().set(name, reply);
        let etc = pod("timeout:3 attempts:1");
        let failed = dex.resolve(&etc, name).expect_err("the name does not resolve");
        assert_eq!(failed.0, code, "{name}: {}", failed.1);
        assert!(failed.1.contains(name) && failed.1.contains(words), "{}", failed.1);
        let mut sidecar = etc.mounted_for(dex.under(name)).run();
        sidecar.process.until_logged(&format!("code={code}"), 1);
        dns().set(name, HERE);
        // CoreDNS caches NXDOMAIN for 30 s and errors for 5 s.
        sidecar.until_token();
        sidecar.process.until_logged("recovered", 1);
    }
    let failed =
        dex.resolve(&pod(""), "nowhere.auth.svc.cluster.local").expect_err("the Service does not exist");
    assert_eq!(failed.0, "name_not_found");
}

fn f130_names_are_resolved_by_coredns_over_tcp() {
    let dex = Dex::start();
    dns().set("tcp.upstream.example", HERE);
    for name in ["dex", "dex.auth.svc.cluster.local", "tcp.upstream.example"] {
        assert_eq!(dex.resolve(&pod("use-vc"), name), Ok(only("127.0.0.1")), "{name}");
    }
}

/// At most 75 addresses of a family are used; the names have 60 and 120.
fn f131_large_answers_of_coredns_are_used() {
    let dex = Dex::start();
    for (name, used) in [("many", 60), ("more", 75)] {
        let found = dex.resolve(&pod(""), name).expect("the name resolves");
        assert_eq!(found.len(), used, "{found:?}");
    }
}

fn f128_the_token_stays_while_coredns_is_down() {
    let dex = Dex::start();
    let etc = resolv_conf(OWN, "");
    let mut coredns = CoreDns::start(&binary(), OWN, FIRST);
    let mut sidecar = etc.mounted_for(dex.under("dex")).run();
    let token = sidecar.until_token();
    coredns.kill();
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&token), "the token stays");
    coredns.restart();
    sidecar.until_another_token(&token);
    sidecar.process.until_logged("recovered", 1);
}
