//! Faults against any program that takes the original's environment: what it asks for and what it leaves in the file is all
//! that is looked at. `cargo xtask survive --bin PATH`; without it it is ours.

#![expect(clippy::print_stdout, reason = "the table is for the terminal")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::reader::Readers;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use rustix::process::Signal;

/// How long something good may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program, an endpoint, and what is between them.
struct Scene {
    endpoint: Endpoint,
    volume: Volume,
    binary: PathBuf,
}

impl Scene {
    fn new(binary: &Path) -> Self {
        let endpoint = Endpoint::start("127.0.0.1:0", None);
        Self { endpoint, volume: Volume::with("eyJh.eyJi.sent\n"), binary: binary.to_owned() }
    }

    /// Looks each second, as the original can be told to.
    fn setup(&self) -> Setup {
        let setup = Setup::new().subject(&self.volume).at_stand_in(&self.endpoint);
        setup.set("dex_refresh_interval", "1s").program(&[&self.binary])
    }

    fn answers(&self, status: &str, headers: &[(&str, &str)], body: &str) {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        self.endpoint.always(Answer::Bytes(answer(status, &all, body)));
    }

    /// A sidecar with a first good token of a few seconds, then this endpoint.
    fn after_a_good_token(&self) -> Option<(Sidecar, String)> {
        self.endpoint.next(Answer::Token(30));
        let sidecar = self.setup().run();
        until(|| sidecar.token().is_some_and(|token| is_token(&token))).then(|| {
            let token = sidecar.token().unwrap_or_default();
            (sidecar, token)
        })
    }
}

fn is_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.matches('.').count() == 2 && text.len() > 300
}

fn until(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// After answers like these the good token is still there, and the program with it.
fn keeps_its_token(scene: &Scene) -> bool {
    let Some((mut sidecar, token)) = scene.after_a_good_token() else { return false };
    sidecar.process.signal(Signal::HUP);
    std::thread::sleep(Duration::from_secs(4));
    sidecar.token() == Some(token) && sidecar.process.runs()
}

/// A fault: its number, its name, and whether a program survives it.
type Fault = (u8, &'static str, fn(&Scene) -> bool);

const FAULTS: [Fault; 15] = [
    (1, "Dex is away at the start", |scene| {
        scene.endpoint.next(Answer::Bytes(vec![]));
        scene.endpoint.next(Answer::Bytes(vec![]));
        let sidecar = scene.setup().run();
        until(|| sidecar.token().is_some_and(|token| is_token(&token)))
    }),
    (5, "an answer that is cut off", |scene| {
        scene.endpoint.always(Answer::ResetAfter(400));
        keeps_its_token(scene)
    }),
    (19, "a redirect: the subject token stays here", |scene| {
        let canary = Endpoint::start("127.0.0.1:0", None);
        scene.answers("307 Temporary Redirect", &[("Location", &canary.url())], "");
        let _sidecar = scene.setup().run();
        scene.endpoint.until_heard(2);
        canary.heard().is_empty()
    }),
    (26, "200 with a page", |scene| {
        scene.answers("200 OK", &[], "<html>");
        keeps_its_token(scene)
    }),
    (27, "200 with an error", |scene| {
        scene.answers("200 OK", &[], r#"{"error":"server_error"}"#);
        keeps_its_token(scene)
    }),
    (31, "an empty token", |scene| {
        scene.answers("200 OK", &[], r#"{"access_token":"","token_type":"bearer","expires_in":60}"#);
        keeps_its_token(scene)
    }),
    (32, "a token with a line's end in it", |scene| {
        scene.answers("200 OK", &[], r#"{"access_token":"a\r\nb","token_type":"bearer","expires_in":60}"#);
        keeps_its_token(scene)
    }),
    (39, "tokens that have expired already: no storm", |scene| {
        scene.answers("200 OK", &[], r#"{"access_token":"abc","token_type":"bearer","expires_in":0}"#);
        let _sidecar = scene.setup().run();
        std::thread::sleep(Duration::from_secs(10));
        scene.endpoint.heard().len() <= 8
    }),
    (40, "good tokens of an hour: asked for when they need it", |scene| {
        let sidecar = scene.setup().run();
        std::thread::sleep(Duration::from_secs(10));
        scene.endpoint.heard().len() == 1 && sidecar.token().is_some()
    }),
    (62, "a newline behind the subject token", |scene| {
        let _sidecar = scene.setup().run();
        scene.endpoint.until_heard(1);
        scene.endpoint.heard()[0].field("subject_token").as_deref() == Some("eyJh.eyJi.sent")
    }),
    (63, "a FIFO as subject token", |scene| {
        let setup = scene.setup();
        let fifo = setup.folder().join("fifo");
        let made = rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0);
        let mut sidecar = setup.set("dex_file_subject_token", fifo.to_string_lossy()).run();
        std::thread::sleep(Duration::from_secs(2));
        let runs = sidecar.process.runs();
        sidecar.process.signal(Signal::TERM);
        made.is_ok() && runs && sidecar.process.ended().code().is_some()
    }),
    (76, "a symbolic link at the output", |scene| {
        let setup = scene.setup();
        let victim = setup.folder().join("victim");
        let planted = fs::write(&victim, "precious").and_then(|()| symlink(&victim, setup.output()));
        let sidecar = setup.run();
        let written = until(|| sidecar.token().is_some_and(|token| is_token(&token)));
        planted.is_ok() && written && fs::read_to_string(&victim).is_ok_and(|text| text == "precious")
    }),
    (89, "readers, while tokens come and go", |scene| {
        scene.endpoint.always(Answer::Token(2));
        let sidecar = scene.setup().run();
        if !until(|| sidecar.token().is_some_and(|token| is_token(&token))) {
            return false;
        }
        let readers = Readers::start(2, &sidecar.output(), scene.endpoint.ledger());
        let renewed = until(|| scene.endpoint.heard().len() >= 8);
        let seen = readers.seen();
        renewed && seen.empty == 0 && seen.torn == 0 && seen.missing == 0
    }),
    (101, "SIGTERM ends it with 0", |scene| {
        let mut sidecar = scene.setup().run();
        until(|| sidecar.token().is_some()) && sidecar.terminate() == Some(0)
    }),
    (119, "an interval of nought is refused, and no panic", |scene| {
        let setup = scene.setup().set("dex_refresh_interval", "0s");
        let mut sidecar = setup.run();
        let code = sidecar.process.ended_within(Duration::from_secs(5));
        code.is_some_and(|code| code != Some(0)) && sidecar.process.said("panic") == 0
    }),
];

fn main() -> ExitCode {
    let binary = std::env::args().nth(1).map_or_else(program, PathBuf::from);
    println!("{}\n", binary.display());
    // What falls is told in the table, and nowhere else.
    std::panic::set_hook(Box::new(|_| {}));
    let mut survived = 0;
    let told = std::thread::scope(|scope| {
        let running = FAULTS.map(|(number, name, survives)| {
            let binary = &binary;
            let thread = scope
                .spawn(move || std::panic::catch_unwind(|| survives(&Scene::new(binary))).unwrap_or(false));
            (number, name, thread)
        });
        running.map(|(number, name, thread)| (number, name, thread.join().unwrap_or(false)))
    });
    for (number, name, good) in told {
        survived += usize::from(good);
        println!("F{number:02}  {}  {name}", if good { "survived" } else { "FELL    " });
    }
    println!("\n{survived} of {} survived", FAULTS.len());
    if survived == FAULTS.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
