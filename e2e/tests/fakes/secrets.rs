//! No secret has a voice: at the most talkative level, whatever is answered, in every file but the output itself, and
//! after a crash. (What each test's program says is searched where it ends: `Sidecar`, `Setup::done`.)

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_e2e::dex_error_table::{ErrorResponse, REFUSALS};
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{CANARY, Setup, assert_no_secret, failed_step};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use rustix::process::Signal;

const SUBJECT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.canary-signature-canary";
const SECRET: &str = "canary-se+cret";

#[test]
fn the_search_for_secrets_finds_one() {
    for text in
        ["x canary y", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2RleC50ZXN0L2RleCJ9.c2lnbmF0dXJl"]
    {
        assert!(std::panic::catch_unwind(|| assert_no_secret(text)).is_err(), "{text}");
    }
    assert_no_secret("nothing to see");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("below")).unwrap();
    fs::write(folder.path().join("below/file"), b"\xff\x00canary").unwrap();
    assert_eq!(files_with_a_secret(folder.path()), ["below/file"]);
}

/// Everything that was sent, in every shape it was sent in, comes back wherever an answer has room for it.
#[test]
fn whatever_is_answered_no_secret_is_said_or_left_behind() {
    let basic = STANDARD.encode("user:canary-se%2Bcret");
    let alone = STANDARD.encode(SECRET);
    let shapes = [
        SUBJECT,
        SECRET,
        "canary-se%2Bcret",
        "%63anary%2dse%2bcret",
        &alone,
        &basic,
        &format!("Basic {basic}"),
    ];
    std::thread::scope(|scope| {
        for secret in shapes {
            scope.spawn(move || echoed(secret));
        }
    });
}

fn echoed(secret: &str) {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with(SUBJECT);
    for (nth, bytes) in echoes(secret).into_iter().enumerate() {
        endpoint.next(Answer::Bytes(bytes.clone()));
        let setup = Setup::new()
            .subject(&volume)
            .at_stand_in(&endpoint)
            .set("dex_basic_auth", format!("user:{SECRET}"))
            .set("DEXSIDECAR_LOG", "debug")
            .set("DEXSIDECAR_LOG_FORMAT", if nth % 2 == 0 { "text" } else { "json" });
        let left = setup.folder().join("termination-log");
        fs::write(&left, "").unwrap();
        let setup = setup.set("DEXSIDECAR_TERMINATION_LOG", left.to_str().unwrap());
        let mut sidecar = setup.run();
        let is_told = |text: &str| text.contains(if nth % 2 == 0 { "code=" } else { r#""code":"# });
        sidecar.process.until("the failure is told", |process| is_told(&process.output()));
        sidecar.process.until("it is left for the kubelet", |_| fs::metadata(&left).unwrap().len() > 0);
        assert_eq!(sidecar.terminate(), Some(0));
        assert!(endpoint.heard().len() > nth, "each answer was given");
        let all = sidecar.process.output() + &fs::read_to_string(&left).unwrap();
        // Where it is encoded, the word that every secret has in it is not to be seen.
        assert!(!all.contains(&secret[..12]), "{}\n{all}", String::from_utf8_lossy(&bytes));
        let files = files_with_a_secret(left.parent().unwrap());
        assert!(files.iter().all(|file| file == "token"), "{files:?}");
    }
}

/// Answers with this text in every place that an answer has.
fn echoes(secret: &str) -> Vec<Vec<u8>> {
    let mut answers = vec![
        answer("400 Bad Request", &[], &format!(r#"{{"error":"{secret}"}}"#)),
        answer("200 OK", &[], &format!(r#"{{"access_token":"abc","token_type":"{secret}"}}"#)),
        answer("200 OK", &[], secret),
        format!("{secret}\r\n\r\n").into_bytes(),
        format!("HTTP/1.1 {secret}\r\n{secret}: {secret}\r\n\r\n").into_bytes(),
    ];
    let body = format!(r#"{{"error":"invalid_grant","error_description":"it was {secret}"}}"#);
    for status in ["200 OK", "302 Found", "400 Bad Request", "401 Unauthorized", "500 Oops", "503 Away"] {
        answers.push(answer(status, &[], &body));
    }
    for header in ["Location", "Content-Type", "Content-Encoding", "Retry-After", "Date"] {
        answers.push(answer("429 Slow down", &[(header, secret)], secret));
        answers.push(answer("307 Elsewhere", &[(header, &format!("https://{secret}/{secret}"))], ""));
        answers.push(answer("200 OK", &[(header, secret)], "<html>"));
    }
    answers
}

/// Dex's own words for each refusal, with the subject token appended; and the command that says most.
#[test]
fn check_repeats_no_secret_of_any_refusal() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with(SUBJECT);
    for refusal in REFUSALS {
        let ErrorResponse { status, error, description } = refusal.response;
        let body = format!(r#"{{"error":"{error}","error_description":"{description} {SUBJECT}"}}"#);
        endpoint.next(Answer::Bytes(answer(&format!("{status} Refused"), &[], &body)));
        let setup = Setup::new()
            .subject(&volume)
            .at_stand_in(&endpoint)
            .set("dex_basic_auth", format!("user:{SECRET}"));
        let done = setup.done(&["check", "--json"]);
        let report = serde_json::from_str(&done.stdout).unwrap();
        let broken = failed_step(&report);
        assert_eq!(
            (&broken["step"], &broken["code"]),
            (&"exchange".into(), &refusal.code.into()),
            "{report}"
        );
    }
}

#[test]
fn a_crash_leaves_no_core() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with(SUBJECT);
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    // As large as this machine allows, in a folder where it may write.
    let shell = format!("cd {} && ulimit -S -c $(ulimit -H -c) && exec \"$@\"", setup.folder().display());
    let script = setup.folder().join("start");
    fs::write(&script, shell).unwrap();
    let program = dexsidecar_e2e::sidecar::program();
    let mut sidecar = setup.program(&[Path::new("/bin/sh"), &script, &program]).run();
    sidecar.process.until_logged("token_written", 1);
    // Not SIGQUIT: what a shell puts into the background may ignore that from birth.
    sidecar.process.signal(Signal::ABORT);
    let status = sidecar.process.ended();
    assert!(status.signal() == Some(Signal::ABORT.as_raw()) && !status.core_dumped(), "{status}");
    let folder = sidecar.output().parent().unwrap().to_owned();
    assert_eq!(files_with_a_secret(&folder), ["token"]);
}

/// The files below a folder that have a secret in them, by their names.
fn files_with_a_secret(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = fs::read(&path).unwrap();
            let has = |secret: &str| content.windows(secret.len()).any(|part| part == secret.as_bytes());
            if has(CANARY) || has("eyJ") {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
