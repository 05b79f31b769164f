//! Snapshots of `check` and `check --json`: for set-ups that succeed, and for a failure of each
//! step.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use dexsidecar_e2e::certificates::{Authority, self_signed};
use dexsidecar_e2e::fake_dex::{Answer, Documents, FakeDex};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::raw_http;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{SigningKey, now};
use serde_json::json;

/// A projected ServiceAccount token that expires in so many seconds.
fn subject(seconds: i64) -> ProjectedVolume {
    let expires = now().saturating_add_signed(seconds);
    ProjectedVolume::with(&SigningKey::new().sign(&json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": "system:serviceaccount:default:app",
        "aud": ["dex"],
        "iat": expires - 3_600,
        "nbf": expires - 3_600,
        "exp": expires,
        "jti": "canary",
    })))
}

/// A refusal as Dex writes it.
fn refusal(status: &str, error: &str, description: &str) -> Answer {
    let body = json!({"error": error, "error_description": description}).to_string();
    Answer::Bytes(raw_http::answer(status, &[("Content-Type", "application/json")], &body))
}

struct Case {
    name: &'static str,
    setup: Setup,
    /// True if no step fails.
    sound: bool,
}

/// Compares text and JSON with the snapshot. Values that differ between runs are replaced by words.
fn assert_report(case: &Case) {
    let volumes = std::env::temp_dir().display().to_string();
    insta::with_settings!({filters => vec![
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"localhost:\d+", "localhost:PORT"),
        (&*format!(r"{volumes}/\.tmp\w+"), "/TMP"),
        (r"(good for|expires in) [0-9hms.]+", "$1 DURATION"),
        (r"(expired|lives) [0-9hms.]+ ", "$1 DURATION "),
        (r" +\d+ ms", "  N ms"),
        (r"\d{4,6} days left", "N days left"),
        (r"this node's clock: \S+", "this node's clock: NOW"),
        (r#""duration_ms": ?\d+"#, r#""duration_ms":N"#),
    ]}, {
        let text = case.setup.execute(&["check"]);
        let json = case.setup.execute(&["check", "--json"]);
        let code = i32::from(!case.sound);
        assert_eq!((text.code, json.code), (Some(code), Some(code)), "{}{}", text.stdout, text.stderr);
        assert_eq!(text.stderr, "");
        let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
        insta::assert_snapshot!(case.name, format!("{}\n{json:#}\n", text.stdout));
    });
}

#[test]
fn check_reports_each_step() {
    let volume = subject(3_600);
    let at = |dex: &FakeDex| Setup::new().at_fake(dex).subject(&volume);
    let report = |name, sound, setup| assert_report(&Case { name, setup, sound });

    let authority = Authority::new();
    let tls = FakeDex::start_at("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    let ca = authority.file().to_str().expect("UTF-8").to_owned();
    report("sound", true, at(&tls).set("DEXSIDECAR_CA_FILE", &ca));
    let plain = FakeDex::start();
    report("sound_plain_http", true, at(&plain));
    let unpublished = FakeDex::start();
    unpublished.publish(Documents::NotServed);
    report("sound_without_discovery", true, at(&unpublished));

    report("settings", false, Setup::new().set("dex_refresh_before", "10").set("DEXSIDECAR_CAFILE", "/ca"));
    report("subject_token_missing", false, at(&plain).set("dex_file_subject_token", "/nowhere/token"));
    let text = ProjectedVolume::with("no token");
    report("subject_token_malformed", false, Setup::new().at_fake(&plain).subject(&text));

    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    report("connect_refused", false, at(&plain).set("dex_endpoint", format!("http://{closed}/dex/token")));
    let proxy = format!("http://{closed}");
    let behind_proxy =
        at(&plain).set("dex_endpoint", "https://192.0.2.1/dex/token").set("HTTPS_PROXY", proxy);
    report("proxy_refused", false, behind_proxy);

    report("certificate_untrusted", false, at(&tls).set("DEXSIDECAR_CA_FILE", other_authority(&authority)));
    let wrong = FakeDex::start_at("127.0.0.1:0", Some(authority.wrong_name().server_config()));
    report("certificate_wrong_name", false, at(&wrong).set("DEXSIDECAR_CA_FILE", &ca));
    let expired = FakeDex::start_at("127.0.0.1:0", Some(authority.expired().server_config()));
    report("certificate_expired", false, at(&expired).set("DEXSIDECAR_CA_FILE", &ca));
    let not_tls = at(&plain).set("dex_endpoint", format!("https://{}/dex/token", answers_http()));
    report("tls_not_spoken", false, not_tls.set("DEXSIDECAR_CA_FILE", &ca));
    let silent = format!("https://{}/dex/token", plain.address());
    let silent = at(&plain).set("dex_endpoint", silent).set("DEXSIDECAR_CA_FILE", &ca);
    report("tls_timed_out", false, silent.set("DEXSIDECAR_ATTEMPT_TIMEOUT", "500ms"));
    report("ca_file_missing", false, at(&tls).set("DEXSIDECAR_CA_FILE", "/nowhere/ca.pem"));

    let refusing = FakeDex::start();
    for (name, status, error, description) in [
        ("connector_unknown", "400 Bad Request", "invalid_request", "Requested connector does not exist."),
        ("invalid_client", "401 Unauthorized", "invalid_client", "Invalid client credentials."),
        ("access_denied", "401 Unauthorized", "access_denied", ""),
        ("unsupported_grant_type", "400 Bad Request", "unsupported_grant_type", ""),
    ] {
        refusing.always(refusal(status, error, description));
        report(name, false, at(&refusing));
    }
    let stale = subject(-600);
    refusing.always(refusal("401 Unauthorized", "access_denied", ""));
    report("access_denied_expired_subject", false, Setup::new().at_fake(&refusing).subject(&stale));
    refusing.always(Answer::Silence);
    report("timed_out", false, at(&refusing).set("DEXSIDECAR_ATTEMPT_TIMEOUT", "500ms"));
    refusing.always(Answer::Bytes(raw_http::answer("503 Service Unavailable", &[], "")));
    report("unavailable", false, at(&refusing));

    report("output_directory_missing", false, at(&plain).set("dex_access_token_file", "/nowhere/token"));
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("token");
    fs::create_dir(&output).expect("a directory");
    report(
        "output_is_a_directory",
        false,
        at(&plain).set("dex_access_token_file", output.to_str().expect("UTF-8")),
    );
}

/// The address of a server that answers every connection in plain HTTP.
fn answers_http() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            // Unread bytes would make the kernel send a reset, which can overtake the answer.
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(&raw_http::answer("400 Bad Request", &[], "client sent TLS"));
        }
    });
    address
}

