//! Faults against any program that takes the original's environment: what it asks for, what it leaves in the file and whether
//! it runs is all that is looked at. `cargo xtask survive` prints what came of each.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, mknodat};
use rustix::process::Signal;

use crate::certificates::Authority;
use crate::endpoint::{Answer, Endpoint};
use crate::reader::Readers;
use crate::relay::Relay;
use crate::sidecar::{Setup, Sidecar};
use crate::volume::Volume;
use crate::wire::answer;

/// How long something good may take.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// How long something bad is waited for.
const WHILE: Duration = Duration::from_secs(8);

/// A program, an endpoint, and what is between them.
pub struct Scene {
    endpoint: Endpoint,
    volume: Volume,
    binary: PathBuf,
    patience: Duration,
}

/// A fault's number, and whether a program survives it.
pub type Trial = (usize, fn(&Scene) -> bool);

impl Scene {
    /// For this program, in which something good may take so long.
    #[must_use]
    pub fn new(binary: &Path, patience: Duration) -> Self {
        let endpoint = Endpoint::start("127.0.0.1:0", None);
        Self { endpoint, volume: Volume::with("eyJh.eyJi.sent\n"), binary: binary.to_owned(), patience }
    }

    /// Looks each second, as the original can be told to.
    fn setup(&self) -> Setup {
        let setup = Setup::new().subject(&self.volume).at_stand_in(&self.endpoint);
        setup.set("dex_refresh_interval", "1s").program(&[&self.binary])
    }

    fn good(&self) -> Option<Sidecar> {
        let sidecar = self.setup().run();
        self.until(|| has_token(&sidecar)).then_some(sidecar)
    }

    /// After a good token of a few seconds every answer is this one, and then there are good ones again: the good token stood
    /// there all the while, the program with it, and in the end there is another.
    fn outlives(&self, played: Answer) -> bool {
        self.endpoint.next(Answer::Token(6));
        self.endpoint.always(played);
        let Some(mut sidecar) = self.good() else { return false };
        let (first, asked) = (sidecar.token(), self.endpoint.heard().len());
        let heard = self.until(|| self.endpoint.heard().len() > asked);
        let kept = sidecar.token() == first && sidecar.process.runs();
        self.endpoint.always(Answer::Token(3_600));
        heard && kept && self.until(|| sidecar.token() != first && has_token(&sidecar))
    }

    fn answers(&self, status: &str, headers: &[(&str, &str)], body: &str) -> bool {
        let all: Vec<_> = [("Content-Type", "application/json")].iter().chain(headers).copied().collect();
        self.outlives(Answer::Bytes(answer(status, &all, body)))
    }

