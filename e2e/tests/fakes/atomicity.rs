//! Readers never see a partial token, and neither SIGKILL nor SIGTERM at any moment leaves one.
//! With `DEXSIDECAR_E2E_LONG` there are ten million reads, two thousand kills and two hundred
//! terminations.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::file_readers::{Judgement, Readers, Seen};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::log_events;
use dexsidecar_e2e::sidecar::Setup;
use rustix::process::Signal;

/// How long a write that has begun may delay the exit.
const WRITE_GRACE: Duration = Duration::from_millis(500);

fn long() -> bool {
    std::env::var_os("DEXSIDECAR_E2E_LONG").is_some()
}

/// The token is replaced as often as the rate limit allows.
#[test]
fn f089_readers_see_issued_tokens_and_nothing_else() {
    let fixture = Fixture::answering(Answer::Token(2));
    let setup = fixture.setup();
    let output = setup.output();
    let mut sidecar = setup.run();
    let first = sidecar.until_token();
    sidecar.process.until_logged("token_written", 2);
    // The judge tells a mixture of two tokens of the same length from a token.
    let judge = fixture.dex.judge();
    let last = fixture.dex.issued().pop().expect("two tokens");
    let mixed = format!("{}{}", &first[..first.len() / 2], &last[first.len() / 2..]);
    assert_eq!(
        (first.len(), judge(&first), judge(&mixed)),
        (mixed.len(), Judgement::Valid, Judgement::Malformed)
    );
    let readers = Readers::start(8, &output, judge);
    let wanted = if long() { 10_000_000 } else { 300_000 };
    let patience = Duration::from_secs(if long() { 1_800 } else { 120 });
    sidecar.process.until_within(patience, "the reads are done", |process| {
        readers.seen().reads >= wanted && process.logged("token_written") >= 7
    });
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
}

/// The time from the start of this sidecar to its first token. Attacks are spread over it.
fn time_to_token(setup: Setup) -> Duration {
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 1);
    let lines = sidecar.process.lines();
    let written = lines.iter().find(|line| !log_events::select(&line.text, "token_written").is_empty());
    written.expect("a log line").at
}

/// Starts a sidecar so many times and attacks each at another moment before or shortly after its
/// first token. `attack` returns true if a token was issued by then. The load of the machine
/// changes, so the time to the first token is measured again with every twentieth sidecar.
fn attacked(times: u32, setup: impl Fn() -> Setup, mut attack: impl FnMut(Setup, Duration) -> bool) {
    let (mut time, mut issued) = (Duration::ZERO, 0);
    for number in 0..times {
        if number % 20 == 0 {
            time = time_to_token(setup());
        }
        // 31 and 97 are prime, so the moments are all different and in no order.
        if attack(setup(), time * 13 / 10 * (number * 31 % 97) / 97) {
            issued += 1;
        }
    }
    assert!((1..times).contains(&issued), "{issued} of {times} attacks came after the exchange, not some");
}

/// All sidecars have the same token file. The last one, which is not killed, writes a token as
/// usual.
#[test]
fn f083_sigkill_at_any_moment_leaves_the_old_or_the_new_token() {
    let fixture = Fixture::answering(Answer::Token(2));
    let home = Setup::new();
    let output = home.output();
    let again = || fixture.setup().set("dex_access_token_file", output.to_str().expect("UTF-8"));
    again().run().until_token();
    let readers = Readers::start(1, &output, fixture.dex.judge());
    let judge = fixture.dex.judge();
    attacked(if long() { 2_000 } else { 100 }, again, |setup, moment| {
        let before = fixture.dex.issued().len();
        let mut sidecar = setup.run();
        std::thread::sleep(moment);
        sidecar.process.signal(Signal::KILL);
        sidecar.process.wait();
        assert_eq!(judge(&fs::read_to_string(&output).expect("a token file")), Judgement::Valid);
        fixture.dex.issued().len() > before
    });
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
    let mut last = again().run();
    last.process.until_logged("token_written", 1);
}

#[test]
fn f101_sigterm_at_any_moment_leaves_a_token_or_no_file() {
    let fixture = Fixture::new();
    let judge = fixture.dex.judge();
    attacked(
        if long() { 200 } else { 60 },
        || fixture.setup(),
        |setup, moment| {
            let (directory, output) = (setup.directory().to_owned(), setup.output());
            let before = fixture.dex.issued().len();
            let mut sidecar = setup.run();
            std::thread::sleep(moment);
            let handled = handles_sigterm(sidecar.process.pid());
            let start = Instant::now();
            sidecar.process.signal(Signal::TERM);
            let status = sidecar.process.wait();
            let ended = start.elapsed();
            assert!(
                is_an_exit(status, handled),
                "{status}, SIGTERM handled: {handled}\n{}",
                sidecar.process.timeline()
            );
            let token = fs::read_to_string(&output).ok();
            assert!(token.as_deref().is_none_or(|token| judge(token) == Judgement::Valid), "{token:?}");
            // A write that has begun is completed. Only one that takes longer than the grace is
            // abandoned, so a busy machine can make `ended` longer and never shorter.
            let left = names(&directory).into_iter().filter(|name| name != "token").count();
            let abandoned = ended >= WRITE_GRACE;
            assert!(left <= usize::from(abandoned), "{left} temporary files are left after {ended:?}");
            fixture.dex.issued().len() > before
        },
    );
}

/// True if the process has a handler for SIGTERM. Until then the signal kills it, as it does any
/// process.
fn handles_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(caught.trim(), 16).is_ok_and(|set| set & 1 << (Signal::TERM.as_raw() - 1) != 0)
}

fn is_an_exit(status: ExitStatus, handled: bool) -> bool {
    status.code() == Some(0) || !handled && status.signal() == Some(Signal::TERM.as_raw())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
