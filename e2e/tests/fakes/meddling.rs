//! What others do to the output file: they edit it, cut it, link it elsewhere, or write into it what they hold for better.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::reader::{Judgement, Readers, Seen};
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::strace::Trace;
use dexsidecar_e2e::volume::Volume;

/// A sidecar that looks at its file each second.
fn attentive(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint).set("dex_refresh_interval", "1s")
}

#[test]
fn f088_what_others_do_to_the_file_is_mended_without_an_exchange() {
    let volume = Volume::with("eyJh.eyJi.canary");
    std::thread::scope(|scope| {
        for deed in ["removed", "emptied", "cut", "replaced by a page"] {
            let volume = &volume;
            scope.spawn(move || {
                let endpoint = Endpoint::start("127.0.0.1:0", None);
                let mut sidecar = attentive(&endpoint, volume).run();
                let token = sidecar.until_token();
                sidecar.process.until_logged("token_written", 1);
                let output = sidecar.output();
                match deed {
                    "removed" => fs::remove_file(&output),
                    "emptied" => fs::write(&output, ""),
                    "cut" => fs::write(&output, &token[..token.len() / 2]),
                    _ => fs::write(&output, "<html>"),
                }
                .expect("a folder of its own");
                sidecar.process.until_logged("output_restored", 1);
                let whole = || fs::read_to_string(&output).is_ok_and(|found| found == token);
                sidecar.process.until(&format!("it is mended: {deed}"), |_| whole());
                // And again, within the same minute.
                fs::remove_file(&output).expect("a folder of its own");
                sidecar.process.until_within(Duration::from_secs(40), "it is mended again", |_| whole());
                assert_eq!(endpoint.heard().len(), 1, "{deed}");
            });
        }
    });
}

/// What others do to the very file between its writing and the end of that is not taken for ours.
#[test]
fn f088_what_is_done_to_the_file_before_it_is_written_to_the_end_is_seen() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    // The folder's fsync takes a while: the file is there already.
    let (trace, setup) =
        Trace::of(attentive(&endpoint, &volume), "-e trace=fsync -e inject=fsync:delay_enter=3s:when=2");
    let output = setup.output();
    let mut sidecar = setup.run();
    let token = sidecar.until_token();
    let file = fs::OpenOptions::new().write(true).open(&output).expect("it is there");
    file.write_all_at(b"foreign", 20).expect("it can be written to");
    assert_eq!(sidecar.process.logged("token_written"), 0, "{:?}", trace.lines());
    sidecar.process.until_logged("output_restored", 1);
    sidecar.process.until("it is whole", |_| fs::read_to_string(&output).is_ok_and(|found| found == token));
    assert_eq!(endpoint.heard().len(), 1);
}

#[test]
fn f076_a_planted_link_is_replaced_and_not_followed() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let victim = setup.folder().join("victim");
    fs::write(&victim, "precious").expect("a folder of its own");
    symlink(&victim, setup.output()).expect("a folder of its own");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("symlink_replaced", 1);
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
    assert!(sidecar.until_token().starts_with("eyJ"));
}

/// Stops a peer, whatever becomes of the test.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A peer that puts files and links there by turns, so that one is seen and the other met; gives how often it did.
fn plants(folder: &Path, victim: &Path, beat: Duration, stopping: &AtomicBool) -> usize {
    let (output, planted) = (folder.join("token"), folder.join("planted"));
    let put = || {
        fs::rename(&planted, &output).expect("a folder of its own");
        std::thread::sleep(beat);
    };
    let mut times = 0;
    while !stopping.load(Ordering::Relaxed) {
        fs::write(&planted, "a file").expect("a folder of its own");
        put();
        symlink(victim, &planted).expect("a folder of its own");
        put();
        times += 1;
    }
    times
}

#[test]
fn f076_no_race_makes_it_follow_a_link() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(2));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = attentive(&endpoint, &volume);
    let (output, victim) = (setup.output(), setup.folder().join("victim"));
    fs::write(&victim, "precious").expect("a folder of its own");
    let stopping = AtomicBool::new(false);
    let folder = setup.folder().to_owned();
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| plants(&folder, &victim, Duration::ZERO, &stopping));
        let stop = Stop(&stopping);
        let mut sidecar = setup.run();
        endpoint.until_heard(7);
        drop(stop);
        assert!(peer.join().is_ok_and(|times| times > 1_000), "it is a race");
        sidecar.process.until("a token stands there in the end", |_| {
            fs::symlink_metadata(&output).is_ok_and(|file| file.is_file())
                && fs::read_to_string(&output).is_ok_and(|token| endpoint.issued().contains(&token))
        });
        assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
    });
}

