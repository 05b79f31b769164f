//! Several name servers, and servers that answer over one transport only.

use std::net::Ipv4Addr;
use std::time::Duration;

use dexsidecar_e2e::dns_server::{FIRST, Lie, Over, Reply, Rule, SECOND, TCP_ONLY, THIRD};

use super::{Dex, Etc, ONCE, Test, names, only, tests};

pub(crate) const TESTS: &[Test] = tests![
    f128_a_quicker_server_does_not_overrule_the_first,
    f128_the_next_server_is_asked_where_one_is_in_trouble,
    f128_the_first_server_that_denies_a_name_is_believed,
    f128_trouble_of_all_servers_is_reported_and_heals,
    f128_a_silent_server_does_not_cost_its_timeout_for_each_search_domain,
    f130_dns_over_tcp_is_used_where_it_is_asked_for,
    f130_dns_over_tcp_is_used_where_udp_is_closed_or_dropped,
    f130_closed_tcp_is_reported_and_heals,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);
const THREE: &str = "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n";

fn f128_a_quicker_server_does_not_overrule_the_first() {
    let dex = Dex::start();
    for (name, quick) in [("quick-absent.test", Reply::Absent), ("quick-empty.test", Reply::Empty)] {
        names().set(name, quick);
        names().set_at(FIRST, name, Rule::from(HERE).after(Duration::from_millis(200)));
        let found = dex.looked_up(&Etc::with(format!("{THREE}options timeout:5\n")), name);
        assert_eq!(found, Ok(only("127.0.0.1")), "{name}");
        let others = names().queries(name).iter().filter(|query| query.server != FIRST).count();
        assert_eq!(others, 0, "{name}");
    }
}

fn f128_the_next_server_is_asked_where_one_is_in_trouble() {
    let dex = Dex::start();
    let troubles = [
        Reply::Silence,
        Reply::Failed,
        Reply::Refused,
        Reply::Code(1),
        Reply::Code(4),
        Reply::Code(9),
        Reply::Lame,
        Reply::Lie(Lie::Noise),
        Reply::Lie(Lie::Number),
        Reply::Lie(Lie::Truncated),
    ];
    std::thread::scope(|scope| {
        for (number, trouble) in troubles.into_iter().enumerate() {
            let dex = &dex;
            scope.spawn(move || {
                let name = format!("trouble-{number}.test");
                names().set(&name, trouble);
                names().set_at(THIRD, &name, HERE);
                let etc = Etc::with(format!("{THREE}options timeout:1 attempts:1\n"));
                assert_eq!(dex.looked_up(&etc, &name), Ok(only("127.0.0.1")), "{trouble:?}");
            });
        }
        // Nobody is there, and no way leads there.
        for server in ["127.0.0.9", "10.1.2.3", "fd00::1"] {
            let dex = &dex;
            scope.spawn(move || {
                names().set("next.test", HERE);
                let text = format!("nameserver {server}\nnameserver 127.0.0.2\noptions timeout:30\n");
                assert_eq!(dex.looked_up(&Etc::with(text), "next.test"), Ok(only("127.0.0.1")), "{server}");
            });
        }
    });
}

/// Split DNS works by the order of the servers, so the second is not asked what the first has answered.
fn f128_the_first_server_that_denies_a_name_is_believed() {
    let dex = Dex::start();
    for (name, reply) in [("first-absent.test", Reply::Absent), ("first-empty.test", Reply::Empty)] {
        names().set(name, HERE);
        names().set_at(FIRST, name, reply);
        let failed = dex.looked_up(&Etc::with(THREE), name).expect_err("the first says so");
        assert_eq!(failed.0, "name_not_found");
        assert!(failed.1.contains(name) && failed.1.contains("127.0.0.1"), "{}", failed.1);
        let others = names().queries(name).iter().filter(|query| query.server != FIRST).count();
        assert_eq!(others, 0, "{name}");
    }
}

