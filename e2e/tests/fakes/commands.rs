//! The commands beside `run`: what they print, and their exit codes.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::{EXPIRED_TOKEN, Fixture};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Completed, Setup, program};
use dexsidecar_e2e::signing_key::{SigningKey, now};
use serde_json::{Value, json};

fn token(seconds: i64) -> String {
    SigningKey::new().sign(&json!({"exp": now().saturating_add_signed(seconds), "jti": "canary"}))
}

/// The invalid settings of a log: setting, error and fix of each.
fn invalid_settings(completed: &Completed) -> Vec<[String; 3]> {
    let events = completed.events("setting_invalid level=error");
    let field = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    events.iter().map(|event| ["setting", "error", "fix"].map(|name| field(event, name))).collect()
}

#[test]
fn f119_all_invalid_settings_are_reported_at_once_with_exit_code_78() {
    let setup = Setup::new().set("dex_refresh_before", "10").set("DEXSIDECAR_CAFILE", "/canary");
    for command in [&[][..], &["run"], &["once"], &["token"]] {
        let completed = setup.execute(command);
        assert_eq!(completed.code, Some(78), "{command:?}");
        let invalid = invalid_settings(&completed);
        for (setting, error, fix) in [
            ("dex_endpoint", "is not set", "set it to the URL of Dex's token endpoint"),
            ("dex_refresh_before", "has a number without a unit", "use a duration such as 1h30m"),
            ("DEXSIDECAR_CAFILE", "is an unknown setting", "use DEXSIDECAR_CA_FILE"),
        ] {
            let named: Vec<_> = invalid.iter().filter(|[named, ..]| named == setting).collect();
            assert!(
                matches!(named[..], [[_, what, how]] if what == error && how.starts_with(fix)),
                "{command:?}: {setting}: {}",
                completed.stderr
            );
        }
    }
    assert_eq!(setup.execute(&["check"]).code, Some(1));
}

#[test]
fn an_invalid_proxy_is_an_error_only_if_it_would_be_used() {
    let setup = |no_proxy: &str| {
        Setup::new()
            .set("dex_endpoint", "https://dex.invalid/token")
            .set("HTTPS_PROXY", "socks4://u:canary@proxy:1080")
            .set("NO_PROXY", no_proxy)
    };
    let once = setup("").execute(&["once", "--timeout", "100ms"]);
    assert_eq!(once.code, Some(78));
    let proxy = once.events("setting_invalid setting=HTTPS_PROXY");
    assert_eq!(proxy.len(), 1, "{}", once.stderr);
    assert_eq!(proxy[0]["error"], "is not the URL of an http, https, socks5 or socks5h proxy");
    assert_eq!(setup(".invalid").execute(&["once", "--timeout", "100ms"]).code, Some(1));
}

#[test]
fn a_wrong_command_line_has_exit_code_64_and_a_hint() {
    for (arguments, hint) in [
        (&["redy"][..], "did you mean ready?"),
        (&["--ca-fil", "x"], "did you mean --ca-file?"),
        (&["ready", "--json"], "ready has no option --json"),
        (&["run", "x"], "unexpected argument x"),
    ] {
        let completed = Setup::new().execute(arguments);
        assert_eq!(completed.code, Some(64), "{arguments:?}");
        assert!(completed.stderr.contains(hint), "{}", completed.stderr);
    }
}

#[test]
fn version_and_help_need_no_settings() {
    for arguments in [&["version"][..], &["--version"], &["-V"]] {
        let completed = Setup::new().execute(arguments);
        assert_eq!((completed.code, completed.stdout.starts_with("dexsidecar ")), (Some(0), true));
    }
    for arguments in [&["help"][..], &["--help"], &["ready", "--help"]] {
        let completed = Setup::new().execute(arguments);
        assert_eq!((completed.code, completed.stdout.contains("Usage:")), (Some(0), true));
    }
}

#[test]
fn f110_ready_tests_the_token_file() {
    let setup = Setup::new();
    let ready = |arguments: &[&str]| setup.execute(&[&["ready"], arguments].concat()).code;
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
    let other = setup.directory().join("other");
    assert_eq!(ready(&["--file", other.to_str().unwrap()]), Some(1));
    fs::write(&other, token(60)).unwrap();
    assert_eq!(ready(&["--file", other.to_str().unwrap()]), Some(0));
    // A probe ignores the settings of the exchange.
    let invalid = Setup::new().set("dex_refresh_before", "x");
    fs::write(invalid.output(), token(60)).unwrap();
    assert_eq!(invalid.execute(&["ready"]).code, Some(0));
    assert_eq!(Setup::new().unset("dex_access_token_file").execute(&["ready"]).code, Some(78));
}

