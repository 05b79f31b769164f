//! Outputs in each format, set by a configuration file: every read is what the format's readers
//! accept, also when the program is killed at any moment; and after a restart the token is adopted
//! from each format. The readers here share no code with the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::file_readers::{Judgement, Readers, Seen};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::sidecar::{Setup, report};
use rustix::process::Signal;
use serde_json::Value;

/// The token that a reader of a format takes from a file.
type Reader = fn(&str) -> Option<String>;

/// The keys of an output with each format, and its reader.
const FORMATS: [(&str, &str, Reader); 5] = [
    ("raw", "format: raw", |text| Some(text.to_owned())),
    ("header", "prefix: 'Authorization: Bearer '", |text| {
        text.strip_prefix("Authorization: Bearer ").map(str::to_owned)
    }),
    ("json", "format: json", |text| {
        let value: Value = serde_json::from_str(text).ok()?;
        let is_complete = value["token_type"] == "Bearer"
            && value["issued_token_type"].is_string()
            && value["expires_in"].is_u64()
            && value["expires_at"].is_u64()
            // The scope of a token that was adopted from another format is unknown.
            && (value["scope"].is_null() || value["scope"] == "openid profile");
        value["access_token"].as_str().filter(|_| is_complete).map(str::to_owned)
    }),
    ("incus", "format: incus", |text| {
        let value: Value = serde_json::from_str(text).ok()?;
        let expiry = value["expiry"].as_str()?;
        let is_complete = value["token_type"] == "Bearer" && expiry.len() == 20 && expiry.ends_with('Z');
        value["access_token"].as_str().filter(|_| is_complete).map(str::to_owned)
    }),
    ("exec", "format: exec_credential", |text| {
        let value: Value = serde_json::from_str(text).ok()?;
        let is_complete = value["apiVersion"] == "client.authentication.k8s.io/v1"
            && value["kind"] == "ExecCredential"
            && value["status"]["expirationTimestamp"].is_string();
        value["status"]["token"].as_str().filter(|_| is_complete).map(str::to_owned)
    }),
];

/// A sidecar with these outputs: the name of a file in `directory`, and the keys of its format.
fn setup(fixture: &Fixture, directory: &Path, outputs: &[(&str, &str)]) -> Setup {
    let subject = fixture.volume.token();
    let mut config = format!(
        "version: v1\ntokens:\n  - name: app\n    token_endpoint: {}\n    client_id: app\n    scope: openid profile\n    \
         subject_token_file: {}\n    outputs:\n",
        fixture.dex.url(),
        subject.display()
    );
    for (name, format) in outputs {
        config += &format!("      - path: {}\n        {format}\n", directory.join(name).display());
    }
    let mut setup = Setup::new();
    for name in [
        "access_token_file",
        "basic_auth",
        "connector_id",
        "grant_type",
        "scope",
        "requested_token_type",
        "subject_token_type",
    ] {
        setup = setup.unset(&format!("dex_{name}"));
    }
    let file = setup.directory().join("dexsidecar.yaml");
    fs::write(&file, config).expect("a temporary file");
    setup.set("DEXSIDECAR_CONFIG", file.to_str().expect("UTF-8"))
}

fn all(fixture: &Fixture, directory: &Path) -> Setup {
    setup(fixture, directory, &FORMATS.map(|(name, format, _)| (name, format)))
}

/// What a reader of the format sees in a content.
fn judge(fixture: &Fixture, reader: Reader) -> impl Fn(&str) -> Judgement + Send + Sync + 'static {
    let judge = fixture.dex.judge();
    move |text| reader(text).map_or(Judgement::Malformed, |token| judge(&token))
}

/// The token that the reader takes from each file, in the order of the formats.
fn tokens(directory: &Path) -> Vec<Option<String>> {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    FORMATS.map(|(name, _, reader)| read(directory.join(name)).and_then(|text| reader(&text))).to_vec()
}