/// The certificate file of a CA that issued no certificate.
fn other_authority(authority: &Authority) -> String {
    let directory = authority.file().parent().expect("a directory").join("other");
    fs::create_dir_all(&directory).expect("a directory");
    self_signed(&directory, &["other.test"], false).certificate.to_str().expect("UTF-8").to_owned()
}

/// Runs a command on a terminal of its own.
fn on_a_terminal(setup: &Setup, arguments: &str) -> String {
    let program = dexsidecar_e2e::sidecar::program();
    let line = format!("{} {arguments}", program.display());
    let script = ["-qec", &line, "/dev/null"].map(std::path::PathBuf::from);
    let script: Vec<&std::path::Path> = script.iter().map(|word| &**word).collect();
    let words = [&["/usr/bin/script".as_ref()], &*script].concat();
    let setup = setup.assignments().into_iter().fold(Setup::new(), |setup, assignment| {
        let (name, value) = assignment.split_once('=').expect("NAME=value");
        setup.set(name, value)
    });
    setup.program(&words).execute(&[]).stdout
}

#[test]
fn check_is_coloured_on_a_terminal_without_no_color_only() {
    let fake = FakeDex::start();
    let volume = subject(3_600);
    let setup =
        || Setup::new().at_fake(&fake).subject(&volume).set("dex_access_token_file", "/nowhere/token");
    let coloured = on_a_terminal(&setup(), "check");
    assert_eq!(coloured.matches("\x1b[32mok").count(), 7, "{coloured}");
    assert_eq!(coloured.matches("\x1b[1;31mFAIL").count(), 1, "{coloured}");
    let plain = on_a_terminal(&setup().set("NO_COLOR", "1"), "check");
    assert!(!plain.contains('\x1b') && plain.contains("ok       settings"), "{plain}");
    assert!(!setup().execute(&["check"]).stdout.contains('\x1b'));
}

#[test]
fn check_prints_a_step_before_the_next_one_is_done() {
    let fake = FakeDex::start();
    fake.always(Answer::Silence);
    let volume = subject(3_600);
    let setup = Setup::new().at_fake(&fake).subject(&volume).arguments("check");
    let mut check = setup.run();
    check.process.until_line("ok       discovery", 1);
    assert_eq!(check.process.lines_with("FAIL"), 0, "the exchange has not ended yet");
}

#[test]
fn wait_shows_why_it_waits() {
    let setup = Setup::new();
    let shown = on_a_terminal(&setup, "wait --timeout 300ms");
    assert!(shown.contains("\r\x1b[Kwaiting for 0s: ") && shown.contains("no such file"), "{shown:?}");
    for line in shown.split("\r\x1b[K").filter(|line| line.starts_with("waiting")) {
        assert!(line.chars().count() < 80, "a line that wraps cannot be rewritten: {line:?}");
    }
    let dumb = on_a_terminal(&setup.set("TERM", "dumb"), "wait --timeout 300ms");
    assert!(!dumb.contains('\x1b') && dumb.contains("timed out after 300ms"), "{dumb:?}");
    let mut waiting = Setup::new().arguments("wait --timeout 60s").run();
    waiting.process.until_line("waiting for ", 1);
}

#[test]
fn check_ends_when_the_response_drips_beyond_the_attempt_timeout() {
    let dripping = FakeDex::start();
    dripping.always(Answer::Drip(b"HTTP/1.1 200 OK\r\n".to_vec(), Duration::from_millis(200)));
    let volume = subject(3_600);
    let setup = Setup::new().at_fake(&dripping).subject(&volume).set("DEXSIDECAR_ATTEMPT_TIMEOUT", "300ms");
    assert_eq!(setup.execute(&["check"]).code, Some(1));
}
