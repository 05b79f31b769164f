//! Other processes change the output: they edit it, truncate it, replace it by a link, or write a
//! token that expires later.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::file_readers::{Judgement, Readers, Seen};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::strace::Trace;

/// A sidecar that polls its files each second.
fn polling_each_second(fixture: &Fixture) -> Setup {
    fixture.setup().set("dex_refresh_interval", "1s")
}

#[test]
fn f088_a_changed_output_is_restored_without_an_exchange() {
    std::thread::scope(|scope| {
        for change in ["removed", "emptied", "truncated", "replaced by a page"] {
            scope.spawn(move || {
                let fixture = Fixture::new();
                let mut sidecar = polling_each_second(&fixture).run();
                let token = sidecar.until_token();
                sidecar.process.until_logged("token_written", 1);
                let output = sidecar.output();
                match change {
                    "removed" => fs::remove_file(&output),
                    "emptied" => fs::write(&output, ""),
                    "truncated" => fs::write(&output, &token[..token.len() / 2]),
                    _ => fs::write(&output, "<html>"),
                }
                .expect("a temporary directory");
                sidecar.process.until_logged("output_restored", 1);
                let restored = || fs::read_to_string(&output).is_ok_and(|found| found == token);
                sidecar.process.until(&format!("{change}: it is restored"), |_| restored());
                // A second time within the same minute.
                fs::remove_file(&output).expect("a temporary directory");
                sidecar.process.until(&format!("{change}: it is restored again"), |_| restored());
                assert_eq!(fixture.dex.requests().len(), 1, "{change}");
            });
        }
    });
}

/// The file is changed after the rename and before the write is complete.
#[test]
fn f088_a_change_during_the_write_is_noticed() {
    let fixture = Fixture::new();
    // The fsync of the directory takes five seconds. The file is in place by then.
    let (trace, setup) =
        Trace::of(polling_each_second(&fixture), "-e trace=fsync -e inject=fsync:delay_enter=5s:when=2");
    let output = setup.output();
    let mut sidecar = setup.run();
    let token = sidecar.until_token();
    let file = fs::OpenOptions::new().write(true).open(&output).expect("a token file");
    file.write_all_at(b"foreign", 20).expect("a writable file");
    assert_eq!(sidecar.process.logged("token_written"), 0, "{:?}", trace.lines());
    sidecar.process.until_logged("output_restored", 1);
    sidecar
        .process
        .until("it is restored", |_| fs::read_to_string(&output).is_ok_and(|found| found == token));
    assert_eq!(fixture.dex.requests().len(), 1);
}

/// The content of a file that a planted link names.
const PRECIOUS: &str = "precious";

#[test]
fn f076_a_planted_link_is_replaced_and_not_followed() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let victim = setup.directory().join("victim");
    fs::write(&victim, PRECIOUS).expect("a temporary directory");
    symlink(&victim, setup.output()).expect("a temporary directory");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("symlink_replaced", 1);
    assert_eq!(fs::read_to_string(&victim).expect("the victim"), PRECIOUS);
    assert!(sidecar.until_token().starts_with("eyJ"));
}

/// Replaces `token` in this directory atomically.
fn plant(directory: &Path, create: impl FnOnce(&Path) -> std::io::Result<()>) {
    let planted = directory.join("planted");
    create(&planted).and_then(|()| fs::rename(&planted, directory.join("token"))).expect("a directory");
}

/// Another process replaces the output by a file and by a link, a thousand times and more, while
/// the program writes seven tokens.
#[test]
fn f076_a_link_that_is_planted_at_any_moment_is_not_followed() {
    let fixture = Fixture::answering(Answer::Token(2));
    let setup = polling_each_second(&fixture);
    let (output, directory) = (setup.output(), setup.directory().to_owned());
    let victim = directory.join("victim");
    fs::write(&victim, PRECIOUS).expect("a temporary directory");
    let (planted, stopping) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stopping.load(Ordering::Relaxed) {
                plant(&directory, |path| fs::write(path, "a file"));
                plant(&directory, |path| symlink(&victim, path));
                planted.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Also when the test panics.
        let stop = Defer(|| stopping.store(true, Ordering::Relaxed));
        let mut sidecar = setup.run();
        fixture.dex.until_requests(7);
        sidecar.process.until("a thousand links", |_| planted.load(Ordering::Relaxed) > 1_000);
        drop(stop);
        sidecar.process.until("a token is in the file", |_| {
            fs::symlink_metadata(&output).is_ok_and(|file| file.is_file())
                && fs::read_to_string(&output).is_ok_and(|token| fixture.dex.issued().contains(&token))
        });
        assert_eq!(fs::read_to_string(&victim).expect("the victim"), PRECIOUS);
    });
}

/// Calls a closure when dropped.
struct Defer<F: Fn()>(F);