#[test]
fn wait_blocks_until_there_is_a_valid_token_and_becomes_the_command() {
    let setup = Setup::new();
    let output = setup.output();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(150));
        fs::write(output, token(60)).unwrap();
    });
    let completed =
        setup.execute(&["wait", "--timeout", "30s", "--", "/bin/sh", "-c", "echo became $0; exit 7", "it"]);
    writer.join().unwrap();
    assert_eq!((completed.code, completed.stdout.as_str()), (Some(7), "became it\n"));
    let timed_out = Setup::new().execute(&["wait", "--timeout", "100ms"]);
    assert_eq!(timed_out.code, Some(1));
    assert!(timed_out.stderr.contains("no such file"), "{}", timed_out.stderr);
    let no_program = setup.execute(&["wait", "--", "/does/not/exist"]);
    assert_eq!(no_program.code, Some(1));
}

#[test]
fn at_its_timeout_wait_fails_or_goes_on_with_a_warning() {
    let command = ["--", "/bin/sh", "-c", "echo runs"];
    let wait = |options: &[&str], command: &[&str]| {
        Setup::new().execute(&[&["wait", "--timeout", "50ms"], options, command].concat())
    };
    for (options, code, printed, warning) in [
        (&[][..], 1, "", "timed out after 50ms:\n"),
        (&["--on-timeout", "fail"], 1, "", "timed out after 50ms:\n"),
        (&["--on-timeout=run"], 0, "runs\n", "timed out after 50ms, going on without a valid token:\n"),
    ] {
        let timed_out = wait(options, &command);
        assert_eq!((timed_out.code, timed_out.stdout.as_str()), (Some(code), printed), "{options:?}");
        assert!(timed_out.stderr.starts_with(warning), "{}", timed_out.stderr);
        assert!(timed_out.stderr.contains("no such file"), "{}", timed_out.stderr);
    }
    // Without a command there is nothing to run, and what follows this command goes on.
    assert_eq!(wait(&["--on-timeout=run"], &[]).code, Some(0));
    let by_variable = Setup::new().set("DEXSIDECAR_ON_TIMEOUT", "run");
    assert_eq!(by_variable.execute(&["wait", "--timeout", "0s"]).code, Some(0));
    assert_eq!(wait(&["--on-timeout=exec"], &command).code, Some(78));
}

#[test]
fn wait_reports_after_a_second_why_it_waits() {
    let waited = Setup::new().execute(&["wait", "--timeout", "3s"]);
    let reports = waited.stderr.lines().filter(|line| line.starts_with("waiting for 1s: /")).count();
    assert_eq!((waited.code, reports), (Some(1), 1), "{}", waited.stderr);
}