    /// Takes no more than so many exchanges in a while.
    fn asks_at_most(&self, times: usize) -> bool {
        let mut sidecar = self.setup().run();
        let asked = self.until(|| !self.endpoint.heard().is_empty());
        std::thread::sleep(WHILE);
        asked && self.endpoint.heard().len() <= times && sidecar.process.runs()
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

/// Every one.
pub const TRIALS: [Trial; 31] = [
    (1, |scene| {
        scene.endpoint.next(Answer::Bytes(vec![]));
        scene.endpoint.next(Answer::Bytes(vec![]));
        scene.good().is_some()
    }),
    (2, |scene| scene.outlives(Answer::Bytes(vec![]))),
    (3, |scene| {
        scene.endpoint.always(Answer::Silence);
        let mut sidecar = scene.setup().run();
        let asked = scene.until(|| !scene.endpoint.heard().is_empty());
        sidecar.process.signal(Signal::TERM);
        asked && sidecar.process.ended_within(WHILE) == Some(Some(0))
    }),
    (5, |scene| scene.outlives(Answer::ResetAfter(400))),
    (15, |scene| {
        let (right, wrong) = (Authority::new(), Authority::new());
        let endpoint = Endpoint::start("127.0.0.1:0", Some(wrong.server(&[]).server_config()));
        let relay = Relay::start(endpoint.address(), usize::MAX);
        let setup = scene.setup().set("SSL_CERT_FILE", right.file().to_string_lossy());
        let setup = setup.set("dex_endpoint", format!("https://{}/dex/token", relay.address()));
        let mut sidecar = setup.run();
        let tried = scene.until(|| relay.connections() > 0);
        std::thread::sleep(WHILE);
        tried && endpoint.heard().is_empty() && sidecar.process.runs() && sidecar.token().is_none()
    }),
    (19, |scene| {
        let canary = Endpoint::start("127.0.0.1:0", None);
        let redirect = answer("307 Temporary Redirect", &[("Location", &canary.url())], "");
        scene.outlives(Answer::Bytes(redirect)) && canary.heard().is_empty()
    }),
    (22, |scene| {
        let later = answer("429 Too Many Requests", &[("Retry-After", "60")], "");
        scene.endpoint.always(Answer::Bytes(later));
        scene.asks_at_most(1)
    }),
    (24, |scene| {
        let odd = |when: &str| Answer::Bytes(answer("503 Service Unavailable", &[("Retry-After", when)], ""));
        scene.endpoint.next(odd("-5"));
        scene.endpoint.next(odd("1e309"));
        scene.endpoint.always(odd(&"9".repeat(400)));
        scene.asks_at_most(5)
    }),
    (25, |scene| scene.answers("502 Bad Gateway", &[], "<html>")),
    (26, |scene| scene.answers("200 OK", &[], "<html>")),
    (27, |scene| scene.answers("200 OK", &[], r#"{"error":"server_error"}"#)),
    (28, |scene| scene.answers("200 OK", &[], r#"{"access_token":"abc","token_type":"bearer","expi"#)),
    (29, |scene| scene.answers("200 OK", &[], &"x".repeat(64 * 1024 * 1024))),
    (31, |scene| {
        scene.answers("200 OK", &[], r#"{"access_token":"","token_type":"bearer","expires_in":60}"#)
    }),
    (32, |scene| {
        scene.answers("200 OK", &[], r#"{"access_token":"a\r\nb","token_type":"bearer","expires_in":60}"#)
    }),
    (33, |scene| {
        scene.answers("200 OK", &[], r#"{"access_token":"abc","token_type":"DPoP","expires_in":60}"#)
    }),
    (39, |scene| {
        let dead = r#"{"access_token":"abc","token_type":"bearer","expires_in":0}"#;
        scene.endpoint.always(Answer::Bytes(answer("200 OK", &[], dead)));
        scene.asks_at_most(6)
    }),
    (48, |scene| {
        let refused = r#"{"error":"invalid_client","error_description":"Invalid client credentials."}"#;
        scene.endpoint.always(Answer::Bytes(answer("401 Unauthorized", &[], refused)));
        scene.asks_at_most(6)
    }),
    // Good tokens of an hour are asked for when they are needed.
    (115, |scene| scene.asks_at_most(1)),
    (56, |scene| {
        let setup = scene.setup();
        let late = setup.folder().join("late");
        let sidecar = setup.set("dex_file_subject_token", late.to_string_lossy()).run();
        std::thread::sleep(Duration::from_secs(1));
        fs::write(&late, "eyJh.eyJi.late").is_ok() && scene.until(|| has_token(&sidecar))
    }),
    (58, |scene| {
        scene.volume.put("");
        let sidecar = scene.setup().run();
        std::thread::sleep(Duration::from_secs(1));
        let sent = scene.endpoint.heard().len();
        scene.volume.put("eyJh.eyJi.sent");
        scene.until(|| has_token(&sidecar)) && sent == 0
    }),
    (62, |scene| {
        let _sidecar = scene.good();
        let heard = scene.endpoint.heard();
        heard.first().and_then(|heard| heard.field("subject_token")).as_deref() == Some("eyJh.eyJi.sent")
    }),
    (63, |scene| {
        let setup = scene.setup();
        let fifo = setup.folder().join("fifo");
        let made = mknodat(CWD, &fifo, FileType::Fifo, 0o600.into(), 0);
        let mut sidecar = setup.set("dex_file_subject_token", fifo.to_string_lossy()).run();
        std::thread::sleep(Duration::from_secs(2));
        let runs = sidecar.process.runs();
        sidecar.process.signal(Signal::TERM);
        made.is_ok() && runs && sidecar.process.ended_within(WHILE) == Some(Some(0))
    }),
    (66, |scene| {
        scene.endpoint.always(Answer::Token(4));
        let _sidecar = scene.good();
        scene.volume.put("eyJh.eyJi.replaced");
        let replaced = |heard: &crate::wire::Heard| {
            heard.field("subject_token").as_deref() == Some("eyJh.eyJi.replaced")
        };
        scene.until(|| scene.endpoint.heard().iter().any(replaced))
    }),
    (71, |scene| {
        let setup = scene.setup();
        let folder = setup.folder().join("later");
        let sidecar = setup.set("dex_access_token_file", folder.join("token").to_string_lossy()).run();
        let asked = scene.until(|| !scene.endpoint.heard().is_empty());
        fs::create_dir(&folder).is_ok()
            && asked
            && scene.until(|| has_token(&sidecar))
            && scene.endpoint.heard().len() == 1
    }),
    (76, |scene| {
        let setup = scene.setup();
        let victim = setup.folder().join("victim");
        let planted = fs::write(&victim, "precious").and_then(|()| symlink(&victim, setup.output()));
        let sidecar = setup.run();
        let written = scene.until(|| has_token(&sidecar));
        planted.is_ok() && written && fs::read_to_string(&victim).is_ok_and(|text| text == "precious")
    }),
    (83, |scene| {
        scene.endpoint.always(Answer::Token(2));
        let Some(mut first) = scene.good() else { return false };
        let output = first.output();
        first.process.kill();
        let before = scene.endpoint.heard().len();
        let whole = (0..100_u64).all(|kill| {
            let setup = scene.setup().set("dex_access_token_file", output.to_string_lossy());
            let mut again = setup.run();
            std::thread::sleep(Duration::from_micros(kill * 997));
            again.process.kill();
            fs::read_to_string(&output).is_ok_and(|token| is_token(&token))
        });
        whole && scene.endpoint.heard().len() > before
    }),
    (88, |scene| {
        let Some(sidecar) = scene.good() else { return false };
        let first = sidecar.token();
        let removed = fs::remove_file(sidecar.output());
        removed.is_ok() && scene.until(|| sidecar.token() == first) && scene.endpoint.heard().len() == 1
    }),
    (89, |scene| {
        scene.endpoint.always(Answer::Token(2));
        let Some(sidecar) = scene.good() else { return false };
        let readers = Readers::start(2, &sidecar.output(), scene.endpoint.ledger());
        let renewed = scene.until(|| scene.endpoint.heard().len() >= 7);
        let seen = readers.seen();
        renewed && seen.empty == 0 && seen.torn == 0 && seen.missing == 0
    }),
    (101, |scene| {
        scene.good().is_some_and(|mut sidecar| {
            sidecar.process.signal(Signal::TERM);
            sidecar.process.ended_within(WHILE) == Some(Some(0))
        })
    }),
    // An interval of nought is refused, and is no panic.
    (119, |scene| {
        let mut sidecar = scene.setup().set("dex_refresh_interval", "0s").run();
        let code = sidecar.process.ended_within(WHILE).flatten();
        code.is_some_and(|code| code != 0) && sidecar.process.said("panic") == 0
    }),
];

/// What came of each: the fault's number, and whether this program survived it. What falls falls silently.
///
/// # Panics
/// When no thread can be made.
#[must_use]
pub fn play(binary: &Path, patience: Duration) -> Vec<(usize, bool)> {
    std::thread::scope(|scope| {
        let running = TRIALS.map(|(number, survives)| {
            let trial =
                move || std::panic::catch_unwind(|| survives(&Scene::new(binary, patience))).unwrap_or(false);
            (number, scope.spawn(trial))
        });
        running.into_iter().map(|(number, thread)| (number, thread.join().unwrap_or(false))).collect()
    })
}