impl<F: Fn()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The program stats the output, and opens it for writing a moment later. strace makes that moment
/// long enough to plant a link in it.
#[test]
fn f076_a_link_that_is_planted_between_stat_and_open_is_not_followed_in_place() {
    let fixture = Fixture::new();
    let home = Setup::new();
    let (directory, output) = (home.directory(), home.output());
    let victim = directory.join("victim");
    fs::write(&victim, PRECIOUS).expect("a temporary directory");
    let in_place = || {
        fixture
            .setup()
            .set("dex_access_token_file", output.to_str().expect("UTF-8"))
            .set("DEXSIDECAR_WRITE_MODE", "in-place")
    };
    let slow =
        format!("-P {} -e trace=newfstatat,openat -e inject=openat:delay_enter=500ms", directory.display());
    // One time is enough, unless this test gets no CPU time for half a second.
    let met = (0..10).any(|_| {
        plant(directory, |path| fs::write(path, "a file"));
        let (trace, setup) = Trace::of(in_place(), &slow);
        let mut sidecar = setup.arguments("once --timeout 30s").run();
        let any =
            |words: [&str; 2]| trace.lines().iter().any(|line| words.iter().all(|word| line.contains(word)));
        sidecar.process.until("the program has called stat", |_| any(["newfstatat(", "\"token\""]));
        plant(directory, |path| symlink(&victim, path));
        // The next attempt replaces the link.
        let code = sidecar.process.wait().code();
        assert_eq!(code, Some(0), "{}{:#?}", sidecar.process.timeline(), trace.lines());
        assert_eq!(fs::read_to_string(&victim).expect("the victim"), PRECIOUS);
        any(["O_WRONLY", "ELOOP"])
    });
    assert!(met, "the link was never in place when the output was opened");
    assert_eq!(in_place().execute(&["once"]).code, Some(0));
    assert_eq!(fixture.dex.judge()(&fs::read_to_string(&output).expect("a token file")), Judgement::Valid);
}

#[test]
fn f087_three_sidecars_with_one_file_keep_their_schedules_and_leave_complete_tokens() {
    let fixture = Fixture::answering(Answer::Token(20));
    let setup = || polling_each_second(&fixture);
    let start = Instant::now();
    // Every change that a reader sees.
    let changes = Arc::new(Mutex::new(Vec::<String>::new()));
    let (seen, judge) = (Arc::clone(&changes), fixture.dex.judge());
    let first = setup();
    let output = first.output();
    let mut sidecars = vec![first.run()];
    sidecars[0].until_token();
    let readers = Readers::start(1, &output, move |text| {
        let mut changes = seen.lock().expect("no thread has panicked");
        if changes.last().is_none_or(|last| last != text) {
            changes.push(text.to_owned());
        }
        judge(text)
    });
    for _ in 0..2 {
        sidecars.push(setup().set("dex_access_token_file", output.to_str().expect("UTF-8")).run());
    }
    for sidecar in &mut sidecars {
        sidecar.process.until_logged("token_written", 1);
    }
    sidecars[0].process.until_logged("token_written", 3);
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default());
    // No exchange comes because of the others: each sidecar waits after each token as long as it
    // logged. One exchange of each may be under way.
    let requests = fixture.dex.requests().len();
    let written: Vec<Vec<_>> =
        sidecars.iter().map(|sidecar| sidecar.process.events("token_written")).collect();
    let elapsed = start.elapsed().as_secs_f64();
    for tokens in &written {
        let waited = tokens.iter().rev().skip(1).filter_map(|token| token["refresh_in"].as_f64());
        assert!(waited.sum::<f64>() <= elapsed, "{elapsed} s: {tokens:#?}");
    }
    let most = written.iter().map(|tokens| tokens.len() + 1).sum::<usize>();
    assert!(requests <= most, "{requests} exchanges, {most} expected at most");
    // These tokens are too short to be kept instead of one's own, so each sidecar restores its own,
    // once a minute. A token that is seen a second time was restored. Those that were there for a
    // moment may be missed.
    let changes = changes.lock().expect("no thread has panicked").clone();
    let times = changes.len() - changes.iter().collect::<HashSet<_>>().len();
    let minutes = usize::try_from(start.elapsed().as_secs() / 60).expect("few") + 1;
    assert!(times <= 3 * minutes, "{times} times in {minutes} minutes");
    let warnings: Vec<_> =
        sidecars.iter().map(|sidecar| sidecar.process.logged("output_restored level=warn")).collect();
    assert!(warnings.iter().sum::<usize>() >= 1 && warnings.iter().all(|times| *times <= 1), "{warnings:?}");
}

#[test]
fn f087_of_two_sidecars_with_one_file_the_later_token_stays() {
    let [short, long] = [600, 3_600].map(|seconds| Fixture::answering(Answer::Token(seconds)));
    let mut first = polling_each_second(&short).run();
    first.process.until_logged("token_written", 1);
    let output = first.output().to_str().expect("UTF-8").to_owned();
    let mut second = polling_each_second(&long).set("dex_access_token_file", output).run();
    second.process.until_logged("token_written", 1);
    first.process.until_logged("output_replaced_by_newer_token", 1);
    // It costs neither of them an exchange.
    assert_eq!(long.dex.judge()(&first.token().expect("a token file")), Judgement::Valid);
    assert_eq!((short.dex.requests().len(), long.dex.requests().len()), (1, 1));
    assert_eq!(first.process.logged("output_restored"), 0);
    let changes = ["output_restored", "output_replaced_by_newer_token"];
    assert_eq!(changes.map(|event| second.process.logged(event)), [0, 0]);
}