/// What is written in place is opened after it was looked at. The disk takes as long from one to the other as the peer does, so
/// that a link comes to stand where a file was seen.
#[test]
fn f076_what_is_written_in_place_is_no_link_however_late_it_comes() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let home = Setup::new();
    let (folder, output, victim) = (home.folder(), home.output(), home.folder().join("victim"));
    fs::write(&victim, "precious").expect("a folder of its own");
    let beat = Duration::from_millis(10);
    let slow = format!(
        "-P {} -e trace=openat -e inject=openat:delay_enter={}ms",
        folder.display(),
        beat.as_millis()
    );
    let stopping = AtomicBool::new(false);
    let again = || {
        Setup::new()
            .subject(&volume)
            .at_stand_in(&endpoint)
            .set("dex_access_token_file", output.to_str().expect("UTF-8"))
            .set("DEXSIDECAR_WRITE_MODE", "in-place")
    };
    let met = std::thread::scope(|scope| {
        scope.spawn(|| plants(folder, &victim, beat, &stopping));
        let _stop = Stop(&stopping);
        (0..500).any(|_| {
            let (trace, setup) = Trace::of(again(), &slow);
            let _ = setup.done(&["once", "--timeout", "2s"]);
            let met = |line: &String| line.contains("O_WRONLY") && line.contains("ELOOP");
            trace.lines().iter().any(met) || fs::read(&victim).is_ok_and(|text| text != b"precious")
        })
    });
    assert!(met, "a link is met where a file was seen, or followed");
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
    assert_eq!(again().done(&["once"]).code, Some(0));
    assert_eq!(endpoint.ledger()(&fs::read_to_string(&output).expect("it is there")), Judgement::Good);
}

#[test]
fn f087_three_sidecars_and_one_file_leave_whole_tokens_and_no_storm() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(20));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = || attentive(&endpoint, &volume).set("DEXSIDECAR_LOG", "debug");
    let start = Instant::now();
    // Every change that a reader sees.
    let changes = Arc::new(Mutex::new(Vec::<String>::new()));
    let (seen, ledger) = (Arc::clone(&changes), endpoint.ledger());
    let first = setup();
    let output = first.output();
    let mut sidecars = vec![first.run()];
    sidecars[0].until_token();
    let readers = Readers::start(1, &output, move |text| {
        let mut changes = seen.lock().expect("nobody falls");
        if changes.last().is_none_or(|last| last != text) {
            changes.push(text.to_owned());
        }
        ledger(text)
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
    // Each exchanges in its time, and none because of the others: three in twenty seconds each, and one at its start.
    assert!(endpoint.heard().len() <= 16, "{}", endpoint.heard().len());
    // None of these tokens lives so long that it would be kept for another's: each puts its own back, once a minute. What
    // was seen before and is seen again was put back; what stood there for a moment only may be missed.
    let changes = changes.lock().expect("nobody falls").clone();
    let times = changes.len() - changes.iter().collect::<HashSet<_>>().len();
    let minutes = usize::try_from(start.elapsed().as_secs() / 60).expect("few") + 1;
    assert!(times <= 3 * minutes, "{times} times in {minutes} minutes");
    let warned: Vec<_> =
        sidecars.iter().map(|sidecar| sidecar.process.said("warn  something else")).collect();
    assert!(warned.iter().sum::<usize>() >= 1 && warned.iter().all(|times| *times <= 1), "{warned:?}");
}

#[test]
fn f087_of_two_sidecars_the_one_with_the_shorter_token_gives_way() {
    let volume = Volume::with("eyJh.eyJi.canary");
    let [short, long] = [600, 3_600].map(|seconds| {
        let endpoint = Endpoint::start("127.0.0.1:0", None);
        endpoint.always(Answer::Token(seconds));
        endpoint
    });
    let mut first = attentive(&short, &volume).run();
    first.process.until_logged("token_written", 1);
    let output = first.output().to_str().expect("UTF-8").to_owned();
    let mut second = attentive(&long, &volume).set("dex_access_token_file", output).run();
    second.process.until_logged("token_written", 1);
    first.process.until_logged("output_replaced_by_newer_token", 1);
    // The better one is nobody's to take away, and costs nobody an exchange.
    assert_eq!(long.ledger()(&first.token().expect("it is there")), Judgement::Good);
    assert_eq!((short.heard().len(), long.heard().len()), (1, 1));
    assert_eq!(first.process.logged("output_restored") + second.process.said("something else"), 0);
}
