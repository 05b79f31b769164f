//! How often Dex is asked and people are told, in life: restarts in a loop, pods that start at once, a long stop, an outage.

use std::collections::BTreeSet;
use std::time::Duration;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{Setup, Sidecar};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use rustix::process::Signal;

fn endpoint(seconds: u64) -> Endpoint {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(seconds));
    endpoint
}

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint)
}

/// Each start adopts what is there and spreads its first exchange over half a minute, which hardly one of them lives to see.
#[test]
fn f109_twenty_restarts_in_a_row_are_no_twenty_exchanges() {
    let (endpoint, volume) = (endpoint(3_600), Volume::with("eyJh.eyJi.canary"));
    let home = setup(&endpoint, &volume);
    assert_eq!(home.done(&["once"]).code, Some(0));
    let output = home.output();
    for _ in 0..20 {
        let again = setup(&endpoint, &volume).set("dex_access_token_file", output.to_str().expect("UTF-8"));
        let mut sidecar = again.run();
        sidecar.process.until_logged("token_adopted", 1);
        sidecar.process.kill();
    }
    let heard = endpoint.heard().len();
    assert!((1..=3).contains(&heard), "{heard} exchanges for twenty starts");
}

/// What it says of its next exchange, in seconds.
fn next_exchange(sidecar: &Sidecar) -> u32 {
    let said = sidecar.process.output();
    let told = said.split("next_exchange_in=").nth(1).and_then(|rest| rest.split_ascii_whitespace().next());
    let told = told.expect("it says when").trim_end_matches('s');
    let (minutes, seconds) = told.split_once('m').expect("minutes and seconds");
    minutes.parse::<u32>().expect("minutes") * 60 + seconds.parse::<u32>().unwrap_or_default()
}

#[test]
fn f116_pods_that_start_at_once_do_not_come_back_at_once() {
    let (endpoint, volume) = (endpoint(3_600), Volume::with("eyJh.eyJi.canary"));
    let mut sidecars: Vec<_> = (0..10).map(|_| setup(&endpoint, &volume).run()).collect();
    let dues: BTreeSet<_> = sidecars
        .iter_mut()
        .map(|sidecar| {
            sidecar.process.until_logged("token_written", 1);
            next_exchange(sidecar)
        })
        .collect();
    // Within four minutes and a half. Chance that is made of the second would be the same for all who start in it, but for
    // what is rounded: three seconds on end are one group.
    let groups = dues.iter().zip(dues.iter().skip(1)).filter(|(one, next)| *next - *one > 1).count() + 1;
    assert!(groups >= 4, "{dues:?}");
}

/// Stopped for twice the life of its token: it does what is due once, and not once for each time that it was due.
#[test]
fn f096_after_a_stop_past_the_expiry_there_is_one_exchange() {
    let (endpoint, volume) = (endpoint(6), Volume::with("eyJh.eyJi.canary"));
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_logged("token_written", 1);
    let first = sidecar.until_token();
    sidecar.process.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(endpoint.heard().len(), 1, "it is stopped before the next is due");
    assert_eq!(sidecar.setup().done(&["ready"]).code, Some(1), "what is there has expired");
    sidecar.process.signal(Signal::CONT);
    sidecar.process.until_logged("token_written", 2);
    assert_eq!(endpoint.heard().len(), 2, "{}", sidecar.process.timeline());
    let second = sidecar.until_another_token(&first);
    assert_eq!(endpoint.issued(), [first, second]);
    assert_eq!(sidecar.setup().done(&["ready"]).code, Some(0));
}

/// Two failures in turn, for as long as it takes to meet each twice.
#[test]
fn f118_an_outage_of_two_kinds_in_turn_is_two_lines() {
    let (endpoint, volume) = (endpoint(3_600), Volume::with("eyJh.eyJi.canary"));
    for _ in 0..2 {
        endpoint.next(Answer::Bytes(answer("503 Service Unavailable", &[], "")));
        endpoint.next(Answer::ResetAfter(300));
    }
    let mut sidecar = setup(&endpoint, &volume).set("DEXSIDECAR_LOG", "info").run();
    sidecar.process.until_logged("token_written", 1);
    sidecar.process.until_logged("recovered attempts=4", 1);
    let lines = sidecar.process.lines();
    let failures = lines.iter().filter(|line| line.text.contains("code=")).count();
    assert_eq!((failures, lines.len()), (2, 5), "{}", sidecar.process.timeline());
}