#[test]
fn once_writes_one_token_or_ends_at_its_timeout() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    assert_eq!(setup.execute(&["once"]).code, Some(0));
    assert_eq!(fs::read_to_string(setup.output()).unwrap(), fixture.dex.issued()[0]);
    fixture.dex.next(Answer::Bytes(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    assert_eq!(setup.execute(&["once"]).code, Some(0), "the second attempt succeeds");
    drop(fixture);
    let timed_out = setup.execute(&["once", "--timeout", "2s"]);
    assert_eq!(timed_out.code, Some(1));
    let ended = timed_out.events("once_timed_out timeout=2 level=error");
    assert_eq!(ended.len(), 1, "{}", timed_out.stderr);
    let failed = &timed_out.events("attempt_failed")[0];
    assert_eq!(
        (&ended[0]["error"], &ended[0]["fix"]),
        (&failed["error"], &failed["fix"]),
        "{}",
        timed_out.stderr
    );
    assert!(fs::read_to_string(setup.output()).is_ok(), "the last token stays");
}

#[test]
fn fifty_calls_of_token_at_once_make_one_exchange() {
    let fixture = Fixture::new();
    let runtime = tempfile::tempdir().unwrap();
    let setup = fixture
        .setup()
        .unset("dex_access_token_file")
        .set("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let printed: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..50).map(|_| scope.spawn(|| setup.execute(&["token"]).stdout)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let issued = fixture.dex.issued();
    assert_eq!(issued.len(), 1);
    assert!(printed.iter().all(|token| *token == issued[0]));
    // Another --min-ttl is another cache entry. A token with too short a lifetime is not cached.
    let short = setup.execute(&["token", "--min-ttl", "2h"]);
    assert_eq!((short.code, short.stdout.as_str(), fixture.dex.issued().len()), (Some(1), "", 2));
    assert!(short.stderr.contains("its lifetime is 59m59s, but --min-ttl is 2h"), "{}", short.stderr);
    assert!(short.stderr.contains("\ncode:  token_expired\n"), "{}", short.stderr);
    let _ = setup.execute(&["token"]);
    assert_eq!(fixture.dex.issued().len(), 2);
}

/// Runs the program in an environment with one variable that is not UTF-8.
fn with_invalid_utf8(variable: &str, arguments: &[&str], more: &[(&str, &str)]) -> Completed {
    let value = std::ffi::OsStr::from_bytes(b"\xffcanary");
    let mut command = Command::new(program());
    command.env_clear().env("DEXSIDECAR_LOG_FORMAT", "json").envs(more.iter().copied());
    let output = command.env(variable, value).args(arguments).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Completed { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn f119_a_setting_that_is_not_utf_8_is_refused_by_every_command_that_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "opaque").unwrap();
    let output = [("dex_access_token_file", file.to_str().unwrap())];
    for command in ["ready", "wait --timeout 0s", "token", "once", "run"] {
        let arguments: Vec<_> = command.split(' ').collect();
        let completed = with_invalid_utf8("DEXSIDECAR_MIN_TTL", &arguments, &output);
        let invalid = completed.events("setting_invalid setting=DEXSIDECAR_MIN_TTL");
        assert_eq!((completed.code, invalid.len()), (Some(78), 1), "{command}: {}", completed.stderr);
        assert_eq!(invalid[0]["error"], "is not UTF-8", "{command}");
    }
    let check = with_invalid_utf8("DEXSIDECAR_MIN_TTL", &["check"], &output);
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.contains("DEXSIDECAR_MIN_TTL is not UTF-8"), "{}", check.stdout);
}

#[test]
fn a_variable_that_is_not_utf_8_is_named_without_its_value() {
    let completed = with_invalid_utf8("dex_scope", &[], &[]);
    let invalid = completed.events("setting_invalid setting=dex_scope");
    assert_eq!((completed.code, invalid.len()), (Some(78), 1), "{}", completed.stderr);
    assert_eq!(invalid[0]["error"], "is not UTF-8");
    assert!(!completed.stderr.contains("canary"), "{}", completed.stderr);
}

/// The file may be older than the process.
#[test]
fn an_expired_token_is_removed_at_startup_if_on_expiry_is_remove() {
    let fixture = Fixture::answering(Answer::Bytes(vec![]));
    for (on_expiry, stays) in [("remove", false), ("keep", true)] {
        let setup = fixture.setup().set("DEXSIDECAR_ON_EXPIRY", on_expiry);
        let output = setup.output();
        fs::write(&output, EXPIRED_TOKEN).unwrap();
        let mut sidecar = setup.run();
        sidecar.process.until_logged("attempt_failed code=connection_lost", 1);
        assert_eq!(output.exists(), stays, "{on_expiry}");
        assert_eq!(sidecar.process.logged("expired_token_removed"), usize::from(!stays));
    }
}

#[test]
fn a_cached_token_belongs_to_one_identity() {
    let api_server = FakeApiServer::start();
    let fixture = Fixture { volume: ProjectedVolume::with(&api_server.token(600)), ..Fixture::new() };
    let runtime = tempfile::tempdir().unwrap();
    let setup = fixture
        .setup()
        .unset("dex_access_token_file")
        .set("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let token = || {
        let completed = setup.execute(&["token"]);
        assert_eq!(completed.code, Some(0), "{}", completed.stderr);
        completed.stdout
    };
    let first = token();
    // The kubelet replaces the subject token of the same workload.
    fixture.volume.replace_token(&api_server.token(900));
    assert_eq!(token(), first);
    // Another workload has its subject token at the same path.
    let other = json!({"sub": "system:serviceaccount:other:app"});
    fixture.volume.replace_token(&api_server.token_with(600, &other));
    assert_ne!(token(), first);
    assert_eq!(fixture.dex.requests().len(), 2);
}

#[test]
fn token_prints_the_valid_token_on_disk_and_makes_an_exchange_without_one() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let on_disk = token(600);
    fs::write(setup.output(), &on_disk).unwrap();
    assert_eq!(setup.execute(&["token"]).stdout, on_disk);
    assert!(fixture.dex.requests().is_empty());
    fs::write(setup.output(), token(-1)).unwrap();
    assert_eq!(setup.execute(&["token"]).stdout, fixture.dex.issued()[0]);
    let unavailable = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    fixture.dex.always(Answer::Bytes(unavailable));
    let failed = setup.execute(&["token"]);
    assert_eq!(failed.code, Some(1));
    for line in ["\ncode:  unavailable\n", "\nowner: ", "\nfix:   "] {
        assert!(failed.stderr.contains(line), "{}", failed.stderr);
    }
}
