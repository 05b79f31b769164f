//! Changes while the sidecar runs: names, addresses, files, and a DNS server that stops responding.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use dexsidecar_e2e::dns_server::Reply;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use rustix::process::Signal;

use super::{Etc, Test, dns, resolved, setup, tests};

pub(crate) const TESTS: &[Test] = tests![
    f007_a_failed_lookup_is_reported_and_the_name_is_used_later,
    f007_a_lookup_that_fails_later_keeps_the_token,
    f010_localhost_is_never_looked_up,
    f008_a_silent_dns_server_does_not_delay_timeout_or_exit,
    f008_a_silent_dns_server_uses_no_thread_and_does_not_delay_the_exit,
    f160_while_a_lookup_hangs_an_expired_token_is_removed_and_a_signal_is_answered,
    f121_a_name_with_both_families_is_reached_without_ipv6,
    f010_a_changed_address_is_used_at_the_next_exchange,
    f010_a_changed_resolv_conf_is_used_at_the_next_exchange,
];

fn f007_a_failed_lookup_is_reported_and_the_name_is_used_later() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    for (name, reply, code) in [
        ("absent.test", Reply::Absent, "name_not_found"),
        ("empty.test", Reply::Empty, "name_not_found"),
        ("failed.test", Reply::Failed, "name_lookup_failed"),
        ("refused.test", Reply::Refused, "name_lookup_failed"),
    ] {
        dns().set(name, reply);
        let setup = setup(&endpoint, &volume, name);
        let failed = resolved(&setup).expect_err("the name has no address");
        assert_eq!(failed.0, code, "{name}: {}", failed.1);
        let mut sidecar = setup.run();
        sidecar.process.until_logged(&format!("code={code}"), 1);
        dns().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        sidecar.until_token();
        sidecar.process.until_logged("recovered", 1);
    }
}

fn f007_a_lookup_that_fails_later_keeps_the_token() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    for (name, reply, code) in [
        ("absent-later.test", Reply::Absent, "name_not_found"),
        ("empty-later.test", Reply::Empty, "name_not_found"),
        ("failed-later.test", Reply::Failed, "name_lookup_failed"),
        ("refused-later.test", Reply::Refused, "name_lookup_failed"),
        ("silent-later.test", Reply::Silence, "name_lookup_failed"),
    ] {
        dns().set(name, Reply::Address(Ipv4Addr::LOCALHOST));
        let mut sidecar = setup(&endpoint, &volume, name).run();
        let token = sidecar.until_token();
        dns().set(name, reply);
        sidecar.process.signal(Signal::HUP);
        sidecar.process.until_logged(&format!("code={code}"), 1);
        assert_eq!(sidecar.token(), Some(token), "{name}");
        assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(0), "{name}");
    }
}

/// Plain http to this machine is allowed, so a DNS server must not redirect it to another machine.
fn f010_localhost_is_never_looked_up() {
    let endpoint = FakeDex::start();
    let elsewhere = FakeDex::start_at(&format!("127.0.0.3:{}", endpoint.address().port()), None);
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    for name in ["localhost", "localhost.", "dex.localhost"] {
        dns().set(name.trim_end_matches('.'), Reply::Address(Ipv4Addr::new(127, 0, 0, 3)));
        let setup = setup(&endpoint, &volume, name).unset("DEXSIDECAR_ALLOW_INSECURE_HTTP");
        assert_eq!(setup.execute(&["once"]).code, Some(0), "{name}");
    }
    assert_eq!((endpoint.requests().len(), elsewhere.requests().len()), (3, 0));
}

fn f008_a_silent_dns_server_does_not_delay_timeout_or_exit() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let reply = |reply| {
        for suffix in ["", ".default.svc.cluster.local", ".svc.cluster.local", ".cluster.local"] {
            dns().set(&format!("silent.test{suffix}"), reply);
        }
    };
    reply(Reply::Silence);
    let queries = || dns().queried_names().iter().filter(|name| name.starts_with("silent.test")).count();
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 500ms").run();
    sidecar.process.until_logged("code=timed_out", 1);
    drop(sidecar);
    // Four names without an answer take four seconds, and SIGTERM must not wait for them.
    let before = queries();
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 5m").run();
    sidecar.process.until("a query is sent", |_| queries() > before);
    sidecar.process.signal(Signal::TERM);
    let ended = sidecar.process.wait_within(Duration::from_secs(3));
    assert_eq!(ended, Some(Some(0)), "exit during a lookup\n{}", sidecar.process.timeline());
    let mut sidecar = setup(&endpoint, &volume, "silent.test").arguments("--attempt-timeout 3s").run();
    let before = queries();
    sidecar.process.until("a query is sent", |_| queries() > before);
    reply(Reply::Address(Ipv4Addr::LOCALHOST));
    sidecar.until_token();
}