#[test]
fn readers_of_each_format_see_issued_tokens_and_nothing_else() {
    let fixture = Fixture::answering(Answer::Token(10));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut sidecar = all(&fixture, directory.path()).run();
    sidecar.process.until_logged("token_written", FORMATS.len());
    let readers: Vec<_> = FORMATS
        .into_iter()
        .map(|(name, _, reader)| Readers::start(1, &directory.path().join(name), judge(&fixture, reader)))
        .collect();
    sidecar.process.until_within(Duration::from_secs(120), "four refreshes", |process| {
        process.logged("token_written") >= 5 * FORMATS.len()
    });
    for (readers, (name, ..)) in readers.iter().zip(FORMATS) {
        let seen = readers.seen();
        assert!(seen.reads > 1_000, "{name}: {} reads", seen.reads);
        assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "{name}: of {} reads", seen.reads);
    }
    let ready = sidecar.setup().execute(&["ready"]);
    assert_eq!((ready.code, ready.stdout.lines().count()), (Some(0), FORMATS.len()), "{ready:?}");
    let report = report(sidecar.setup());
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report.get("tokens"), None, "one token has no name in the report");
    assert_eq!(sidecar.terminate(), Some(0));
}

#[test]
fn sigkill_at_any_moment_leaves_a_token_in_each_format() {
    let fixture = Fixture::answering(Answer::Token(3_600));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut first = all(&fixture, directory.path()).run();
    first.process.until_logged("token_written", FORMATS.len());
    drop(first);
    let mut issued = fixture.dex.issued().len();
    for round in 0..40_u64 {
        // A signal asks for a refresh, since an adopted token is refreshed within 30 s only.
        let mut sidecar = all(&fixture, directory.path()).run();
        sidecar.process.until_logged("token_adopted", 1);
        sidecar.process.signal(Signal::USR1);
        // 7 and 40 have no common divisor: each moment occurs once.
        std::thread::sleep(Duration::from_micros(round * 7 % 40 * 500));
        sidecar.process.kill();
        issued = fixture.dex.issued().len().max(issued);
        for ((name, _, reader), token) in FORMATS.into_iter().zip(tokens(directory.path())) {
            let content = fs::read_to_string(directory.path().join(name)).expect("a token file");
            assert_eq!(judge(&fixture, reader)(&content), Judgement::Valid, "round {round}: {name}");
            assert!(
                token.is_some_and(|token| fixture.dex.issued().contains(&token)),
                "round {round}: {name}"
            );
        }
    }
    assert!(issued > 1, "no kill came after an exchange");
    let mut last = all(&fixture, directory.path()).run();
    last.process.until_logged("token_adopted", 1);
    last.process.signal(Signal::USR1);
    last.process.until("all files hold the same token", |_| {
        let tokens = tokens(directory.path());
        tokens.iter().all(|token| token == &tokens[0]) && tokens[0] == fixture.dex.issued().last().cloned()
    });
}

/// From its own format, and from each other one after the configuration was changed. Dex is away.
#[test]
fn a_restart_adopts_the_token_from_each_format() {
    for (written, old, reader) in FORMATS {
        let fixture = Fixture::answering(Answer::Token(3_600));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("token");
        let mut sidecar = setup(&fixture, directory.path(), &[("token", old)]).run();
        sidecar.process.until_logged("token_written", 1);
        drop(sidecar);
        let token = reader(&fs::read_to_string(&path).expect("a token file"));
        assert!(token.is_some(), "{written}");
        fixture.dex.always(Answer::Silence);
        for (name, new, reader) in FORMATS {
            let mut sidecar = setup(&fixture, directory.path(), &[("token", new)]).run();
            sidecar.process.until_logged("token_adopted", 1);
            // A reader of `incus` finds its token in a file of `json` too, but no expiry.
            let in_format = |text: &String| new != "format: incus" || !text.contains("issued_token_type");
            let read = || fs::read_to_string(&path).ok().filter(in_format).and_then(|text| reader(&text));
            sidecar.process.until(&format!("{written}, then {name}"), |_| read() == token);
            let ready = sidecar.setup().execute(&["ready"]);
            assert_eq!(ready.code, Some(0), "{written}, then {name}: {ready:?}");
        }
    }
}

#[test]
fn a_missing_directory_is_created_where_asked_and_named_otherwise() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = |more: &str| setup(&fixture, directory.path(), &[("a/b/token", more)]);
    let missing = output("format: json").once_until_failure();
    assert_eq!(missing.events("attempt_failed")[0]["code"], "output_folder_missing", "{missing:?}");
    let asked = output("create_directories: true");
    let report = report(&asked);
    assert_eq!(report["ok"], true, "{report}");
    assert!(!directory.path().join("a").exists(), "the check creates nothing");
    let done = asked.execute(&["once"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(fs::read_to_string(directory.path().join("a/b/token")).ok(), fixture.dex.issued().pop());
}
