//! The commands beside `run`, from outside: what they print, and their exit codes.

use std::fs;
use std::process::Command;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{Setup, program};
use dexsidecar_e2e::signing_key::{SigningKey, now};
use dexsidecar_e2e::volume::Volume;
use serde_json::json;

fn subject() -> Volume {
    Volume::with("eyJh.eyJi.canary")
}

fn token(seconds: i64) -> String {
    SigningKey::new().sign(&json!({"exp": now().saturating_add_signed(seconds), "jti": "canary"}))
}

#[test]
fn f119_wrong_settings_are_told_all_at_once_and_end_with_78() {
    let setup = Setup::new().set("dex_refresh_before", "10").set("DEXSIDECAR_CAFILE", "/canary");
    for command in [&[][..], &["run"], &["once"], &["token"]] {
        let done = setup.done(command);
        assert_eq!(done.code, Some(78), "{command:?}");
        for told in [
            "dex_endpoint is not set",
            "dex_refresh_before has a number without a unit: use a duration such as 1h30m",
            "DEXSIDECAR_CAFILE is an unknown setting: did you mean DEXSIDECAR_CA_FILE?",
        ] {
            assert!(done.stderr.contains(told), "{command:?}: {told}\n{}", done.stderr);
        }
    }
    assert_eq!(setup.done(&["check"]).code, Some(1));
}

#[test]
fn an_unusable_proxy_is_a_mistake_only_where_it_would_be_used() {
    let setup = |no_proxy: &str| {
        Setup::new()
            .set("dex_endpoint", "https://dex.invalid/token")
            .set("HTTPS_PROXY", "socks4://u:canary@proxy:1080")
            .set("NO_PROXY", no_proxy)
    };
    let done = setup("").done(&["once", "--timeout", "100ms"]);
    assert_eq!(done.code, Some(78));
    assert!(
        done.stderr.contains("HTTPS_PROXY is not the URL of an http, https, socks5 or socks5h proxy"),
        "{}",
        done.stderr
    );
    assert_eq!(setup(".invalid").done(&["once", "--timeout", "100ms"]).code, Some(1));
}

#[test]
fn a_wrong_command_line_ends_with_64_and_a_hint() {
    for (arguments, told) in [
        (&["redy"][..], "did you mean ready?"),
        (&["--ca-fil", "x"], "did you mean --ca-file?"),
        (&["ready", "--json"], "has no --json"),
        (&["run", "x"], "one word too many"),
    ] {
        let done = Setup::new().done(arguments);
        assert_eq!(done.code, Some(64), "{arguments:?}");
        assert!(done.stderr.contains(told), "{}", done.stderr);
    }
}

#[test]
fn version_and_help_are_to_be_had_without_settings() {
    for arguments in [&["version"][..], &["--version"], &["-V"]] {
        let done = Setup::new().done(arguments);
        assert_eq!((done.code, done.stdout.starts_with("dexsidecar ")), (Some(0), true));
    }
    for arguments in [&["help"][..], &["--help"], &["ready", "--help"]] {
        let done = Setup::new().done(arguments);
        assert_eq!((done.code, done.stdout.contains("Usage:")), (Some(0), true));
    }
}

#[test]
fn f110_ready_judges_the_file_on_disk() {
    let setup = Setup::new();
    let ready = |arguments: &[&str]| setup.done(&[&["ready"], arguments].concat()).code;
    assert_eq!(ready(&[]), Some(1), "no file");
    for (content, code) in [
        (token(60), 0),
        (token(-60), 1),
        (String::new(), 1),
        ("<html>\n".to_owned(), 1),
        ("opaque".to_owned(), 0),
    ] {
        fs::write(setup.output(), &content).unwrap();
        assert_eq!(ready(&[]), Some(code), "{content}");
    }
    fs::write(setup.output(), token(60)).unwrap();
    assert_eq!(ready(&["--min-ttl", "30s"]), Some(0));
    assert_eq!(ready(&["--min-ttl", "5m"]), Some(1));
    let other = setup.folder().join("other");
    assert_eq!(ready(&["--file", other.to_str().unwrap()]), Some(1));
    fs::write(&other, token(60)).unwrap();
    assert_eq!(ready(&["--file", other.to_str().unwrap()]), Some(0));
    // A probe does not care about the rest of the settings.
    let broken = Setup::new().set("dex_refresh_before", "x");
    fs::write(broken.output(), token(60)).unwrap();
    assert_eq!(broken.done(&["ready"]).code, Some(0));
    assert_eq!(Setup::new().unset("dex_access_token_file").done(&["ready"]).code, Some(78));
}

#[test]
fn wait_blocks_until_the_token_is_there_and_becomes_the_command() {
    let setup = Setup::new();
    let output = setup.output();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(150));
        fs::write(output, token(60)).unwrap();
    });
    let done =
        setup.done(&["wait", "--timeout", "30s", "--", "/bin/sh", "-c", "echo became $0; exit 7", "it"]);
    writer.join().unwrap();
    assert_eq!((done.code, done.stdout.as_str()), (Some(7), "became it\n"));
    let gone = Setup::new().done(&["wait", "--timeout", "100ms"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("no such file"), "{}", gone.stderr);
    let missing = setup.done(&["wait", "--", "/does/not/exist"]);
    assert_eq!(missing.code, Some(1));
}

