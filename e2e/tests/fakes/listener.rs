//! The listener: probes by the files on disk, and requests that are slow, huge, malformed or many,
//! which disturb nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::{EXPIRED_TOKEN, Fixture};
use dexsidecar_e2e::listener::Listening;
use dexsidecar_e2e::process::PATIENCE;
use dexsidecar_e2e::raw_http::answer;

fn unavailable() -> Answer {
    Answer::Bytes(answer("503 Service Unavailable", &[], "busy"))
}

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn readyz_follows_the_file_on_disk_and_livez_does_not() {
    let fixture = Fixture::answering(unavailable());
    let mut listening = Listening::start(fixture.setup());
    listening.sidecar.process.until_logged("attempt_failed", 1);
    let refused = listening.get("/readyz");
    assert_eq!(refused.status, 503);
    assert!(refused.body.starts_with("[-]default failing: "), "{}", refused.body);
    assert!(
        refused.body.ends_with("; token file missing or unreadable\nreadyz check failed\n"),
        "{}",
        refused.body
    );
    assert_eq!((listening.get("/livez").status, listening.get("/livez").body.as_str()), (200, "ok\n"));

    fixture.dex.always(Answer::Token(3_600));
    listening.until_status("/readyz", 200);
    assert_eq!(listening.get("/readyz").body, "ok\n");
    let verbose = listening.get("/readyz?verbose").body;
    assert!(verbose.starts_with("[+]default ok: expires in "), "{verbose}");
    assert!(listening.get("/readyz/default").body.starts_with("ok: expires in "));
    assert_eq!(listening.get("/readyz/other").status, 404);
    assert_eq!(listening.sample("dexsidecar_token_ready{token=\"default\"}"), Some(1.0));

    // At once, not after the next poll of the files.
    fs::write(listening.sidecar.output(), EXPIRED_TOKEN).expect("the file can be written");
    let expired = listening.get("/readyz/default");
    assert!(expired.status == 503 && expired.body.contains("token file expired "), "{}", expired.body);
    assert_eq!(
        listening.sample("dexsidecar_token_expiration_timestamp_seconds{token=\"default\"}"),
        Some(1_700_000_000.0)
    );
    assert_eq!(listening.get("/livez").status, 200);
    listening.until_status("/readyz", 200);
}

