//! Short names and the search list.

use std::net::Ipv4Addr;

use dexsidecar_e2e::dns_server::Reply;
use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::projected_volume::ProjectedVolume;

use super::{Dex, Etc, SEARCHED, Test, dns, only, setup, tests};

pub(crate) const TESTS: &[Test] = tests![
    f009_names_are_found_in_search_domains_and_over_tcp,
    f009_an_error_for_any_search_domain_does_not_hide_a_full_name,
    f126_a_short_name_is_found_whatever_ndots_is,
    f126_names_are_queried_in_the_order_of_go,
    f129_a_long_search_line_is_used_to_its_end,
    f129_an_absent_name_is_reported_after_the_whole_list,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);

fn f009_names_are_found_in_search_domains_and_over_tcp() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    // The short name of a Service is found in the search list. With ndots:5 a full name is queried
    // last.
    dns().set("dex.svc.cluster.local", Reply::Address(Ipv4Addr::LOCALHOST));
    dns().set("dex.example.test", Reply::Address(Ipv4Addr::LOCALHOST));
    dns().set("long.example.test", Reply::Truncated(Ipv4Addr::LOCALHOST));
    for name in ["dex", "dex.example.test", "long.example.test."] {
        let setup = setup(&endpoint, &volume, name);
        let done = setup.execute(&["once"]);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
    }
    let queried = dns().queried_names();
    assert!(
        queried.iter().any(|name| name == "dex.example.test.c.example"),
        "the whole list is queried: {queried:?}"
    );
}

/// SERVFAIL, REFUSED, an answer without records and a truncated one, for each search domain.
fn f009_an_error_for_any_search_domain_does_not_hide_a_full_name() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    std::thread::scope(|scope| {
        for (number, suffix) in SEARCHED.into_iter().enumerate() {
            let (endpoint, volume) = (&endpoint, &volume);
            scope.spawn(move || {
                let is_found = |name: &str| {
                    let done = setup(endpoint, volume, name).execute(&["once", "--timeout", "20s"]);
                    assert_eq!(done.code, Some(0), "{name} with {suffix}: {}", done.stderr);
                };
                for reply in [Reply::Failed, Reply::Refused, Reply::Empty] {
                    let name = format!("{reply:?}-{number}.example.test").to_lowercase();
                    dns().set(&format!("{name}.{suffix}"), reply);
                    dns().set(&name, Reply::Address(Ipv4Addr::LOCALHOST));
                    is_found(&name);
                }
                dns().set(&format!("long-{number}.{suffix}"), Reply::Truncated(Ipv4Addr::LOCALHOST));
                is_found(&format!("long-{number}"));
            });
        }
    });
}

fn f126_a_short_name_is_found_whatever_ndots_is() {
    let dex = Dex::start();
    dns().set("dex.auth.svc.cluster.local", HERE);
    let search = "search auth.svc.cluster.local svc.cluster.local cluster.local";
    for options in [
        "",
        "options ndots:0",
        "options ndots:1",
        "options ndots:2",
        "options ndots:3",
        "options ndots:5",
        "options ndots:15",
        "options ndots:99",
        "options ndots:x",
        "options ndots:",
    ] {
        let etc = Etc::with(format!("nameserver 127.0.0.1\n{search}\n{options} timeout:1\n"));
        for name in ["dex", "dex.auth", "dex.auth.svc", "dex.auth.svc.cluster.local", "DEX.Auth.svc"] {
            assert_eq!(dex.resolve(&etc, name), Ok(only("127.0.0.1")), "{name}, {options}");
        }
    }
}

fn f126_names_are_queried_in_the_order_of_go() {
    let dex = Dex::start();
    for (ndots, host, expected) in [
        (2, "order-2.x", ["order-2.x.a", "order-2.x.b.c", "order-2.x"]),
        (1, "order-1.x", ["order-1.x", "order-1.x.a", "order-1.x.b.c"]),
        (0, "order-0", ["order-0", "order-0.a", "order-0.b.c"]),
        (5, "order-5.x.y.z", ["order-5.x.y.z.a", "order-5.x.y.z.b.c", "order-5.x.y.z"]),
    ] {
        let text = format!("nameserver 127.0.0.1\nsearch a b.c\noptions ndots:{ndots} timeout:1\n");
        let failed = dex.resolve(&Etc::with(text), host).expect_err("the name does not exist");
        assert_eq!(failed.0, "name_not_found");
        let mut queried: Vec<String> = dns().queries(host).into_iter().map(|query| query.name).collect();
        queried.dedup();
        assert_eq!(queried, expected, "ndots:{ndots}");
    }
    // With a final dot, only the name itself is queried.
    let text = "nameserver 127.0.0.1\nsearch a b.c\noptions ndots:5 timeout:1\n";
    dex.resolve(&Etc::with(text), "rooted.x.").expect_err("the name does not exist");
    assert!(dns().queries("rooted.x").iter().all(|query| query.name == "rooted.x"));
}

/// Search domains for a line of this many bytes. The kubelet writes at most 32 domains and 2,048
/// bytes.
fn search_list(domains: usize, bytes: usize) -> Vec<String> {
    let each = (bytes - "search".len()) / domains - 1;
    let label = |number: usize| format!("d{number:02}.{}", "x".repeat(60));
    (0..domains).map(|number| format!("{:.1$}z", label(number), each - 1)).collect()
}

fn f129_a_long_search_line_is_used_to_its_end() {
    let dex = Dex::start();
    for (domains, bytes) in [(6, 272), (32, 2_048), (32, 1_025), (40, 2_500)] {
        let list = search_list(domains, bytes);
        let host = format!("long-{domains}-{bytes}");
        dns().set(&format!("{host}.{}", list[domains - 1]), HERE);
        let line = format!("search {}", list.join(" "));
        assert!(line.len().abs_diff(bytes) <= domains, "{} bytes", line.len());
        let etc = Etc::with(format!("nameserver 127.0.0.1\n{line}\noptions ndots:5 timeout:1\n"));
        assert_eq!(dex.resolve(&etc, &host), Ok(only("127.0.0.1")), "{line}");
    }
}

fn f129_an_absent_name_is_reported_after_the_whole_list() {
    let dex = Dex::start();
    let list = search_list(32, 2_048);
    let text = format!("nameserver 127.0.0.1\nsearch {}\noptions ndots:5 timeout:1\n", list.join(" "));
    let etc = Etc::with(text);
    let failed = dex.resolve(&etc, "nowhere").expect_err("the name does not exist");
    assert_eq!(failed.0, "name_not_found");
    assert!(failed.1.contains("nowhere") && failed.1.contains("33 names"), "{}", failed.1);
    let mut sidecar = etc.mounted_for(dex.under("nowhere")).run();
    sidecar.process.until_logged("code=name_not_found", 1);
    dns().set(&format!("nowhere.{}", list[31]), HERE);
    sidecar.until_token();
}
