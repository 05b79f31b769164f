//! Signals: the end, from every state; an exchange now; and what is no signal to anybody.

use std::fs;
use std::time::Duration;

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::process::{Process, tied};
use dexsidecar_e2e::relay::Relay;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use rustix::process::Signal;

/// Nobody who is told to end within a second takes so long, however busy the machine is, and nobody who waits for what
/// these tests let it wait for is done sooner.
const SOON: Duration = Duration::from_secs(5);

fn endpoint() -> Endpoint {
    Endpoint::start("127.0.0.1:0", None)
}

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    // What hangs is not given up meanwhile.
    Setup::new().subject(volume).at_stand_in(endpoint).set("DEXSIDECAR_ATTEMPT_TIMEOUT", "5m")
}

/// A state to be in, and what must be kept for it to stay so.
type State = fn(&Volume) -> (Endpoint, Sidecar);

const STATES: [(&str, State); 8] = [
    ("idle", |volume| {
        let endpoint = endpoint();
        let mut sidecar = setup(&endpoint, volume).run();
        sidecar.process.until_logged("token_written", 1);
        (endpoint, sidecar)
    }),
    ("the middle of a TLS handshake", |volume| {
        let authority = Authority::new();
        let tls = authority.server(&[]).server_config();
        let endpoint = Endpoint::start("127.0.0.1:0", Some(tls));
        let relay = Relay::start(endpoint.address(), 50);
        let url = format!("https://{}/dex/token", relay.address());
        let ca = authority.file();
        let setup = setup(&endpoint, volume).set("dex_endpoint", url);
        let mut sidecar = setup.set("DEXSIDECAR_CA_FILE", ca.to_str().expect("UTF-8")).run();
        sidecar.process.until("it has connected", |_| relay.connections() > 0);
        (endpoint, sidecar)
    }),
    ("waiting for an answer", |volume| answering(volume, Answer::Silence)),
    ("the middle of a head", |volume| answering(volume, Answer::Stall(half(20)))),
    ("the middle of a body", |volume| answering(volume, Answer::Stall(half(200)))),
    ("a body that comes drop by drop", |volume| {
        answering(volume, Answer::Drip(half(200), Duration::from_millis(50)))
    }),
    ("between two tries", |volume| {
        let endpoint = endpoint();
        let mut sidecar = setup(&endpoint, volume).set("dex_endpoint", "http://127.0.0.1:1/token").run();
        sidecar.process.until_logged("code=connect_refused", 1);
        (endpoint, sidecar)
    }),
    ("waiting for a folder", |volume| {
        let endpoint = endpoint();
        let setup = setup(&endpoint, volume);
        let nowhere = setup.folder().join("not/there").to_str().expect("UTF-8").to_owned();
        let mut sidecar = setup.set("dex_access_token_file", nowhere).run();
        sidecar.process.until_logged("code=output_folder_missing", 1);
        (endpoint, sidecar)
    }),
];

/// So many bytes of an answer of ten thousand.
fn half(bytes: usize) -> Vec<u8> {
    let mut whole = answer("200 OK", &[("Content-Type", "application/json")], &" ".repeat(10_000));
    whole.truncate(bytes);
    whole
}

fn answering(volume: &Volume, answer: Answer) -> (Endpoint, Sidecar) {
    let endpoint = endpoint();
    endpoint.always(answer);
    let sidecar = setup(&endpoint, volume).run();
    endpoint.until_heard(1);
    (endpoint, sidecar)
}

#[test]
fn f101_a_signal_ends_it_with_0_from_every_state() {
    let volume = Volume::with("eyJh.eyJi.canary");
    // The last is as impatient as a person at a keyboard.
    for signals in [&[Signal::TERM][..], &[Signal::INT], &[Signal::TERM, Signal::TERM, Signal::INT]] {
        std::thread::scope(|scope| {
            for (name, state) in STATES {
                let volume = &volume;
                scope.spawn(move || {
                    let (_endpoint, mut sidecar) = state(volume);
                    let token = sidecar.token();
                    for signal in signals {
                        sidecar.process.signal(*signal);
                    }
                    let ended = sidecar.process.ended_within(SOON);
                    assert_eq!(ended, Some(Some(0)), "{name}, {signals:?}\n{}", sidecar.process.timeline());
                    assert_eq!(sidecar.token(), token, "{name}");
                    let left = fs::read_dir(sidecar.setup().folder()).expect("a folder").count();
                    assert_eq!(left, usize::from(token.is_some()), "{name}: nothing else is left");
                });
            }
        });
    }
}

#[test]
fn f100_as_pid_1_it_hears_sigterm() {
    let volume = Volume::with("eyJh.eyJi.canary");
    let silent = endpoint();
    silent.always(Answer::Silence);
    for (endpoint, commands) in [(endpoint(), &["run"][..]), (silent, &["run", "once", "check", "token"])] {
        for asked in commands {
            let setup = setup(&endpoint, &volume);
            let heard = endpoint.heard().len();
            let mut command = tied("/usr/bin/unshare".as_ref());
            command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "env", "-i"]);
            command.args(setup.assignments()).arg(program()).arg(asked);
            let mut process = Process::start("dexsidecar as PID 1", command);
            endpoint.until_heard(heard + 1);
            process.signal_child(Signal::TERM);
            let code = i32::from(*asked != "run");
            assert_eq!(process.ended_within(SOON), Some(Some(code)), "{asked}: {}", process.timeline());
        }
    }
}

#[test]
fn f043_f102_a_signal_brings_a_new_token_at_once_and_a_storm_of_them_no_more_than_two() {
    let volume = Volume::with("eyJh.eyJi.canary");
    std::thread::scope(|scope| {
        for signal in [Signal::HUP, Signal::USR1] {
            let volume = &volume;
            scope.spawn(move || {
                let endpoint = endpoint();
                let mut sidecar = setup(&endpoint, volume).run();
                sidecar.process.until_logged("token_written", 1);
                for _ in 0..5 {
                    sidecar.process.signal(signal);
                }
                sidecar.process.until_logged("token_written", 2);
                // It comes within five seconds of the last exchange that was asked for so, and is put off.
                sidecar.process.signal(signal);
                sidecar.process.until_logged("token_written", 3);
                assert_eq!(endpoint.heard().len(), 3, "{signal:?}\n{}", sidecar.process.timeline());
                assert_eq!(sidecar.token(), endpoint.issued().pop());
                let lines = sidecar.process.lines();
                let last =
                    lines.iter().rfind(|line| line.text.contains("as a signal asks")).expect("it was asked");
                assert!(!last.text.contains("in=0s"), "{}", sidecar.process.timeline());
            });
        }
    });
}

#[test]
fn f102_sigpipe_is_nothing_to_it() {
    let (endpoint, volume) = (endpoint(), Volume::with("eyJh.eyJi.canary"));
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_logged("token_written", 1);
    for _ in 0..3 {
        sidecar.process.signal(Signal::PIPE);
    }
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("token_written", 2);
    assert_eq!(sidecar.process.logged("refresh_requested"), 1, "SIGPIPE asks for nothing");
}
