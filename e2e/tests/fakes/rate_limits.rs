//! How often Dex gets requests and how often a failure is logged: restarts in a loop, pods that
//! start at once, a process that was stopped, an outage.

use std::time::Instant;

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::process::PATIENCE;
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::Sidecar;
use rustix::process::Signal;

/// The seconds to the next exchange that the first line of this event has.
fn refresh_in(sidecar: &Sidecar, event: &str) -> f64 {
    let events = sidecar.process.events(event);
    events.first().and_then(|event| event["refresh_in"].as_f64()).expect("a log line with refresh_in")
}

/// Each start adopts the token on disk, and its first exchange comes within half a minute, at
/// random.
#[test]
fn f109_twenty_restarts_in_a_row_adopt_the_token_and_spread_their_exchanges() {
    const RESTARTS: usize = 20;
    let fixture = Fixture::new();
    let home = fixture.setup();
    assert_eq!(home.execute(&["once"]).code, Some(0));
    let output = home.output();
    let (mut due, mut soon) = (0, 0);
    for _ in 0..RESTARTS {
        let again = fixture.setup().set("dex_access_token_file", output.to_str().expect("UTF-8"));
        let start = Instant::now();
        let mut sidecar = again.run();
        sidecar.process.until_logged("token_adopted", 1);
        sidecar.process.kill();
        let refresh_in = refresh_in(&sidecar, "token_adopted");
        assert!(refresh_in <= 30.0, "{refresh_in}");
        due += usize::from(refresh_in <= start.elapsed().as_secs_f64());
        soon += usize::from(refresh_in < 1.0);
    }
    let requests = fixture.dex.requests().len();
    assert!(requests <= 1 + due, "{requests} exchanges, but the first and {due} others were due");
    // Less than one on average. Chance makes it ten or more once in a billion runs.
    assert!(soon < RESTARTS / 2, "{soon} of {RESTARTS} exchanges are due within a second");
}

#[test]
fn f116_pods_that_start_at_once_do_not_refresh_at_once() {
    let fixture = Fixture::new();
    let mut sidecars: Vec<_> = (0..10).map(|_| fixture.setup().run()).collect();
    let mut dues: Vec<_> = sidecars
        .iter_mut()
        .map(|sidecar| {
            sidecar.process.until_logged("token_written", 1);
            refresh_in(sidecar, "token_written")
        })
        .collect();
    dues.sort_by(f64::total_cmp);
    // They lie within four minutes and a half. Random numbers that come from the clock would be the
    // same for all that start within its resolution, so values less than a second apart are one
    // group.
    let groups = dues.windows(2).filter(|pair| pair[1] - pair[0] > 1.0).count() + 1;
    assert!(groups >= 4, "{dues:?}");
}

/// The process is stopped with SIGSTOP while its exchange becomes due and its token expires.
#[test]
fn f096_after_a_stop_past_the_expiry_there_is_one_exchange() {
    let fixture = Fixture::answering(Answer::Token(6));
    let mut sidecar = fixture.setup().run();
    let mut written = 0;
    // Stops it between two exchanges. On a busy machine this may take more than one attempt.
    loop {
        written += 1;
        sidecar.process.until_logged("token_written", written);
        sidecar.process.signal(Signal::STOP);
        sidecar.process.until("it is stopped", |process| state(process.pid()) == 'T');
        if fixture.dex.requests().len() == written {
            break;
        }
        sidecar.process.signal(Signal::CONT);
    }
    let expired = sidecar.token().expect("a token file");
    let start = Instant::now();
    while sidecar.setup().execute(&["ready"]).code == Some(0) {
        assert!(start.elapsed() < PATIENCE, "the token does not expire");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(fixture.dex.requests().len(), written, "a stopped process makes no exchange");
    fixture.dex.always(Answer::Token(3_600));
    sidecar.process.signal(Signal::CONT);
    sidecar.process.until_logged("token_written", written + 1);
    let token = sidecar.until_another_token(&expired);
    assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(0));
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(fixture.dex.requests().len(), written + 1, "{}", sidecar.process.timeline());
    assert_eq!(fixture.dex.issued().last(), Some(&token));
}

/// The state of a process in /proc/PID/stat, such as `T` for stopped.
fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or(' ')
}

#[test]
fn f118_two_failures_that_alternate_are_logged_once_each() {
    let fixture = Fixture::new();
    for _ in 0..2 {
        fixture.dex.next(Answer::Bytes(answer("503 Service Unavailable", &[], "")));
        fixture.dex.next(Answer::ResetAfter(300));
    }
    let mut sidecar = fixture.setup().set("DEXSIDECAR_LOG", "info").run();
    sidecar.process.until_logged("token_written", 1);
    sidecar.process.until_logged("recovered attempts=4", 1);
    let codes = ["unavailable", "connection_lost"]
        .map(|code| sidecar.process.logged(&format!("attempt_failed code={code}")));
    assert_eq!(codes, [1, 1], "{}", sidecar.process.timeline());
    // The others are starting, recovered and token_written.
    assert_eq!(sidecar.process.lines().len(), 5, "{}", sidecar.process.timeline());
}