#[test]
fn the_metrics_count_exchanges_and_failures_by_code_and_owner() {
    let fixture = Fixture::answering(unavailable());
    let mut listening = Listening::start(fixture.setup());
    listening.sidecar.process.until_logged("attempt_failed", 2);
    let code = listening.sidecar.process.events("attempt_failed")[0].clone();
    let [code, owner] = ["code", "owner"].map(|field| code[field].as_str().unwrap_or_default().to_owned());
    let failures =
        format!("dexsidecar_exchange_failures_total{{token=\"default\",code=\"{code}\",owner=\"{owner}\"}}");
    let failed = listening.sample(&failures).expect("a series of the failure");
    assert!(failed >= 2.0, "{failed}");
    assert_eq!(
        listening.sample("dexsidecar_exchange_last_success_timestamp_seconds{token=\"default\"}"),
        Some(0.0)
    );

    fixture.dex.always(Answer::Token(3_600));
    listening.until_status("/readyz", 200);
    // The file is there before its write has ended, and the refresh is planned after that.
    listening.sidecar.process.until_logged("token_written", 1);
    let sample =
        |name: &str| listening.sample(&format!("dexsidecar_{name}{{token=\"default\"}}")).expect("a sample");
    let attempts = sample("exchanges_total");
    assert_eq!(attempts, listening.sample(&failures).expect("it stays") + 1.0);
    let (issued, expires, refresh) = (
        sample("token_issued_timestamp_seconds"),
        sample("token_expiration_timestamp_seconds"),
        sample("token_refresh_timestamp_seconds"),
    );
    assert_eq!(expires - issued, 3_600.0);
    assert!(issued < refresh && refresh < expires, "{issued} {refresh} {expires}");
    assert!(sample("exchange_last_success_timestamp_seconds") >= issued - 1.0);
    let page = listening.get("/metrics");
    assert_eq!(page.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(
        !page.body.contains("canary") && !page.body.contains(&listening.sidecar.token().expect("a token"))
    );
}

/// Clients of each kind at once, while the token is refreshed every few seconds.
#[test]
fn hostile_requests_disturb_no_refresh_and_leave_nothing_behind() {
    let fixture = Fixture::answering(Answer::Token(6));
    let mut listening = Listening::start(fixture.setup());
    let mut token = listening.sidecar.until_token();
    let status = format!("/proc/{}/status", listening.sidecar.process.pid());
    let resident = || {
        let status = fs::read_to_string(&status).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim_end_matches("kB").trim().parse::<i64>().expect("a number")
    };
    let mut before = None;
    let (address, stop) = (listening.address, AtomicBool::new(false));
    let connect = || TcpStream::connect(address).expect("it listens");
    let slow = || {
        while !stop.load(Ordering::Relaxed) {
            let mut stream = connect();
            for byte in LIVEZ {
                // A later connection may have closed it.
                if stream.write_all(&[*byte]).is_err() || stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    };
    let huge = || {
        while !stop.load(Ordering::Relaxed) {
            let mut stream = connect();
            while stream.write_all(&[b'a'; 16_384]).is_ok() && !stop.load(Ordering::Relaxed) {}
        }
    };
    let malformed = || {
        while !stop.load(Ordering::Relaxed) {
            for bytes in [
                &b"\x16\x03\x01\x02\x00\x01"[..],
                b"\0\0\0\0\n\n",
                b"GET / HTTP/9.9\r\n\r\n",
                &LIVEZ.repeat(40),
            ] {
                let mut stream = connect();
                let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
                let _ = stream.read_to_end(&mut vec![]);
            }
        }
    };
    let many = || {
        while !stop.load(Ordering::Relaxed) {
            let streams: Vec<_> = (0..20).map(|_| connect()).collect();
            drop(streams);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let clients: [&(dyn Fn() + Sync); 4] = [&slow, &huge, &malformed, &many];
    std::thread::scope(|scope| {
        for client in clients {
            scope.spawn(client);
        }
        token = listening.sidecar.until_another_token(&token);
        // The code that such requests reach is in memory now.
        before = Some(resident());
        for _ in 0..2 {
            token = listening.sidecar.until_another_token(&token);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        listening.sidecar.process.logged("attempt_failed"),
        0,
        "{}",
        listening.sidecar.process.timeline()
    );
    listening.until_status("/livez", 200);
    let grown = resident() - before.expect("it was measured");
    assert!(grown < 256, "grown by {grown} kB");
    let descriptors = format!("/proc/{}/fd", listening.sidecar.process.pid());
    listening.sidecar.process.until_within(PATIENCE, "the connections are closed", |_| {
        fs::read_dir(&descriptors).is_ok_and(|all| all.count() < 16)
    });
}

#[test]
fn a_port_in_use_is_reported_and_the_token_is_kept_fresh_without_the_listener() {
    let fixture = Fixture::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut sidecar = fixture.setup().set("DEXSIDECAR_LISTEN", &address).run();
    sidecar.until_token();
    let events = sidecar.process.events("listener_failed");
    assert_eq!(events.len(), 1, "{}", sidecar.process.timeline());
    assert_eq!(events[0]["address"], address);
}

#[test]
fn an_address_that_is_none_is_a_wrong_setting() {
    let fixture = Fixture::new();
    for (address, what) in [
        ("9090", "has no port"),
        ("localhost:9090", "has no valid IP address"),
        (":http", "has no valid port"),
    ] {
        let refused = fixture.setup().set("DEXSIDECAR_LISTEN", address).execute(&["run"]);
        assert_eq!(refused.code, Some(78), "{address}");
        let invalid = &refused.events("setting_invalid")[0];
        assert_eq!(
            (invalid["setting"].as_str(), invalid["error"].as_str()),
            (Some("DEXSIDECAR_LISTEN"), Some(what))
        );
    }
}