fn f128_trouble_of_all_servers_is_reported_and_heals() {
    let dex = Dex::start();
    names().set_at(FIRST, "all.test", Reply::Failed);
    names().set_at(SECOND, "all.test", Reply::Refused);
    names().set_at(THIRD, "all.test", Reply::Silence);
    let etc = Etc::with(format!("{THREE}options timeout:1 attempts:1\n"));
    let failed = dex.looked_up(&etc, "all.test").expect_err("nobody answers");
    assert_eq!(failed.0, "name_lookup_failed");
    for words in ["127.0.0.1", "SERVFAIL", "127.0.0.2", "REFUSED", "127.0.0.3", "no answer within 1s"] {
        assert!(failed.1.contains(words), "{words}: {}", failed.1);
    }
    let mut sidecar = etc.around(dex.under("all.test")).run();
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    names().set_at(SECOND, "all.test", HERE);
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

/// The deadline of `check` is 15 s, and 20 names are asked for.
fn f128_a_silent_server_does_not_cost_its_timeout_for_each_search_domain() {
    let dex = Dex::start();
    let domains: Vec<String> = (0..20).map(|number| format!("{number}.quiet.example")).collect();
    for domain in &domains {
        names().set_at(FIRST, &format!("quiet.{domain}"), Reply::Silence);
    }
    names().set_at(FIRST, "quiet", Reply::Silence);
    names().set_at(SECOND, "quiet", HERE);
    let text = format!(
        "nameserver 127.0.0.1\nnameserver 127.0.0.2\nsearch {}\noptions ndots:5 timeout:2\n",
        domains.join(" ")
    );
    assert_eq!(dex.looked_up(&Etc::with(text), "quiet"), Ok(only("127.0.0.1")));
}

fn f130_dns_over_tcp_is_used_where_it_is_asked_for() {
    let dex = Dex::start();
    for (number, option) in ["use-vc", "usevc", "tcp"].into_iter().enumerate() {
        let name = format!("vc-{number}.test");
        names().set(&name, Rule::from(HERE).over(Over::Tcp));
        let text = format!("nameserver 127.0.0.1\noptions {option} timeout:1 attempts:1\n");
        assert_eq!(dex.looked_up(&Etc::with(text), &name), Ok(only("127.0.0.1")), "{option}");
        let queries = names().queries(&name);
        assert!(!queries.is_empty() && queries.iter().all(|query| query.tcp), "{queries:?}");
    }
}

fn f130_dns_over_tcp_is_used_where_udp_is_closed_or_dropped() {
    let dex = Dex::start();
    names().set("udp-closed.test", HERE);
    for options in ["", "options attempts:1\n"] {
        let etc = Etc::with(format!("nameserver {TCP_ONLY}\n{options}"));
        assert_eq!(dex.looked_up(&etc, "udp-closed.test"), Ok(only("127.0.0.1")), "{options}");
    }
    // The default is two attempts; only how long each takes is changed.
    names().set("udp-dropped.test", Rule::from(HERE).over(Over::Tcp));
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:1\n");
    assert_eq!(dex.looked_up(&etc, "udp-dropped.test"), Ok(only("127.0.0.1")));
    // The defaults of a file without options (5 s, twice) fit into the deadline of an exchange (15 s).
    let etc = Etc::with("nameserver 127.0.0.1\n");
    let mut sidecar = etc.around(dex.under("udp-dropped.test")).run();
    sidecar.until_token();
    assert_eq!(sidecar.process.logged("attempt_failed"), 0, "{}", sidecar.process.timeline());
}

fn f130_closed_tcp_is_reported_and_heals() {
    let dex = Dex::start();
    names().set("tcp-closed.test", HERE);
    let etc = Etc::with("nameserver 127.0.0.5\noptions use-vc timeout:1 attempts:1\n");
    let failed = dex.looked_up(&etc, "tcp-closed.test").expect_err("nobody listens");
    assert_eq!(failed.0, "name_lookup_failed");
    assert!(failed.1.contains("127.0.0.5") && failed.1.contains("connection refused"), "{}", failed.1);
    let mut sidecar = etc.around(dex.under("tcp-closed.test")).run();
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    etc.write("resolv.conf", ONCE);
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}
