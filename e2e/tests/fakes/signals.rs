//! Signals: SIGTERM and SIGINT end the program in every state, SIGHUP and SIGUSR1 request a
//! refresh, and SIGPIPE does nothing.

use std::fs;
use std::time::{Duration, Instant};

use dexsidecar_e2e::blackhole::Blackhole;
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::process::{Process, killed_with_parent};
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use rustix::process::Signal;

/// The program ends within a second. The kubelet waits for 30 seconds by default, and nothing that
/// these tests let the program wait for is over by then.
const GRACE: Duration = Duration::from_secs(30);

fn setup(fixture: &Fixture) -> Setup {
    // What hangs does not time out meanwhile.
    fixture.setup().set("DEXSIDECAR_ATTEMPT_TIMEOUT", "5m")
}

/// Brings a sidecar into a state. The fixture must be kept for it to stay there.
type State = fn() -> (Fixture, Sidecar);

const STATES: [(&str, State); 8] = [
    ("idle", || {
        let fixture = Fixture::new();
        let mut sidecar = setup(&fixture).run();
        sidecar.process.until_logged("token_written", 1);
        (fixture, sidecar)
    }),
    ("in the middle of a TLS handshake", || {
        let authority = Authority::new();
        let tls = authority.server(&[]).server_config();
        let fixture = Fixture::at(FakeDex::start_at("127.0.0.1:0", Some(tls)));
        let relay = Blackhole::after_request_bytes(fixture.dex.address(), 50);
        let url = format!("https://{}/dex/token", relay.address());
        let ca = authority.file();
        let setup = setup(&fixture).set("dex_endpoint", url);
        let mut sidecar = setup.set("DEXSIDECAR_CA_FILE", ca.to_str().expect("UTF-8")).run();
        sidecar.process.until("it has connected", |_| relay.connections() > 0);
        (fixture, sidecar)
    }),
    ("waiting for a response", || exchanging(Answer::Silence)),
    ("in the middle of the headers", || exchanging(Answer::Stall(partial(20)))),
    ("in the middle of a body", || exchanging(Answer::Stall(partial(200)))),
    ("in a body that drips", || exchanging(Answer::Drip(partial(200), Duration::from_millis(50)))),
    ("between two attempts", || {
        let fixture = Fixture::new();
        let mut sidecar = setup(&fixture).set("dex_endpoint", "http://127.0.0.1:1/token").run();
        sidecar.process.until_logged("code=connect_refused", 1);
        (fixture, sidecar)
    }),
    ("waiting for the output directory", || {
        let fixture = Fixture::new();
        let setup = setup(&fixture);
        let missing = setup.directory().join("not/there").to_str().expect("UTF-8").to_owned();
        let mut sidecar = setup.set("dex_access_token_file", missing).run();
        sidecar.process.until_logged("code=output_folder_missing", 1);
        (fixture, sidecar)
    }),
];

/// The first bytes of a response of ten thousand.
fn partial(bytes: usize) -> Vec<u8> {
    let mut response = answer("200 OK", &[("Content-Type", "application/json")], &" ".repeat(10_000));
    response.truncate(bytes);
    response
}

fn exchanging(answer: Answer) -> (Fixture, Sidecar) {
    let fixture = Fixture::answering(answer);
    let sidecar = setup(&fixture).run();
    fixture.dex.until_requests(1);
    (fixture, sidecar)
}

#[test]
fn f101_a_signal_ends_run_with_exit_code_0_in_every_state() {
    for signals in [&[Signal::TERM][..], &[Signal::INT], &[Signal::TERM, Signal::TERM, Signal::INT]] {
        std::thread::scope(|scope| {
            for (name, state) in STATES {
                scope.spawn(move || {
                    let (_fixture, mut sidecar) = state();
                    let token = sidecar.token();
                    for signal in signals {
                        sidecar.process.signal(*signal);
                    }
                    let ended = sidecar.process.wait_within(GRACE);
                    assert_eq!(ended, Some(Some(0)), "{name}, {signals:?}\n{}", sidecar.process.timeline());
                    assert_eq!(sidecar.token(), token, "{name}");
                    let files = fs::read_dir(sidecar.setup().directory()).expect("a directory").count();
                    assert_eq!(files, usize::from(token.is_some()), "{name}: no other file is left");
                });
            }
        });
    }
}

/// The kernel gives PID 1 only the signals that it handles.
#[test]
fn f100_sigterm_ends_the_program_as_pid_1() {
    let silent = Fixture::answering(Answer::Silence);
    for (fixture, commands) in [(Fixture::new(), &["run"][..]), (silent, &["run", "once", "check", "token"])]
    {
        for name in commands {
            let requests = fixture.dex.requests().len();
            let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
            command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "env", "-i"]);
            command.args(setup(&fixture).assignments()).arg(program()).arg(name);
            let mut process = Process::start("dexsidecar as PID 1", command);
            fixture.dex.until_requests(requests + 1);
            process.signal_child(Signal::TERM);
            let code = i32::from(*name != "run");
            assert_eq!(process.wait_within(GRACE), Some(Some(code)), "{name}: {}", process.timeline());
        }
    }
}

#[test]
fn f043_f102_a_signal_requests_a_refresh_and_repeated_ones_are_rate_limited() {
    std::thread::scope(|scope| {
        for signal in [Signal::HUP, Signal::USR1] {
            scope.spawn(move || {
                let fixture = Fixture::new();
                let mut sidecar = setup(&fixture).run();
                sidecar.process.until_logged("token_written", 1);
                let start = Instant::now();
                for _ in 0..5 {
                    sidecar.process.signal(signal);
                }
                sidecar.process.until_logged("token_written", 2);
                // This one is delayed if it comes within five seconds of the last refresh by a
                // signal. On a very busy machine it may come later.
                sidecar.process.signal(signal);
                let within = start.elapsed() < Duration::from_secs(4);
                sidecar.process.until_logged("token_written", 3);
                assert_eq!(fixture.dex.requests().len(), 3, "{signal:?}\n{}", sidecar.process.timeline());
                assert_eq!(sidecar.token(), fixture.dex.issued().pop());
                let requested = sidecar.process.events("refresh_requested");
                let delay = requested.last().and_then(|event| event["refresh_in"].as_f64());
                assert!(delay.is_some_and(|delay| delay > 0.0 || !within), "{}", sidecar.process.timeline());
            });
        }
    });
}

#[test]
fn f102_sigpipe_does_nothing() {
    let fixture = Fixture::new();
    let mut sidecar = setup(&fixture).run();
    sidecar.process.until_logged("token_written", 1);
    for _ in 0..3 {
        sidecar.process.signal(Signal::PIPE);
    }
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("token_written", 2);
    assert_eq!(sidecar.process.logged("refresh_requested"), 1, "SIGPIPE requests no refresh");
}

#[test]
fn a_signal_ends_wait_and_its_command_does_not_run() {
    for signal in [Signal::TERM, Signal::INT] {
        for on_timeout in ["fail", "run"] {
            let line = format!("wait --timeout 5m --on-timeout {on_timeout} -- /bin/echo executed");
            let mut sidecar = Setup::new().arguments(&line).run();
            let waiting = &mut sidecar.process;
            waiting.until_line("waiting for 1s", 1);
            waiting.signal(signal);
            assert_eq!(waiting.wait().code(), Some(1), "{on_timeout}");
            let output = waiting.output();
            assert!(!output.contains("executed") && !output.contains("timed out"), "{output}");
        }
    }
}
