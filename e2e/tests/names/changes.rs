//! What changes while the sidecar runs: names, addresses, files, a resolver that hangs.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::names::Reply;
use dexsidecar_e2e::sidecar::{broken, report};
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

use super::{Etc, Test, names, setup, tests};

pub(crate) const TESTS: &[Test] = tests![
    f007_a_name_that_is_not_to_be_had_is_told_and_healed,
    f007_a_name_that_is_lost_later_takes_no_token_away,
    f010_localhost_is_this_machine_whatever_a_name_server_says,
    f008_a_resolver_that_hangs_holds_up_nothing,
    f008_a_silent_name_server_costs_no_thread_and_delays_no_exit,
    f121_without_ipv6_a_name_with_both_is_reached,
    f010_another_address_is_taken_at_the_next_exchange,
    f010_another_resolv_conf_is_read_at_the_next_exchange,
];

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
fn f008_a_silent_name_server_costs_no_thread_and_delays_no_exit() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n");
    names().set("hangs.test", Reply::Silence);
    let asked = || names().asked().iter().filter(|name| *name == "hangs.test").count();
    let hanging = || etc.around(setup(&endpoint, &volume, "hangs.test"));

    let mut sidecar = hanging().arguments("--attempt-timeout 5m").run();
    sidecar.process.until("it asks", |_| asked() > 0);
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.ended_within(Duration::from_secs(10)), Some(Some(0)));

    let mut sidecar = hanging().arguments("--attempt-timeout 200ms --log-level debug").run();
    sidecar.process.until_said("code=timed_out", 4);
    let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.process.pid())).expect("it runs").count();
    assert_eq!(tasks, 1, "threads");
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
    let etc = Etc::with("");
    let write = |server: &str, searched: &str| {
        let text = format!("nameserver {server}\nsearch {searched}\noptions ndots:5 timeout:1 attempts:1\n");
        etc.write("resolv.conf", text);
    };
    // Nobody is there to be asked.
    write("127.0.0.9", "old.example");
    let mut sidecar = etc.around(setup(&first, &volume, "rewritten")).run();
    sidecar.process.until_said("code=name_lookup_failed", 1);
    write("127.0.0.1", "old.example");
    first.until_heard(1);
    let token = sidecar.until_token();
    write("127.0.0.1", "new.example");
    sidecar.process.signal(Signal::HUP);
    second.until_heard(1);
    sidecar.until_another_token(&token);
}
