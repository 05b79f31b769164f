//! Queries for A and AAAA of which one fails, is lost or is late.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dexsidecar_e2e::dns_server::{Family, Lie, Reply, Rule};
use dexsidecar_e2e::log_events::select;

use super::{Dex, Etc, ONCE, Test, dns, only, tests};

pub(crate) const TESTS: &[Test] = tests![
    f124_an_error_for_one_family_does_not_hide_the_other,
    f124_both_families_fail_until_one_recovers,
    f125_a_lost_family_does_not_hide_the_other,
    f125_a_lost_query_is_repeated,
    f125_a_late_answer_for_one_family_is_used,
    f125_addresses_without_a_route_do_not_cut_off_the_other_family,
    f125_no_aaaa_queries_for_a_only,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);
const UNIQUE_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);

/// Sets two names: one has an IPv4 address and this reply for AAAA, one an IPv6 address and it for
/// A.
fn set_one_family(number: usize, wrong: Reply) -> [(String, &'static str); 2] {
    let cases = [
        (Family::A, Family::Aaaa, HERE, "127.0.0.1"),
        (Family::Aaaa, Family::A, Reply::AddressV6(UNIQUE_LOCAL), "fd00::7"),
    ];
    cases.map(|(valid, faulty, reply, address)| {
        let name = format!("apart-{number}-{faulty:?}.test").to_lowercase();
        dns().set_family(&name, valid, reply);
        dns().set_family(&name, faulty, wrong);
        (name, address)
    })
}

fn f124_an_error_for_one_family_does_not_hide_the_other() {
    let dex = Dex::start();
    let wrong = [
        Reply::Absent,
        Reply::Failed,
        Reply::Refused,
        Reply::Code(1),
        Reply::Code(4),
        Reply::Code(9),
        Reply::Code(15),
        Reply::Empty,
        Reply::Lame,
        Reply::Lie(Lie::WrongLength),
        Reply::Lie(Lie::WrongId),
        Reply::Lie(Lie::Truncated),
    ];
    let servers = ["", "nameserver 127.0.0.2\n"];
    let options = ["timeout:1 attempts:1", "timeout:1 attempts:1 single-request", "timeout:1 ndots:5"];
    std::thread::scope(|scope| {
        for (number, wrong) in wrong.into_iter().enumerate() {
            let dex = &dex;
            scope.spawn(move || {
                for (name, address) in set_one_family(number, wrong) {
                    for (more, options) in servers.into_iter().zip(options) {
                        let etc = Etc::with(format!("nameserver 127.0.0.1\n{more}options {options}\n"));
                        let found = dex.resolve(&etc, &name);
                        assert_eq!(found, Ok(only(address)), "{name}: {wrong:?}, {options}");
                    }
                }
            });
        }
    });
}

fn f124_both_families_fail_until_one_recovers() {
    let dex = Dex::start();
    for (number, (a, aaaa, code)) in [
        (Reply::Failed, Reply::Absent, "name_lookup_failed"),
        (Reply::Code(4), Reply::Code(4), "name_lookup_failed"),
        (Reply::Absent, Reply::Failed, "name_not_found"),
        (Reply::Empty, Reply::Absent, "name_not_found"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("both-fail-{number}.test");
        dns().set_family(&name, Family::A, a);
        dns().set_family(&name, Family::Aaaa, aaaa);
        let etc = Etc::with(ONCE);
        let mut sidecar = etc.mounted_for(dex.under(&name)).run();
        sidecar.process.until_logged(&format!("code={code}"), 1);
        dns().set_family(&name, Family::A, HERE);
        sidecar.until_token();
        sidecar.process.until_logged("recovered", 1);
    }
}

/// The timeouts are longer than the deadline of `check` (15 s), so that only the answer for the
/// other family ends the wait.
fn f125_a_lost_family_does_not_hide_the_other() {
    let dex = Dex::start();
    for (name, address) in set_one_family(125, Reply::Silence) {
        for options in ["timeout:30 attempts:5", "timeout:5 attempts:5 ndots:5"] {
            let etc = Etc::with(format!("nameserver 127.0.0.1\nsearch a.example\noptions {options}\n"));
            assert_eq!(dex.resolve(&etc, &name), Ok(only(address)), "{name}, {options}");
        }
    }
    // No query for AAAA is answered, and the search list is used to its end.
    for name in ["lost-aaaa.svc.cluster.local", "lost-aaaa.default.svc.cluster.local", "lost-aaaa"] {
        dns().set_family(name, Family::Aaaa, Reply::Silence);
    }
    dns().set_family("lost-aaaa.cluster.local", Family::A, HERE);
    let search =
        "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:30";
    let etc = Etc::with(format!("nameserver 127.0.0.1\n{search}\n"));
    assert_eq!(dex.resolve(&etc, "lost-aaaa"), Ok(only("127.0.0.1")));
    dns().set_family("lost-single.test", Family::A, HERE);
    dns().set_family("lost-single.test", Family::Aaaa, Reply::Silence);
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:30 single-request\n");
    assert_eq!(dex.resolve(&etc, "lost-single.test"), Ok(only("127.0.0.1")));
}

fn f125_a_lost_query_is_repeated() {
    let dex = Dex::start();
    dns().set_family("lost-once.test", Family::A, Rule::from(HERE).lost(1));
    dns().set_family("lost-once.test", Family::Aaaa, Rule::from(Reply::Empty).lost(1));
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n");
    assert_eq!(dex.resolve(&etc, "lost-once.test"), Ok(only("127.0.0.1")));
    dns().set("lost-twice.test", Rule::from(HERE).lost(4));
    let failed = dex.resolve(&Etc::with(ONCE), "lost-twice.test").expect_err("the only attempt is lost");
    assert_eq!(failed.0, "name_lookup_failed");
    assert!(failed.1.contains("127.0.0.1") && failed.1.contains("no answer within 1s"), "{}", failed.1);
}

fn f125_a_late_answer_for_one_family_is_used() {
    let dex = Dex::start();
    let late = Duration::from_millis(200);
    let both: BTreeSet<IpAddr> = [Ipv4Addr::LOCALHOST.into(), UNIQUE_LOCAL.into()].into();
    for (name, v4, v6) in [("late-a.test", late, Duration::ZERO), ("late-aaaa.test", Duration::ZERO, late)] {
        dns().set_family(name, Family::A, Rule::from(HERE).after(v4));
        dns().set_family(name, Family::Aaaa, Rule::from(Reply::AddressV6(UNIQUE_LOCAL)).after(v6));
        assert_eq!(dex.resolve(&Etc::with(ONCE), name), Ok(both.clone()), "{name}");
    }
}

/// A pod without IPv6 and a dual-stack name: AAAA is answered at once with an address that has no
/// route, A after more than a second.
fn f125_addresses_without_a_route_do_not_cut_off_the_other_family() {
    let dex = Dex::start();
    let name = "late-a-no-route.test";
    dns().set_family(name, Family::A, Rule::from(HERE).after(Duration::from_millis(1_600)));
    dns().set_family(name, Family::Aaaa, Reply::AddressV6(UNIQUE_LOCAL));
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:5 attempts:1\n");
    let done = etc.mounted_for(dex.under(name)).execute(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let failed = select(&done.stderr, "attempt_failed");
    assert!(failed.is_empty(), "the first attempt succeeds: {}", done.stderr);
}

fn f125_no_aaaa_queries_for_a_only() {
    let dex = Dex::start();
    dns().set("no-aaaa.test", Reply::Both(Ipv4Addr::LOCALHOST, UNIQUE_LOCAL));
    let etc = Etc::with("nameserver 127.0.0.1\noptions no-aaaa\n");
    assert_eq!(dex.resolve(&etc, "no-aaaa.test"), Ok(only("127.0.0.1")));
    assert!(dns().queries("no-aaaa.test").iter().all(|query| query.family == Family::A));
}
