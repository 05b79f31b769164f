//! DNS messages that are large, truncated, malformed, forged or endless.

use std::net::Ipv4Addr;

use dexsidecar_e2e::dns_server::{Edns, Family, Lie, Reply, Rule, Transport, UDP_ONLY};
use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::projected_volume::ProjectedVolume;

use super::{Dex, Etc, ONCE, Test, dns, only, setup, tests};

pub(crate) const TESTS: &[Test] = tests![
    f007_a_malformed_answer_is_reported_or_ignored_and_the_name_is_used_later,
    f131_an_answer_over_512_bytes_needs_no_tcp,
    f131_a_truncated_answer_is_repeated_over_tcp,
    f131_a_server_without_edns_is_queried_without_it,
    f131_an_alias_is_followed_inside_the_answer,
    f133_forged_answers_are_ignored,
    f133_malformed_answers_are_reported_and_the_name_is_used_later,
    f133_addresses_before_a_malformed_end_are_used,
    f133_endless_answers_are_cut_off_and_the_name_is_used_later,
];

const HERE: Reply = Reply::Address(Ipv4Addr::LOCALHOST);

/// Whatever the DNS server sends, the process goes on and gets a token once the answer is valid.
fn f007_a_malformed_answer_is_reported_or_ignored_and_the_name_is_used_later() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let lies = [Lie::WrongId, Lie::CnameLoop, Lie::PointerLoop, Lie::WrongCount, Lie::CutOff, Lie::Truncated];
    std::thread::scope(|scope| {
        for lie in lies {
            let (endpoint, volume) = (&endpoint, &volume);
            scope.spawn(move || {
                let name = format!("{lie:?}.lies.test").to_lowercase();
                dns().set(&name, Reply::Lie(lie));
                let mut sidecar =
                    setup(endpoint, volume, &format!("{name}.")).arguments("--attempt-timeout 4s").run();
                // A resolver may use the part of a message that it can parse.
                sidecar.process.until(&format!("{lie:?} is reported or ignored"), |process| {
                    ["code=name_not_found", "code=name_lookup_failed", "code=timed_out", "token_written"]
                        .into_iter()
                        .any(|event| process.logged(event) > 0)
                });
                dns().set(&name, Reply::Address(Ipv4Addr::LOCALHOST));
                sidecar.process.until_logged("token_written", 1);
                assert_eq!(sidecar.terminate(), Some(0), "{lie:?}");
            });
        }
    });
}

fn f131_an_answer_over_512_bytes_needs_no_tcp() {
    let dex = Dex::start();
    for size in [500, 700, 1_000] {
        let name = format!("large-{size}.test");
        dns().set(&name, Rule::from(Reply::Large(Ipv4Addr::LOCALHOST, size)));
        let etc = Etc::with(format!("nameserver {UDP_ONLY}\noptions timeout:1 attempts:1\n"));
        assert_eq!(dex.resolve(&etc, &name), Ok(only("127.0.0.1")), "{size}");
        assert!(dns().queries(&name).iter().all(|query| query.edns && !query.tcp));
    }
}

fn f131_a_truncated_answer_is_repeated_over_tcp() {
    let dex = Dex::start();
    dns().set("truncated.test", Reply::Truncated(Ipv4Addr::LOCALHOST));
    dns().set("larger.test", Reply::Large(Ipv4Addr::LOCALHOST, 3_000));
    for name in ["truncated.test", "larger.test"] {
        assert_eq!(dex.resolve(&Etc::with(ONCE), name), Ok(only("127.0.0.1")), "{name}");
    }
    // The addresses of the truncated answer are used where TCP is closed. Go fails here.
    dns().set_family("cut.test", Family::A, Reply::Lie(Lie::Short));
    dns().set_family("cut.test", Family::Aaaa, Reply::Empty);
    let etc = Etc::with(format!("nameserver {UDP_ONLY}\noptions timeout:1 attempts:1\n"));
    assert_eq!(dex.resolve(&etc, "cut.test"), Ok(only("127.0.0.1")));
    dns().set("cut-empty.test", Rule::from(Reply::Truncated(Ipv4Addr::LOCALHOST)));
    let failed = dex.resolve(&etc, "cut-empty.test").expect_err("there are no addresses, and TCP is closed");
    assert_eq!(failed.0, "name_lookup_failed");
    assert!(failed.1.contains("truncated") && failed.1.contains("connection refused"), "{}", failed.1);
}

