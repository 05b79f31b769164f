//! The file under attack: readers that never stop, and SIGKILL at any instant. A short form each time; with
//! `DEXSIDECAR_E2E_LONG` ten million reads and two thousand kills.

use std::fs;
use std::time::Duration;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::reader::{Judgement, Readers, Seen};
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

fn long() -> bool {
    std::env::var_os("DEXSIDECAR_E2E_LONG").is_some()
}

/// Whole is what has a beginning, a middle and an end, all of them of one token: the stand-in signs each.
fn judge(text: &str) -> Judgement {
    let whole = text.starts_with("eyJ") && text.matches('.').count() == 2 && text.len() > 300;
    if whole && text.rsplit('.').next().is_some_and(|signature| signature.len() == 86) {
        Judgement::Good
    } else {
        Judgement::Torn
    }
}

/// Every reader sees whole tokens only, while they are replaced as fast as the pace allows.
#[test]
fn f089_no_read_of_many_is_torn() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(2));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let output = setup.output();
    let mut sidecar = setup.run();
    sidecar.until_token();
    let readers = Readers::start(3, &output, judge);
    let wanted = if long() { 10_000_000 } else { 300_000 };
    let patience = Duration::from_secs(if long() { 1_800 } else { 120 });
    sidecar.process.until_within(patience, "enough is read", |process| {
        readers.seen().reads >= wanted && process.said("token written") >= 5
    });
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
}

/// Killed at random instants of its first second, again and again over one file: what is there is a whole token, and the last
/// start, which nobody kills, heals all by itself.
#[test]
fn f083_no_kill_of_many_leaves_anything_but_a_whole_token() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(2));
    let volume = Volume::with("eyJh.eyJi.canary");
    let home = Setup::new();
    let output = home.output();
    let again = || {
        Setup::new()
            .subject(&volume)
            .at_stand_in(&endpoint)
            .set("dex_access_token_file", output.to_str().expect("UTF-8"))
    };
    again().run().until_token();
    let readers = Readers::start(1, &output, judge);
    let kills = if long() { 2_000 } else { 100 };
    for kill in 0..kills {
        let mut sidecar = again().run();
        // Spread over starting, exchanging and writing: a prime number of steps, so that none is met always.
        std::thread::sleep(Duration::from_micros(kill % 97 * 211));
        sidecar.process.signal(Signal::KILL);
        sidecar.process.ended();
        assert_eq!(judge(&fs::read_to_string(&output).expect("it is always there")), Judgement::Good);
    }
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
    let mut last = again().run();
    last.process.until_said("token written", 1);
}
