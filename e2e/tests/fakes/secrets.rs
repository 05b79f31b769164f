//! No secret is in the log at any level, in a file other than the token file, or in a core dump,
//! whatever a response contains. (The output of every program that a test starts is searched when
//! it ends.)

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_e2e::dex_error_table::{ErrorResponse, REFUSALS};
use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::{CANARY, assert_no_secret, failed_step, report};
use rustix::process::Signal;

const SUBJECT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.canary-signature-canary";
const SECRET: &str = "canary-se+cret";

fn fixture() -> Fixture {
    Fixture { volume: ProjectedVolume::with(SUBJECT), ..Fixture::new() }
}

#[test]
fn the_search_for_secrets_finds_secrets() {
    for text in
        ["x canary y", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2RleC50ZXN0L2RleCJ9.c2lnbmF0dXJl"]
    {
        assert!(std::panic::catch_unwind(|| assert_no_secret(text)).is_err(), "{text}");
    }
    assert_no_secret("nothing to see");
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("below")).unwrap();
    fs::write(directory.path().join("below/file"), b"\xff\x00canary").unwrap();
    assert_eq!(files_with_a_secret(directory.path()), ["below/file"]);
}

/// Each secret of the request, in each of its encodings, comes back in every part of a response.
#[test]
fn a_secret_in_a_response_is_neither_logged_nor_written() {
    let basic = STANDARD.encode("user:canary-se%2Bcret");
    let secret_alone = STANDARD.encode(SECRET);
    let encodings = [
        SUBJECT,
        SECRET,
        "canary-se%2Bcret",
        "%63anary%2dse%2bcret",
        &secret_alone,
        &basic,
        &format!("Basic {basic}"),
    ];
    std::thread::scope(|scope| {
        for secret in encodings {
            scope.spawn(move || echoed(secret));
        }
    });
}

fn echoed(secret: &str) {
    let fixture = fixture();
    for (nth, bytes) in echoes(secret).into_iter().enumerate() {
        fixture.dex.next(Answer::Bytes(bytes.clone()));
        let setup = fixture
            .setup()
            .set("dex_basic_auth", format!("user:{SECRET}"))
            .set("DEXSIDECAR_LOG_FORMAT", if nth % 2 == 0 { "text" } else { "json" });
        let message = setup.directory().join("termination-log");
        fs::write(&message, "").unwrap();
        let setup = setup.set("DEXSIDECAR_TERMINATION_LOG", message.to_str().unwrap());
        let mut sidecar = setup.run();
        let code = if nth % 2 == 0 { " code=" } else { r#","code":""# };
        sidecar.process.until_line(code, 1);
        sidecar
            .process
            .until("the termination message is written", |_| fs::metadata(&message).unwrap().len() > 0);
        assert_eq!(sidecar.terminate(), Some(0));
        assert!(fixture.dex.requests().len() > nth, "the response was sent");
        let all = sidecar.process.output() + &fs::read_to_string(&message).unwrap();
        // An encoded secret does not contain the word that the search looks for.
        assert!(!all.contains(&secret[..12]), "{}\n{all}", String::from_utf8_lossy(&bytes));
        let files = files_with_a_secret(message.parent().unwrap());
        assert!(files.iter().all(|file| file == "token"), "{files:?}");
    }
}

/// Responses with this text in every place where a response has text.
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

/// The error descriptions are Dex's, with the subject token appended.
#[test]
fn check_prints_no_secret_of_any_error_description() {
    let fixture = fixture();
    for refusal in REFUSALS {
        let ErrorResponse { status, error, description } = refusal.response;
        let body = format!(r#"{{"error":"{error}","error_description":"{description} {SUBJECT}"}}"#);
        fixture.dex.next(Answer::Bytes(answer(&format!("{status} Refused"), &[], &body)));
        let setup = fixture.setup().set("dex_basic_auth", format!("user:{SECRET}"));
        let report = report(&setup);
        let failed = failed_step(&report);
        assert_eq!(
            (&failed["step"], &failed["code"]),
            (&"exchange".into(), &refusal.code.into()),
            "{report}"
        );
    }
}

#[test]
fn a_crash_leaves_no_core_dump() {
    let fixture = fixture();
    let setup = fixture.setup();
    // The limit is as high as this machine allows, and the directory is writable.
    let shell = format!("cd {} && ulimit -S -c $(ulimit -H -c) && exec \"$@\"", setup.directory().display());
    let script = setup.directory().join("start");
    fs::write(&script, shell).unwrap();
    let program = dexsidecar_e2e::sidecar::program();
    let mut sidecar = setup.program(&[Path::new("/bin/sh"), &script, &program]).run();
    sidecar.process.until_logged("token_written", 1);
    // SIGQUIT would not do: a shell may start programs in the background with SIGQUIT ignored.
    sidecar.process.signal(Signal::ABORT);
    let status = sidecar.process.wait();
    assert!(status.signal() == Some(Signal::ABORT.as_raw()) && !status.core_dumped(), "{status}");
    let directory = sidecar.output().parent().unwrap().to_owned();
    assert_eq!(files_with_a_secret(&directory), ["token"]);
}

/// The names of the files below a directory that contain a secret.
fn files_with_a_secret(directory: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let content = fs::read(&path).unwrap();
            let has = |secret: &str| content.windows(secret.len()).any(|part| part == secret.as_bytes());
            if has(CANARY) || has("eyJ") {
                found.push(path.strip_prefix(directory).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