#[test]
fn once_writes_one_token_and_gives_up_in_time() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = subject();
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    assert_eq!(setup.done(&["once"]).code, Some(0));
    assert_eq!(fs::read_to_string(setup.output()).unwrap(), endpoint.issued()[0]);
    endpoint.next(Answer::Bytes(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    assert_eq!(setup.done(&["once"]).code, Some(0), "it tries again");
    drop(endpoint);
    let done = setup.done(&["once", "--timeout", "2s"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("no token could be written in time"), "{}", done.stderr);
    assert!(fs::read_to_string(setup.output()).is_ok(), "the last good token stays");
}

#[test]
fn fifty_tokens_at_once_cost_one_exchange() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = subject();
    let runtime = tempfile::tempdir().unwrap();
    let setup = Setup::new()
        .subject(&volume)
        .at_stand_in(&endpoint)
        .unset("dex_access_token_file")
        .set("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let printed: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..50).map(|_| scope.spawn(|| setup.done(&["token"]).stdout)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let issued = endpoint.issued();
    assert_eq!(issued.len(), 1);
    assert!(printed.iter().all(|token| *token == issued[0]));
    // Another configuration is another token; one that does not live long enough is exchanged anew.
    let short = setup.done(&["token", "--min-ttl", "2h"]);
    assert_eq!((short.code, short.stdout.as_str(), endpoint.issued().len()), (Some(1), "", 2));
    assert!(short.stderr.contains("it lives 59m59s, and 2h are asked for"), "{}", short.stderr);
    let _ = setup.done(&["token"]);
    assert_eq!(endpoint.issued().len(), 2);
}

#[test]
fn f119_what_is_not_utf_8_is_refused_by_every_command_that_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "opaque").unwrap();
    for command in ["ready", "wait --timeout 0s", "check", "token", "once", "run"] {
        let script = format!(
            "exec env -i dex_access_token_file={} DEXSIDECAR_MIN_TTL=\"$(printf '\\377')\" {} {command}",
            file.display(),
            program().display()
        );
        let done = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        let code = if command == "check" { 1 } else { 78 };
        assert_eq!(done.status.code(), Some(code), "{command}: {said}");
        assert!(said.contains("DEXSIDECAR_MIN_TTL is not UTF-8"), "{command}: {said}");
    }
}

/// One that was left from before a restart, too.
#[test]
fn an_expired_token_is_removed_at_the_start_where_that_is_asked_for() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Bytes(vec![]));
    let volume = subject();
    for (on_expiry, stays) in [("remove", false), ("keep", true)] {
        let setup =
            Setup::new().subject(&volume).at_stand_in(&endpoint).set("DEXSIDECAR_ON_EXPIRY", on_expiry);
        let output = setup.output();
        fs::write(&output, "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig").unwrap();
        let mut sidecar = setup.run();
        sidecar.process.until_logged("code=connection_lost", 1);
        assert_eq!(output.exists(), stays, "{on_expiry}");
        assert_eq!(sidecar.process.logged("expired_token_removed"), usize::from(!stays));
    }
}

#[test]
fn a_kept_token_is_its_own_identity_s() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let runtime = tempfile::tempdir().unwrap();
    let issuer = dexsidecar_e2e::issuer::Issuer::start();
    let volume = Volume::with(&issuer.token(600));
    let setup = Setup::new()
        .subject(&volume)
        .at_stand_in(&endpoint)
        .unset("dex_access_token_file")
        .set("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let token = || {
        let done = setup.done(&["token"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    };
    let first = token();
    // The kubelet replaces the subject token, and it is the same workload.
    volume.put(&issuer.token(900));
    assert_eq!(token(), first);
    // Another workload comes by the same path.
    volume.put(&issuer.token_with(600, &serde_json::json!({"sub": "system:serviceaccount:other:app"})));
    assert_ne!(token(), first);
    assert_eq!(endpoint.heard().len(), 2);
}

#[test]
fn token_prints_what_the_sidecar_keeps_and_exchanges_without_one() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = subject();
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let kept = token(600);
    fs::write(setup.output(), &kept).unwrap();
    assert_eq!(setup.done(&["token"]).stdout, kept);
    assert!(endpoint.heard().is_empty());
    fs::write(setup.output(), token(-1)).unwrap();
    assert_eq!(setup.done(&["token"]).stdout, endpoint.issued()[0]);
    endpoint.always(Answer::Bytes(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let done = setup.done(&["token"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("hint:"), "{}", done.stderr);
}

#[test]
fn a_variable_that_is_not_utf_8_is_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let value = std::ffi::OsStr::from_bytes(b"\xffcanary");
    let mut command = Command::new(program());
    let output = command.env_clear().env("dex_scope", value).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("dex_scope is not UTF-8") && !text.contains("canary"), "{text}");
    assert_eq!(output.status.code(), Some(78));
}
