//! Faults for any program that understands the original's environment (miscord-dev/dexsidecar).
//! They look at what it requests, what the token file holds, and whether it runs. `cargo xtask
//! survive` prints the result of each.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, mknodat};
use rustix::process::Signal;

use crate::blackhole::Blackhole;
use crate::certificates::Authority;
use crate::fake_dex::{Answer, FakeDex};
use crate::file_readers::Readers;
use crate::projected_volume::ProjectedVolume;
use crate::raw_http::{HttpRequest, answer};
use crate::sidecar::{Setup, Sidecar};

/// How long a trial waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How long a trial waits for what must not happen.
const OBSERVATION: Duration = Duration::from_secs(8);

/// A program under test, and the fake Dex and subject token that it gets.
pub struct Scenario {
    dex: FakeDex,
    volume: ProjectedVolume,
    program: PathBuf,
    patience: Duration,
}

/// One fault and its verdict.
#[derive(Clone, Copy)]
pub struct Trial {
    /// The number of the fault.
    pub fault: usize,
    /// True if the program survives it.
    survives: fn(&Scenario) -> bool,
}

impl Scenario {
    /// A scenario for this program. What must happen is waited for so long.
    #[must_use]
    pub fn new(program: &Path, patience: Duration) -> Self {
        let volume = ProjectedVolume::with("eyJh.eyJi.sent\n");
        Self { dex: FakeDex::start(), volume, program: program.to_owned(), patience }
    }

    /// The program polls its files each second; the original can be configured so too.
    fn setup(&self) -> Setup {
        let setup = Setup::new().subject(&self.volume).at_fake(&self.dex);
        setup.set("dex_refresh_interval", "1s").program(&[&self.program])
    }

    /// Starts the program and waits for its first token.
    fn with_token(&self) -> Option<Sidecar> {
        let sidecar = self.setup().run();
        self.until(|| has_token(&sidecar)).then_some(sidecar)
    }

    /// After a token of six seconds every exchange gets this answer, and later tokens again. True
    /// if the first token stays in the file, the program runs on, and a new token follows.
    fn outlives(&self, fault: Answer) -> bool {
        self.dex.next(Answer::Token(6));
        self.dex.always(fault);
        let Some(mut sidecar) = self.with_token() else { return false };
        let (first, before) = (sidecar.token(), self.requests());
        let met = self.until(|| self.requests() > before);
        let kept = sidecar.token() == first && sidecar.process.is_running();
        self.dex.always(Answer::Token(3_600));
        met && kept && self.until(|| sidecar.token() != first && has_token(&sidecar))
    }

    fn outlives_response(&self, status: &str, headers: &[(&str, &str)], body: &str) -> bool {
        let all: Vec<_> = [("Content-Type", "application/json")].iter().chain(headers).copied().collect();
        self.outlives(Answer::Bytes(answer(status, &all, body)))
    }

    /// True if the program makes an exchange, and no more than so many while it is observed.
    fn requests_at_most(&self, times: usize) -> bool {
        let mut sidecar = self.setup().run();
        let requested = self.until(|| self.requests() > 0);
        std::thread::sleep(OBSERVATION);
        requested && self.requests() <= times && sidecar.process.is_running()
    }

    fn requests(&self) -> usize {
        self.dex.requests().len()
    }

