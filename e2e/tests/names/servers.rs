//! Several DNS servers, and servers that answer over one transport only.

use std::net::Ipv4Addr;
use std::time::Duration;

use dexsidecar_e2e::dns_server::{FIRST, Lie, Reply, Rule, SECOND, TCP_ONLY, THIRD, Transport};

use super::{Dex, Etc, ONCE, Test, dns, only, tests};

pub(crate) const TESTS: &[Test] = tests![
    f128_a_faster_server_does_not_replace_the_first,
    f128_the_next_server_is_queried_after_an_error,
    f128_the_first_server_that_denies_a_name_is_believed,
    f128_errors_of_all_servers_are_reported_and_the_name_is_used_later,
    f128_the_timeout_of_a_silent_server_applies_once_and_not_per_search_domain,
    f130_dns_over_tcp_is_used_if_it_is_configured,
    f130_dns_over_tcp_is_used_if_udp_is_closed_or_dropped,
    f130_closed_tcp_is_reported_and_the_name_is_used_later,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);
const THREE: &str = "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n";

fn f128_a_faster_server_does_not_replace_the_first() {
    let dex = Dex::start();
    for (name, quick) in [("quick-absent.test", Reply::Absent), ("quick-empty.test", Reply::Empty)] {
        dns().set(name, quick);
        dns().set_at(FIRST, name, Rule::from(HERE).after(Duration::from_millis(200)));
        let found = dex.resolve(&Etc::with(format!("{THREE}options timeout:5\n")), name);
        assert_eq!(found, Ok(only("127.0.0.1")), "{name}");
        let others = dns().queries(name).iter().filter(|query| query.server != FIRST).count();
        assert_eq!(others, 0, "{name}");
    }
}

fn f128_the_next_server_is_queried_after_an_error() {
    let dex = Dex::start();
    let errors = [
        Reply::Silence,
        Reply::Failed,
        Reply::Refused,
        Reply::Code(1),
        Reply::Code(4),
        Reply::Code(9),
        Reply::Lame,
        Reply::Lie(Lie::Noise),
        Reply::Lie(Lie::WrongId),
        Reply::Lie(Lie::Truncated),
    ];
    std::thread::scope(|scope| {
        for (number, error) in errors.into_iter().enumerate() {
            let dex = &dex;
            scope.spawn(move || {
                let name = format!("error-{number}.test");
                dns().set(&name, error);
                dns().set_at(THIRD, &name, HERE);
                let etc = Etc::with(format!("{THREE}options timeout:1 attempts:1\n"));
                assert_eq!(dex.resolve(&etc, &name), Ok(only("127.0.0.1")), "{error:?}");
            });
        }
        // The first address has no server, the others have no route.
        for server in ["127.0.0.9", "10.1.2.3", "fd00::1"] {
            let dex = &dex;
            scope.spawn(move || {
                dns().set("next.test", HERE);
                let text = format!("nameserver {server}\nnameserver 127.0.0.2\noptions timeout:30\n");
                assert_eq!(dex.resolve(&Etc::with(text), "next.test"), Ok(only("127.0.0.1")), "{server}");
            });
        }
    });
}

/// Split DNS depends on the order of the servers, so the second is not queried for what the first
/// has answered.
fn f128_the_first_server_that_denies_a_name_is_believed() {
    let dex = Dex::start();
    for (name, reply) in [("first-absent.test", Reply::Absent), ("first-empty.test", Reply::Empty)] {
        dns().set(name, HERE);
        dns().set_at(FIRST, name, reply);
        let failed = dex.resolve(&Etc::with(THREE), name).expect_err("the first server denies it");
        assert_eq!(failed.0, "name_not_found");
        assert!(failed.1.contains(name) && failed.1.contains("127.0.0.1"), "{}", failed.1);
        let others = dns().queries(name).iter().filter(|query| query.server != FIRST).count();
        assert_eq!(others, 0, "{name}");
    }
}