/// The resolver waits 30 s for an answer. Neither SIGTERM nor the next attempt waits as long.
fn f008_a_silent_dns_server_uses_no_thread_and_does_not_delay_the_exit() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n");
    dns().set("hangs.test", Reply::Silence);
    let queries = || dns().queried_names().iter().filter(|name| *name == "hangs.test").count();
    let hanging = || etc.mounted_for(setup(&endpoint, &volume, "hangs.test"));

    let mut sidecar = hanging().arguments("--attempt-timeout 5m").run();
    sidecar.process.until("a query is sent", |_| queries() > 0);
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.wait_within(Duration::from_secs(10)), Some(Some(0)));

    let mut sidecar = hanging().arguments("--attempt-timeout 200ms --log-level debug").run();
    sidecar.process.until_logged("code=timed_out", 4);
    let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.process.pid()))
        .expect("the sidecar is running")
        .count();
    assert_eq!(tasks, 1, "threads");
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.wait_within(Duration::from_secs(10)), Some(Some(0)));
}

fn f160_while_a_lookup_hangs_an_expired_token_is_removed_and_a_signal_is_answered() {
    let endpoint = FakeDex::start();
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let etc = Etc::with("nameserver 127.0.0.1\noptions timeout:60 attempts:1\n");
    dns().set("hangs-later.test", Reply::Address(Ipv4Addr::LOCALHOST));
    endpoint.next(Answer::Token(3));
    let setup = etc.mounted_for(setup(&endpoint, &volume, "hangs-later.test"));
    let setup = setup.set("DEXSIDECAR_ON_EXPIRY", "remove");
    let mut sidecar = setup.arguments("--attempt-timeout 5m").run();
    sidecar.until_token();
    let queries = || dns().queried_names().iter().filter(|name| *name == "hangs-later.test").count();
    let before = queries();
    dns().set("hangs-later.test", Reply::Silence);
    sidecar.process.until("another query is sent", |_| queries() > before);
    sidecar.process.until_logged("expired_token_removed", 1);
    assert_eq!((sidecar.token(), sidecar.process.logged("attempt_failed")), (None, 0));
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("refresh_requested", 1);
    dns().set("hangs-later.test", Reply::Address(Ipv4Addr::LOCALHOST));
    sidecar.until_token();
}

/// No interface has an IPv6 address, but the hosts file has ::1.
fn f121_a_name_with_both_families_is_reached_without_ipv6() {
    for interface in ["all", "lo"] {
        let flag = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        // A kernel without IPv6 has no such file.
        let _ = fs::write(flag, "1");
    }
    let endpoint = FakeDex::start();
    let port = endpoint.address().port();
    let other = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect_err("no interface has this address");
    assert_ne!(other.kind(), ErrorKind::ConnectionRefused, "no interface has this address");
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    for name in ["localhost", "both.test"] {
        let mut sidecar = setup(&endpoint, &volume, name).run();
        sidecar.until_token();
        sidecar.process.until_logged("token_written", 1);
        assert_eq!(sidecar.process.logged("attempt_failed"), 0, "{name}: {}", sidecar.process.output());
    }
}

fn f010_a_changed_address_is_used_at_the_next_exchange() {
    let first = FakeDex::start();
    let second = FakeDex::start_at(&format!("127.0.0.2:{}", first.address().port()), None);
    for endpoint in [&first, &second] {
        endpoint.always(Answer::Token(4));
    }
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    dns().set("moves.test", Reply::Address(Ipv4Addr::LOCALHOST));
    let _sidecar = setup(&first, &volume, "moves.test").run();
    first.until_requests(1);
    dns().set("moves.test", Reply::Address(Ipv4Addr::new(127, 0, 0, 2)));
    second.until_requests(1);
}

fn f010_a_changed_resolv_conf_is_used_at_the_next_exchange() {
    let first = FakeDex::start();
    let second = FakeDex::start_at(&format!("127.0.0.2:{}", first.address().port()), None);
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    dns().set("rewritten.old.example", Reply::Address(Ipv4Addr::LOCALHOST));
    dns().set("rewritten.new.example", Reply::Address(Ipv4Addr::new(127, 0, 0, 2)));
    let etc = Etc::with("");
    let write = |server: &str, searched: &str| {
        let text = format!("nameserver {server}\nsearch {searched}\noptions ndots:5 timeout:1 attempts:1\n");
        etc.write("resolv.conf", text);
    };
    // No server listens there.
    write("127.0.0.9", "old.example");
    let mut sidecar = etc.mounted_for(setup(&first, &volume, "rewritten")).run();
    sidecar.process.until_logged("code=name_lookup_failed", 1);
    write("127.0.0.1", "old.example");
    first.until_requests(1);
    let token = sidecar.until_token();
    write("127.0.0.1", "new.example");
    sidecar.process.signal(Signal::HUP);
    second.until_requests(1);
    sidecar.until_another_token(&token);
}
