//! What changes while the sidecar runs: names, addresses, files, a resolver that hangs.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use dexsidecar_e2e::dns_server::Reply;
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

use super::{Etc, Test, looked_up, names, setup, tests};

pub(crate) const TESTS: &[Test] = tests![
    f007_a_failed_lookup_is_reported_and_heals,
    f007_a_lookup_that_fails_later_keeps_the_token,
    f010_localhost_is_this_machine_whatever_a_name_server_says,
    f008_a_silent_name_server_delays_nothing_else,
    f008_a_silent_name_server_costs_no_thread_and_delays_no_exit,
    f121_without_ipv6_a_name_of_both_families_is_reached,
    f010_a_changed_address_is_used_at_the_next_exchange,
    f010_a_changed_resolv_conf_is_used_at_the_next_exchange,
];

fn f007_a_failed_lookup_is_reported_and_heals() {
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
        let failed = looked_up(&setup).expect_err("it has no address");
        assert_eq!(failed.0, code, "{name}: {}", failed.1);
        let mut sidecar = setup.run();
        sidecar.process.until_logged(&format!("code={code}"), 1);
        names().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        sidecar.until_token();
        sidecar.process.until_logged("recovered", 1);
    }
}

fn f007_a_lookup_that_fails_later_keeps_the_token() {
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
        sidecar.process.until_logged(&format!("code={code}"), 1);
        assert_eq!(sidecar.token(), Some(token), "{name}");
        assert_eq!(sidecar.setup().done(&["ready"]).code, Some(0), "{name}");
    }
}

/// Plain http is accepted to this machine, so a name server must not lead it to another.
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

fn f008_a_silent_name_server_delays_nothing_else() {
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
    sidecar.process.until_logged("code=timed_out", 1);
    drop(sidecar);
    // Four names without an answer take four seconds. SIGTERM must not wait for them.
    let before = asks();
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 5m").run();
    sidecar.process.until("it sends a query", |_| asks() > before);
    sidecar.process.signal(Signal::TERM);
    let ended = sidecar.process.ended_within(Duration::from_secs(3));
    assert_eq!(ended, Some(Some(0)), "in the middle of a look-up\n{}", sidecar.process.timeline());
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 3s").run();
    let before = asks();
    sidecar.process.until("it sends a query", |_| asks() > before);
    reply(Reply::Address(Ipv4Addr::LOCALHOST));
    sidecar.until_token();
}

/// The resolver waits 30 s for each answer. Neither SIGTERM nor the next attempt waits for it.
fn f008_a_silent_name_server_costs_no_thread_and_delays_no_exit() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n");
    names().set("hangs.test", Reply::Silence);
    let asked = || names().asked().iter().filter(|name| *name == "hangs.test").count();
    let hanging = || etc.around(setup(&endpoint, &volume, "hangs.test"));

    let mut sidecar = hanging().arguments("--attempt-timeout 5m").run();
    sidecar.process.until("it sends a query", |_| asked() > 0);
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.ended_within(Duration::from_secs(10)), Some(Some(0)));

    let mut sidecar = hanging().arguments("--attempt-timeout 200ms --log-level debug").run();
    sidecar.process.until_logged("code=timed_out", 4);
    let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.process.pid())).expect("it runs").count();
    assert_eq!(tasks, 1, "threads");
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.ended_within(Duration::from_secs(10)), Some(Some(0)));
}

/// No interface has an IPv6 address. The hosts file still has ::1.
fn f121_without_ipv6_a_name_of_both_families_is_reached() {
    for interface in ["all", "lo"] {
        let flag = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        // A kernel without IPv6 has no such file.
        let _ = fs::write(flag, "1");
    }
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let port = endpoint.address().port();
    let other = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect_err("there is no such address");
    assert_ne!(other.kind(), ErrorKind::ConnectionRefused, "there is no such address");
    let volume = Volume::with("eyJh.eyJi.canary");
    for name in ["localhost", "both.test"] {
        let mut sidecar = setup(&endpoint, &volume, name).run();
        sidecar.until_token();
        sidecar.process.until_logged("token_written", 1);
        assert_eq!(sidecar.process.logged("attempt_failed"), 0, "{name}: {}", sidecar.process.output());
    }
}

fn f010_a_changed_address_is_used_at_the_next_exchange() {
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

fn f010_a_changed_resolv_conf_is_used_at_the_next_exchange() {
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
    // No server listens there.
    write("127.0.0.9", "old.example");
    let mut sidecar = etc.around(setup(&first, &volume, "rewritten")).run();
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    write("127.0.0.1", "old.example");
    first.until_heard(1);
    let token = sidecar.until_token();
    write("127.0.0.1", "new.example");
    sidecar.process.signal(Signal::HUP);
    second.until_heard(1);
    sidecar.until_another_token(&token);
}