fn f128_errors_of_all_servers_are_reported_and_the_name_is_used_later() {
    let dex = Dex::start();
    dns().set_at(FIRST, "all.test", Reply::Failed);
    dns().set_at(SECOND, "all.test", Reply::Refused);
    dns().set_at(THIRD, "all.test", Reply::Silence);
    let etc = Etc::with(format!("{THREE}options timeout:1 attempts:1\n"));
    let failed = dex.resolve(&etc, "all.test").expect_err("no server answers");
    assert_eq!(failed.0, "name_lookup_failed");
    for text in ["127.0.0.1", "SERVFAIL", "127.0.0.2", "REFUSED", "127.0.0.3", "no answer within 1s"] {
        assert!(failed.1.contains(text), "{text}: {}", failed.1);
    }
    let mut sidecar = etc.mounted_for(dex.under("all.test")).run();
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    dns().set_at(SECOND, "all.test", HERE);
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

/// The deadline of `check` is 15 s, and 20 names are queried.
fn f128_the_timeout_of_a_silent_server_applies_once_and_not_per_search_domain() {
    let dex = Dex::start();
    let domains: Vec<String> = (0..20).map(|number| format!("{number}.quiet.example")).collect();
    for domain in &domains {
        dns().set_at(FIRST, &format!("quiet.{domain}"), Reply::Silence);
    }
    dns().set_at(FIRST, "quiet", Reply::Silence);
    dns().set_at(SECOND, "quiet", HERE);
    let text = format!(
        "nameserver 127.0.0.1\nnameserver 127.0.0.2\nsearch {}\noptions ndots:5 timeout:2\n",
        domains.join(" ")
    );
    assert_eq!(dex.resolve(&Etc::with(text), "quiet"), Ok(only("127.0.0.1")));
}

fn f130_dns_over_tcp_is_used_if_it_is_configured() {
    let dex = Dex::start();
    for (number, option) in ["use-vc", "usevc", "tcp"].into_iter().enumerate() {
        let name = format!("vc-{number}.test");
        dns().set(&name, Rule::from(HERE).over(Transport::Tcp));
        let text = format!("nameserver 127.0.0.1\noptions {option} timeout:1 attempts:1\n");
        assert_eq!(dex.resolve(&Etc::with(text), &name), Ok(only("127.0.0.1")), "{option}");
        let queries = dns().queries(&name);
        assert!(!queries.is_empty() && queries.iter().all(|query| query.tcp), "{queries:?}");
    }
}

fn f130_dns_over_tcp_is_used_if_udp_is_closed_or_dropped() {
    let dex = Dex::start();
    dns().set("udp-closed.test", HERE);
    for options in ["", "options attempts:1\n"] {
        let etc = Etc::with(format!("nameserver {TCP_ONLY}\n{options}"));
        assert_eq!(dex.resolve(&etc, "udp-closed.test"), Ok(only("127.0.0.1")), "{options}");
    }
    // Two attempts, the default, with a shorter timeout.
    dns().set("udp-dropped.test", Rule::from(HERE).over(Transport::Tcp));
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:1\n");
    assert_eq!(dex.resolve(&etc, "udp-dropped.test"), Ok(only("127.0.0.1")));
    // The defaults of a file without options, 5 s twice, fit into the 15 s of an attempt.
    let etc = Etc::with("nameserver 127.0.0.1\n");
    let mut sidecar = etc.mounted_for(dex.under("udp-dropped.test")).run();
    sidecar.until_token();
    assert_eq!(sidecar.process.logged("attempt_failed"), 0, "{}", sidecar.process.timeline());
}

fn f130_closed_tcp_is_reported_and_the_name_is_used_later() {
    let dex = Dex::start();
    dns().set("tcp-closed.test", HERE);
    let etc = Etc::with("nameserver 127.0.0.5\noptions use-vc timeout:1 attempts:1\n");
    let failed = dex.resolve(&etc, "tcp-closed.test").expect_err("no server listens");
    assert_eq!(failed.0, "name_lookup_failed");
    assert!(failed.1.contains("127.0.0.5") && failed.1.contains("connection refused"), "{}", failed.1);
    let mut sidecar = etc.mounted_for(dex.under("tcp-closed.test")).run();
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    etc.write("resolv.conf", ONCE);
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}