fn f131_a_server_without_edns_is_queried_without_it() {
    let dex = Dex::start();
    for (number, edns) in [Edns::Code(1), Edns::Code(4), Edns::HeaderOnly, Edns::Lost].into_iter().enumerate()
    {
        let name = format!("edns-{number}.test");
        dns().set(&name, Rule::from(HERE).edns(edns).over(Transport::Udp));
        let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n");
        assert_eq!(dex.resolve(&etc, &name), Ok(only("127.0.0.1")), "{edns:?}");
    }
}

fn f131_an_alias_is_followed_inside_the_answer() {
    let dex = Dex::start();
    dns().set("alias.test", Reply::Alias(Ipv4Addr::LOCALHOST));
    assert_eq!(dex.resolve(&Etc::with(ONCE), "alias.test"), Ok(only("127.0.0.1")));
}

fn f133_forged_answers_are_ignored() {
    let dex = Dex::start();
    dns().set("forged.test", Rule::from(HERE).forged());
    for options in ["timeout:1 attempts:1", "timeout:1", "timeout:1 single-request"] {
        let etc = Etc::with(format!("nameserver 127.0.0.1\noptions {options}\n"));
        assert_eq!(dex.resolve(&etc, "forged.test"), Ok(only("127.0.0.1")), "{options}");
    }
    dns().set("only-forged.test", Rule::from(Reply::Lie(Lie::WrongId)).forged());
    let failed = dex.resolve(&Etc::with(ONCE), "only-forged.test").expect_err("every answer is forged");
    assert_eq!(failed.0, "name_lookup_failed");
    assert!(failed.1.contains("no answer within 1s"), "{}", failed.1);
}

fn f133_malformed_answers_are_reported_and_the_name_is_used_later() {
    assert_reported_and_used_later(&[
        Lie::WrongId,
        Lie::CnameLoop,
        Lie::PointerLoop,
        Lie::CutOff,
        Lie::WrongQuestion,
        Lie::Echo,
        Lie::NoBytes,
        Lie::Noise,
        Lie::WrongLength,
        Lie::Overrun,
        Lie::PointerPastEnd,
    ]);
}

/// As in Go, the records before the malformed one are used.
fn f133_addresses_before_a_malformed_end_are_used() {
    let dex = Dex::start();
    dns().set("counts.malformed.test", Reply::Lie(Lie::WrongCount));
    let found = dex.resolve(&Etc::with(ONCE), "counts.malformed.test").expect("an address came");
    assert!(found.contains(&Ipv4Addr::LOCALHOST.into()), "{found:?}");
}

/// The deadline of `check` (15 s) bounds the lookup.
fn f133_endless_answers_are_cut_off_and_the_name_is_used_later() {
    assert_reported_and_used_later(&[Lie::Flood, Lie::Drip]);
}

/// Each is reported with its code, over UDP and over TCP. The sidecar gets a token once the answer
/// is valid.
fn assert_reported_and_used_later(lies: &[Lie]) {
    let dex = Dex::start();
    std::thread::scope(|scope| {
        for &lie in lies {
            let dex = &dex;
            scope.spawn(move || {
                for options in ["timeout:1 attempts:1", "timeout:1 attempts:1 use-vc", "timeout:1 attempts:2"]
                {
                    let name = format!("{lie:?}.{}.malformed.test", options.len()).to_lowercase();
                    dns().set(&name, Reply::Lie(lie));
                    let etc = Etc::with(format!("nameserver 127.0.0.1\noptions {options}\n"));
                    let failed = dex.resolve(&etc, &name).expect_err("no answer is valid");
                    // A CNAME without an address is a valid answer: the name has no address.
                    let code = if lie == Lie::CnameLoop { "name_not_found" } else { "name_lookup_failed" };
                    assert_eq!(failed.0, code, "{lie:?}, {options}: {}", failed.1);
                    assert!(failed.1.contains(&name) && failed.1.contains("127.0.0.1"), "{}", failed.1);
                    let mut sidecar = etc.mounted_for(dex.under(&name)).run();
                    sidecar.process.until_logged(&format!("code={code}"), 1);
                    dns().set(&name, HERE);
                    sidecar.until_token();
                    assert_eq!(sidecar.terminate(), Some(0), "{lie:?}");
                }
            });
        }
    });
}
