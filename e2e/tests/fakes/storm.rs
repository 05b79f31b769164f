//! The file under attack: readers that never stop, and SIGKILL and SIGTERM at any instant. A short form each time; with
//! `DEXSIDECAR_E2E_LONG` ten million reads, two thousand kills and two hundred ends.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use dexsidecar::edge::output_file;
use dexsidecar_core::config::{Output, WriteMode};
use dexsidecar_core::secret::Secret;
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::reader::{Judgement, Readers, Seen};
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

/// How long a write may hold up the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn long() -> bool {
    std::env::var_os("DEXSIDECAR_E2E_LONG").is_some()
}

/// Every reader sees tokens that were issued and nothing else, while they are replaced as fast as the pace allows.
#[test]
fn f089_no_read_of_many_is_torn_or_mixed() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(2));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let output = setup.output();
    let mut sidecar = setup.run();
    let first = sidecar.until_token();
    sidecar.process.until_logged("token_written", 2);
    let [judge, second] = [endpoint.ledger(), endpoint.ledger()];
    let last = endpoint.issued().pop().expect("two were issued");
    let mixed = format!("{}{}", &first[..first.len() / 2], &last[first.len() / 2..]);
    assert_eq!(
        (first.len(), second(&first), second(&mixed)),
        (mixed.len(), Judgement::Good, Judgement::Torn)
    );
    let readers = Readers::start(8, &output, judge);
    let wanted = if long() { 10_000_000 } else { 300_000 };
    let patience = Duration::from_secs(if long() { 1_800 } else { 120 });
    sidecar.process.until_within(patience, "enough is read", |process| {
        readers.seen().reads >= wanted && process.logged("token_written") >= 7
    });
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
}

/// The token bucket lets a token come each four seconds. The edge that writes it knows no pace: thousands of replacements, and
/// not one read of a mixture; overwritten in place, there are some, or this test would not see any.
#[test]
fn f089_no_read_between_thousands_of_replacements_is_mixed() {
    let tokens: Vec<String> =
        "abcd".chars().zip([400, 1_900, 700, 5_000]).map(|(c, n)| c.to_string().repeat(n)).collect();
    let writing = |write_mode, enough: &dyn Fn(Seen, usize) -> bool| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("token");
        let output =
            Output { path: path.clone(), mode: None, group: None, write_mode, remove_expired: false };
        let secrets: Vec<Secret> = tokens.iter().cloned().map(Secret::new).collect();
        output_file::write(&output, &secrets[0]).expect("a folder of its own");
        let known = tokens.clone();
        let judge =
            move |text: &str| if known.iter().any(|k| k == text) { Judgement::Good } else { Judgement::Torn };
        let readers = Readers::start(8, &path, judge);
        let (start, mut times) = (Instant::now(), 0);
        while !enough(readers.seen(), times) {
            assert!(start.elapsed() < Duration::from_secs(600), "{times} writes, {:?}", readers.seen());
            times += 1;
            output_file::write(&output, &secrets[times % secrets.len()]).expect("a folder of its own");
        }
        readers.seen()
    };
    let (reads, writes) = if long() { (10_000_000, 100_000) } else { (200_000, 2_000) };
    let seen = writing(WriteMode::Atomic, &|seen, times| seen.reads >= reads && times >= writes);
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
    let seen = writing(WriteMode::InPlace, &|seen, _| seen.torn + seen.empty > 0);
    assert_eq!(seen.missing, 0);
}

/// How long this setup takes to its first token, so that attacks can be spread over all that it does until then.
fn time_to_token(setup: Setup) -> Duration {
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 1);
    let lines = sidecar.process.lines();
    let written =
        lines.iter().find(|line| line.text.contains("token written")).expect("it was said just now");
    written.at
}

/// Starts a sidecar again and again and attacks each at another instant of its way to a token, and shortly after; `attack`
/// gives whether it came too late. The load of the machine changes, so the way is measured anew now and then.
fn attacked(times: u32, setup: impl Fn() -> Setup, mut attack: impl FnMut(Setup, Duration) -> bool) {
    let (mut way, mut late) = (Duration::ZERO, 0);
    for time in 0..times {
        if time % 20 == 0 {
            way = time_to_token(setup());
        }
        // A prime number of steps, so that none is met always.
        if attack(setup(), way * 13 / 10 * (time * 31 % 97) / 97) {
            late += 1;
        }
    }
    assert!((1..times).contains(&late), "{late} of {times} came too late: each kind is to be met");
}

/// Killed at instants spread over its way to a token, again and again over one file: what is there is a token that was
/// issued, and the last start, which nobody kills, heals all by itself.
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
    let readers = Readers::start(1, &output, endpoint.ledger());
    let judge = endpoint.ledger();
    attacked(if long() { 2_000 } else { 100 }, again, |setup, instant| {
        let before = endpoint.issued().len();
        let mut sidecar = setup.run();
        std::thread::sleep(instant);
        sidecar.process.signal(Signal::KILL);
        sidecar.process.ended();
        assert_eq!(judge(&fs::read_to_string(&output).expect("it is always there")), Judgement::Good);
        endpoint.issued().len() > before
    });
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "of {} reads", seen.reads);
    let mut last = again().run();
    last.process.until_logged("token_written", 1);
}

/// Told to end at instants spread over its way to its first token: it ends with 0, and what it leaves is a whole token or
/// nothing at all.
#[test]
fn f101_no_end_of_many_leaves_anything_but_a_whole_token_or_none() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let judge = endpoint.ledger();
    let fresh = || Setup::new().subject(&volume).at_stand_in(&endpoint);
    attacked(if long() { 200 } else { 60 }, fresh, |setup, instant| {
        let (folder, output) = (setup.folder().to_owned(), setup.output());
        let before = endpoint.issued().len();
        let mut sidecar = setup.run();
        std::thread::sleep(instant);
        let listens = listens(sidecar.process.pid());
        sidecar.process.signal(Signal::TERM);
        let told = Instant::now();
        let status = sidecar.process.ended();
        let took = told.elapsed();
        assert!(is_an_end(status, listens), "{status}, listening: {listens}\n{}", sidecar.process.timeline());
        let token = fs::read_to_string(&output).ok();
        assert!(token.as_deref().is_none_or(|token| judge(token) == Judgement::Good), "{token:?}");
        // A write that has begun is finished, unless the disk takes half a second and more for it: then it is let be.
        let left = names(&folder).into_iter().filter(|name| name != "token").count();
        assert!(
            left == 0 || left == 1 && took >= LAST_WORDS,
            "{left} temporary files are left after {took:?}"
        );
        endpoint.issued().len() > before
    });
}

/// Whether SIGTERM is caught by now: until the program has come that far, the kernel ends it in its own way.
fn listens(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(caught.trim(), 16).is_ok_and(|set| set & 1 << (Signal::TERM.as_raw() - 1) != 0)
}

fn is_an_end(status: ExitStatus, listened: bool) -> bool {
    status.code() == Some(0) || !listened && status.signal() == Some(Signal::TERM.as_raw())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