    fn until(&self, holds: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > self.patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

fn is_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.matches('.').count() == 2 && text.len() > 300
}

fn has_token(sidecar: &Sidecar) -> bool {
    sidecar.token().is_some_and(|token| is_token(&token))
}

/// True if SIGTERM ends the program with exit code 0.
fn ends(sidecar: &mut Sidecar) -> bool {
    sidecar.process.signal(Signal::TERM);
    sidecar.process.wait_within(OBSERVATION) == Some(Some(0))
}

const fn trial(fault: usize, survives: fn(&Scenario) -> bool) -> Trial {
    Trial { fault, survives }
}

/// All trials.
pub const TRIALS: [Trial; 31] = [
    trial(1, dex_is_down_at_startup),
    trial(2, |scenario| scenario.outlives(Answer::Bytes(vec![]))),
    trial(3, the_response_never_comes),
    trial(5, |scenario| scenario.outlives(Answer::ResetAfter(400))),
    trial(15, the_certificate_is_of_another_authority),
    trial(19, a_redirect_leads_to_another_server),
    trial(22, retry_after_is_a_minute),
    trial(24, retry_after_is_invalid),
    trial(25, |scenario| scenario.outlives_response("502 Bad Gateway", &[], "<html>")),
    trial(26, |scenario| scenario.outlives_response("200 OK", &[], "<html>")),
    trial(27, |scenario| scenario.outlives_response("200 OK", &[], r#"{"error":"server_error"}"#)),
    trial(28, |scenario| {
        scenario.outlives_response("200 OK", &[], r#"{"access_token":"abc","token_type":"bearer","expi"#)
    }),
    trial(29, |scenario| scenario.outlives_response("200 OK", &[], &"x".repeat(64 * 1024 * 1024))),
    trial(31, |scenario| {
        let body = r#"{"access_token":"","token_type":"bearer","expires_in":60}"#;
        scenario.outlives_response("200 OK", &[], body)
    }),
    trial(32, |scenario| {
        let body = r#"{"access_token":"a\r\nb","token_type":"bearer","expires_in":60}"#;
        scenario.outlives_response("200 OK", &[], body)
    }),
    trial(33, |scenario| {
        let body = r#"{"access_token":"abc","token_type":"DPoP","expires_in":60}"#;
        scenario.outlives_response("200 OK", &[], body)
    }),
    trial(39, tokens_have_no_lifetime),
    trial(48, the_client_is_refused),
    trial(56, the_subject_token_comes_late),
    trial(58, the_subject_token_is_empty),
    trial(62, the_subject_token_ends_with_a_newline),
    trial(63, the_subject_token_is_a_fifo),
    trial(66, the_subject_token_is_replaced),
    trial(71, the_output_directory_comes_late),
    trial(76, the_output_is_a_symbolic_link),
    trial(83, the_program_is_killed_at_any_moment),
    trial(88, the_output_is_removed),
    trial(89, readers_read_during_replacements),
    trial(101, |scenario| scenario.with_token().is_some_and(|mut sidecar| ends(&mut sidecar))),
    // A token of an hour is not exchanged again within seconds.
    trial(115, |scenario| scenario.requests_at_most(1)),
    trial(119, the_refresh_interval_is_zero),
];

fn dex_is_down_at_startup(scenario: &Scenario) -> bool {
    scenario.dex.next(Answer::Bytes(vec![]));
    scenario.dex.next(Answer::Bytes(vec![]));
    scenario.with_token().is_some()
}

fn the_response_never_comes(scenario: &Scenario) -> bool {
    scenario.dex.always(Answer::Silence);
    let mut sidecar = scenario.setup().run();
    scenario.until(|| scenario.requests() > 0) && ends(&mut sidecar)
}

fn the_certificate_is_of_another_authority(scenario: &Scenario) -> bool {
    let (trusted, other) = (Authority::new(), Authority::new());
    let dex = FakeDex::start_at("127.0.0.1:0", Some(other.server(&[]).server_config()));
    let relay = Blackhole::after_request_bytes(dex.address(), usize::MAX);
    let setup = scenario.setup().set("SSL_CERT_FILE", trusted.file().to_string_lossy());
    let setup = setup.set("dex_endpoint", format!("https://{}/dex/token", relay.address()));
    let mut sidecar = setup.run();
    let connected = scenario.until(|| relay.connections() > 0);
    std::thread::sleep(OBSERVATION);
    connected && dex.requests().is_empty() && sidecar.process.is_running() && sidecar.token().is_none()
}

fn a_redirect_leads_to_another_server(scenario: &Scenario) -> bool {
    let other = FakeDex::start();
    let redirect = answer("307 Temporary Redirect", &[("Location", &other.url())], "");
    scenario.outlives(Answer::Bytes(redirect)) && other.requests().is_empty()
}

fn retry_after_is_a_minute(scenario: &Scenario) -> bool {
    let later = answer("429 Too Many Requests", &[("Retry-After", "60")], "");
    scenario.dex.always(Answer::Bytes(later));
    scenario.requests_at_most(1)
}

fn retry_after_is_invalid(scenario: &Scenario) -> bool {
    let later = |when: &str| Answer::Bytes(answer("503 Service Unavailable", &[("Retry-After", when)], ""));
    scenario.dex.next(later("-5"));
    scenario.dex.next(later("1e309"));
    scenario.dex.always(later(&"9".repeat(400)));
    scenario.requests_at_most(5)
}

fn tokens_have_no_lifetime(scenario: &Scenario) -> bool {
    let expired = r#"{"access_token":"abc","token_type":"bearer","expires_in":0}"#;
    scenario.dex.always(Answer::Bytes(answer("200 OK", &[], expired)));
    scenario.requests_at_most(6)
}

fn the_client_is_refused(scenario: &Scenario) -> bool {
    let refusal = r#"{"error":"invalid_client","error_description":"Invalid client credentials."}"#;
    scenario.dex.always(Answer::Bytes(answer("401 Unauthorized", &[], refusal)));
    scenario.requests_at_most(6)
}

fn the_subject_token_comes_late(scenario: &Scenario) -> bool {
    let setup = scenario.setup();
    let late = setup.directory().join("late");
    let sidecar = setup.set("dex_file_subject_token", late.to_string_lossy()).run();
    std::thread::sleep(Duration::from_secs(1));
    fs::write(&late, "eyJh.eyJi.late").is_ok() && scenario.until(|| has_token(&sidecar))
}

fn the_subject_token_is_empty(scenario: &Scenario) -> bool {
    scenario.volume.replace_token("");
    let sidecar = scenario.setup().run();
    std::thread::sleep(Duration::from_secs(1));
    let sent = scenario.requests();
    scenario.volume.replace_token("eyJh.eyJi.sent");
    scenario.until(|| has_token(&sidecar)) && sent == 0
}

fn the_subject_token_ends_with_a_newline(scenario: &Scenario) -> bool {
    let _sidecar = scenario.with_token();
    let requests = scenario.dex.requests();
    requests.first().and_then(|request| request.field("subject_token")).as_deref() == Some("eyJh.eyJi.sent")
}

fn the_subject_token_is_a_fifo(scenario: &Scenario) -> bool {
    let setup = scenario.setup();
    let fifo = setup.directory().join("fifo");
    let made = mknodat(CWD, &fifo, FileType::Fifo, 0o600.into(), 0);
    let mut sidecar = setup.set("dex_file_subject_token", fifo.to_string_lossy()).run();
    std::thread::sleep(Duration::from_secs(2));
    made.is_ok() && sidecar.process.is_running() && ends(&mut sidecar)
}

fn the_subject_token_is_replaced(scenario: &Scenario) -> bool {
    scenario.dex.always(Answer::Token(4));
    let _sidecar = scenario.with_token();
    scenario.volume.replace_token("eyJh.eyJi.replaced");
    let replaced =
        |request: &HttpRequest| request.field("subject_token").as_deref() == Some("eyJh.eyJi.replaced");
    scenario.until(|| scenario.dex.requests().iter().any(replaced))
}

fn the_output_directory_comes_late(scenario: &Scenario) -> bool {
    let setup = scenario.setup();
    let directory = setup.directory().join("later");
    let sidecar = setup.set("dex_access_token_file", directory.join("token").to_string_lossy()).run();
    let requested = scenario.until(|| scenario.requests() > 0);
    fs::create_dir(&directory).is_ok()
        && requested
        && scenario.until(|| has_token(&sidecar))
        && scenario.requests() == 1
}

fn the_output_is_a_symbolic_link(scenario: &Scenario) -> bool {
    let setup = scenario.setup();
    let victim = setup.directory().join("victim");
    let planted = fs::write(&victim, "precious").and_then(|()| symlink(&victim, setup.output()));
    let sidecar = setup.run();
    let written = scenario.until(|| has_token(&sidecar));
    planted.is_ok() && written && fs::read_to_string(&victim).is_ok_and(|text| text == "precious")
}

fn the_program_is_killed_at_any_moment(scenario: &Scenario) -> bool {
    scenario.dex.always(Answer::Token(2));
    let Some(mut first) = scenario.with_token() else { return false };
    let output = first.output();
    first.process.kill();
    let before = scenario.requests();
    let complete = (0..100_u64).all(|kill| {
        let setup = scenario.setup().set("dex_access_token_file", output.to_string_lossy());
        let mut again = setup.run();
        std::thread::sleep(Duration::from_micros(kill * 997));
        again.process.kill();
        fs::read_to_string(&output).is_ok_and(|token| is_token(&token))
    });
    complete && scenario.requests() > before
}

fn the_output_is_removed(scenario: &Scenario) -> bool {
    let Some(sidecar) = scenario.with_token() else { return false };
    let first = sidecar.token();
    let removed = fs::remove_file(sidecar.output());
    removed.is_ok() && scenario.until(|| sidecar.token() == first) && scenario.requests() == 1
}

fn readers_read_during_replacements(scenario: &Scenario) -> bool {
    scenario.dex.always(Answer::Token(2));
    let Some(sidecar) = scenario.with_token() else { return false };
    let readers = Readers::start(2, &sidecar.output(), scenario.dex.judge());
    let refreshed = scenario.until(|| scenario.requests() >= 7);
    let seen = readers.seen();
    refreshed && seen.empty == 0 && seen.malformed == 0 && seen.missing == 0
}

/// The program refuses it, and does not panic.
fn the_refresh_interval_is_zero(scenario: &Scenario) -> bool {
    let mut sidecar = scenario.setup().set("dex_refresh_interval", "0s").run();
    let code = sidecar.process.wait_within(OBSERVATION).flatten();
    code.is_some_and(|code| code != 0) && sidecar.process.lines_with("panic") == 0
}

/// Runs every trial against a program: the number of each fault, and whether the program survived
/// it. A trial that panics is not survived.
///
/// # Panics
/// When no thread can be started.
#[must_use]
pub fn run(program: &Path, patience: Duration) -> Vec<(usize, bool)> {
    std::thread::scope(|scope| {
        let running = TRIALS.map(|trial| {
            let survives = move || {
                let survives = || (trial.survives)(&Scenario::new(program, patience));
                std::panic::catch_unwind(survives).unwrap_or(false)
            };
            (trial.fault, scope.spawn(survives))
        });
        running.into_iter().map(|(fault, thread)| (fault, thread.join().unwrap_or(false))).collect()
    })
}
