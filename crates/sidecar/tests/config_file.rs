//! The configuration file, as the program reads it: several tokens, and what the commands make of
//! them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

/// A token endpoint: each response has the audience of its request as its token.
fn fake_dex() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/token", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = String::new();
            let mut buffer = [0; 4096];
            // The form ends with `subject_token_type=…`, which sorts last.
            while !request.contains("subject_token_type=") {
                let read = stream.read(&mut buffer).unwrap_or(0);
                if read == 0 {
                    break;
                }
                request.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            let audience = request.split("audience=").nth(1).unwrap_or("none");
            let audience = audience.split('&').next().unwrap_or_default();
            let body = format!(
                r#"{{"access_token":"token-for-{audience}","token_type":"bearer","expires_in":3600,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}}"#
            );
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    });
    url
}

/// Two tokens of this Dex, in this directory.
fn two_tokens(directory: &Path, url: &str) -> String {
    let at = directory.display();
    fs::write(directory.join("subject"), "eyJh.eyJi.c2ln").expect("a writable directory");
    format!(
        "version: v1\ndefaults:\n  token_endpoint: {url}\n  subject_token_file: {at}/subject\n  connector_id: k3s\ntokens:\n  \
         - name: a\n    audience: [one]\n    outputs: [{{path: {at}/a}}]\n  - name: b\n    client_id: b\n    audience: [two]\n    \
         outputs: [{{path: {at}/b1}}, {{path: {at}/b2, mode: \"0600\"}}]\n"
    )
}

fn dexsidecar(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dexsidecar"));
    command.env_clear().args(arguments).envs(variables.iter().copied()).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_token_of_the_file_is_written_to_each_of_its_outputs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dexsidecar.yaml");
    fs::write(&file, two_tokens(directory.path(), &fake_dex())).unwrap();
    let config = file.display().to_string();
    let once = dexsidecar(&["once", "--config", &config, "--timeout", "20s"], &[]);
    assert!(once.status.success(), "{}", text(&once.stderr));
    for (name, token) in [("a", "token-for-one"), ("b1", "token-for-two"), ("b2", "token-for-two")] {
        assert_eq!(fs::read_to_string(directory.path().join(name)).unwrap(), token, "{name}");
    }
    // The probes judge the outputs of every token, or of the one that is named.
    let variable = [("DEXSIDECAR_CONFIG", config.as_str())];
    assert!(dexsidecar(&["ready"], &variable).status.success());
    fs::remove_file(directory.path().join("b2")).unwrap();
    assert_eq!(dexsidecar(&["ready"], &variable).status.code(), Some(1));
    assert!(dexsidecar(&["ready", "--token", "a"], &variable).status.success());
    assert_eq!(dexsidecar(&["ready", "--token", "b"], &variable).status.code(), Some(1));
    let unknown = dexsidecar(&["ready", "--token", "c"], &variable);
    assert_eq!(unknown.status.code(), Some(78));
    assert!(text(&unknown.stderr).contains("use one of a, b"), "{}", text(&unknown.stderr));
    let check = dexsidecar(&["check", "--token", "c"], &variable);
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stdout).contains("use one of a, b"), "{}", text(&check.stdout));
    // The command token prints one of them.
    assert_eq!(text(&dexsidecar(&["token", "--token", "b"], &variable).stdout), "token-for-two");
    let several = dexsidecar(&["token"], &variable);
    assert_eq!(several.status.code(), Some(78));
    assert!(text(&several.stderr).contains("there are several tokens"), "{}", text(&several.stderr));
}

#[test]
fn of_one_token_only_its_own_warnings_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dexsidecar.yaml");
    let tokens =
        two_tokens(directory.path(), "http://127.0.0.1:9/token").replace("connector_id: ", "scope: ");
    fs::write(&file, tokens).unwrap();
    let config = file.display().to_string();
    let shown = |more: &[&str]| {
        let check = text(&dexsidecar(&[&["check", "--config", &config], more].concat(), &[]).stdout);
        ["tokens[0].connector_id", "tokens[1].connector_id"].map(|key| check.contains(key))
    };
    assert_eq!(shown(&[]), [true, true]);
    assert_eq!(shown(&["--token", "a"]), [true, false]);
    assert_eq!(shown(&["--token", "b"]), [false, true]);
}

#[test]
fn the_command_token_prints_no_token_of_another_issuer() {
    // {"exp":4000000000}, and {"exp":4000000000,"iss":"http://127.0.0.1:9"}.
    const OTHER: &str = "eyJhIjoxfQ.eyJleHAiOjQwMDAwMDAwMDB9.sig";
    const OWN: &str = "eyJhIjoxfQ.eyJleHAiOjQwMDAwMDAwMDAsImlzcyI6Imh0dHA6Ly8xMjcuMC4wLjE6OSJ9.sig";
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    fs::write(directory.path().join("subject"), OWN).unwrap();
    let file = directory.path().join("dexsidecar.yaml");
    let content = format!(
        "version: v1\ntokens:\n  - issuer: http://127.0.0.1:9\n    connector_id: k3s\n    \
         subject_token_file: {at}/subject\n    outputs: [{{path: {at}/token}}]\n"
    );
    fs::write(&file, content).unwrap();
    for (held, printed) in [(OWN, OWN), (OTHER, "")] {
        fs::write(directory.path().join("token"), held).unwrap();
        let token = dexsidecar(&["token", "--config", &file.display().to_string()], &[]);
        assert_eq!((text(&token.stdout).as_str(), token.status.success()), (printed, held == OWN));
    }
}

#[test]
fn a_file_with_mistakes_ends_with_78_and_names_each_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dexsidecar.yaml");
    let wrong =
        two_tokens(directory.path(), "https://dex.example/token").replace("mode: \"0600\"", "mod: \"0600\"");
    fs::write(&file, wrong.replace("name: b", "name: B")).unwrap();
    let config = file.display().to_string();
    let run = dexsidecar(&["run", "--config", &config], &[]);
    assert_eq!(run.status.code(), Some(78));
    let log = text(&run.stderr);
    assert!(log.contains(&format!("place={config}:10:11 setting=tokens[1].name")), "{log}");
    assert!(log.contains("did you mean mode?"), "{log}");
    let validated = dexsidecar(&["config", "validate", &config], &[("dex_scope", "not read")]);
    assert_eq!(validated.status.code(), Some(78));
    let lines = text(&validated.stdout);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.lines().all(|line| line.starts_with(&format!("{config}:"))), "{lines}");
    // A probe judges the outputs all the same: a running process keeps its configuration.
    assert_eq!(dexsidecar(&["ready", "--config", &config], &[]).status.code(), Some(1));
    let token_file = directory.path().join("a");
    fs::write(&token_file, "not a token").unwrap();
    let ready = dexsidecar(&["ready", "--config", &config, "--token", "a"], &[]);
    let judged = text(&ready.stderr);
    assert!(judged.contains(&token_file.display().to_string()), "{judged}");
    assert!(judged.contains("tokens[1].name: is not a DNS label"), "{judged}");
    let json = dexsidecar(&["config", "validate", &config, "--json"], &[]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json["valid"].as_bool(), json["problems"][0]["line"].as_u64()), (Some(false), Some(10)));
}

/// A Secret often keeps the name of the variable as its key.
#[test]
fn failures_name_the_keys_of_the_file_and_leave_paths_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dexsidecar.yaml");
    let missing = directory.path().join("dex_basic_auth").display().to_string();
    let closed = "http://127.0.0.1:1/token";
    let lines = two_tokens(directory.path(), closed);
    let lines = lines.replace("name: a\n", &format!("name: a\n    basic_auth_file: {missing}\n"));
    fs::write(&file, lines).unwrap();
    let config = file.display().to_string();
    let once = dexsidecar(&["once", "--config", &config, "--timeout", "1s"], &[]);
    let log = text(&once.stderr);
    assert_eq!(once.status.code(), Some(1), "{log}");
    let timed_out: Vec<_> = log.lines().filter(|line| line.contains("within the timeout")).collect();
    assert_eq!(timed_out.len(), 2, "each token with its own failure: {log}");
    for (token, part) in [("a", missing.as_str()), ("b", "127.0.0.1:1")] {
        let named = |line: &&&str| line.contains(&format!("token={token} ")) && line.contains(part);
        assert!(timed_out.iter().find(named).is_some(), "{token}: {log}");
    }
    let check = dexsidecar(&["check", "--config", &config], &[]);
    for output in [log, text(&check.stdout)] {
        assert!(output.contains("token_endpoint") && !output.contains("dex_endpoint"), "{output}");
        assert!(output.contains(&format!("basic_auth_file = {missing}: no such file")), "{output}");
    }
}

/// A directory with a directory `made`, a link `linked` to itself, and a link `input` to `a`, its
/// first output.
fn linked_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    symlink(".", directory.path().join("linked")).expect("a writable directory");
    symlink("linked/a", directory.path().join("input")).expect("a writable directory");
    fs::create_dir(directory.path().join("made")).expect("a writable directory");
    directory
}

/// A file is one, whether it is named from the working directory, by its whole path, or through a
/// link.
#[test]
fn a_file_with_two_uses_is_refused_in_each_spelling() {
    let directory = linked_directory();
    let at = directory.path().display().to_string();
    let lines = two_tokens(directory.path(), "http://127.0.0.1:1/token");
    let first = "tokens[0].outputs[0].path";
    let output = |path: &str| lines.replace(&format!("{at}/b1"), path);
    let b1 = |what: &str| format!("tokens[1].outputs[0].path: {what}");
    let members = [
        (output("a"), b1(&format!("is the same file as {first}"))),
        (output("./linked/a"), b1(&format!("is the same file as {first}"))),
        (output(&format!("{at}/linked/linked/a")), b1(&format!("is the same file as {first}"))),
        (output("subject"), b1("is the same file as defaults.subject_token_file")),
        (output("linked/subject"), b1("is the same file as defaults.subject_token_file")),
        (output("linked/dexsidecar.yaml"), b1("is the same file as the configuration file")),
        (output(&format!("{at}/dexsidecar.yaml")), b1("is the same file as the configuration file")),
        (
            lines.replace(&format!("{at}/subject"), "input"),
            format!("{first}: is the same file as defaults.subject_token_file"),
        ),
        (output("linked/a/inner"), format!("{first}: is a directory of tokens[1].outputs[0].path")),
        (
            lines.replace(&format!("{at}/a}}"), &format!("{at}/made}}")).replace("b1", "made/b1"),
            format!("{first}: is a directory of tokens[1].outputs[0].path"),
        ),
        (
            format!("{lines}termination_log: linked/a\n"),
            format!("termination_log: is the same file as {first}"),
        ),
    ];
    for (lines, expected) in members {
        fs::write(directory.path().join("dexsidecar.yaml"), &lines).unwrap();
        for path in ["dexsidecar.yaml", "./linked/dexsidecar.yaml", &format!("{at}/dexsidecar.yaml")] {
            let mut validate = Command::new(env!("CARGO_BIN_EXE_dexsidecar"));
            validate.env_clear().current_dir(directory.path()).args(["config", "validate", path]);
            let validated = validate.output().expect("the program runs");
            let problems = text(&validated.stdout);
            assert_eq!(validated.status.code(), Some(78), "{lines}{problems}");
            assert!(problems.contains(&expected), "{expected}\n{problems}");
        }
    }
}

#[test]
fn a_token_file_of_the_environment_is_no_input_in_another_spelling() {
    let directory = linked_directory();
    let at = directory.path().display().to_string();
    fs::write(directory.path().join("a"), "eyJh.eyJi.c2ln").unwrap();
    let whole = format!("{at}/a");
    for (token_file, subject_token_file) in
        [("a", &*whole), (&*whole, "a"), ("linked/a", "a"), ("linked/a", "input")]
    {
        let mut once = Command::new(env!("CARGO_BIN_EXE_dexsidecar"));
        let ended = once
            .env_clear()
            .current_dir(directory.path())
            .arg("once")
            .env("dex_endpoint", "http://127.0.0.1:1/token")
            .env("dex_connector_id", "k3s")
            .env("dex_access_token_file", token_file)
            .env("dex_file_subject_token", subject_token_file)
            .output()
            .expect("the program runs");
        let problems = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(78), "{token_file} {subject_token_file} {problems}");
        let expected = "setting=dex_access_token_file error=\"is the same file as dex_file_subject_token\"";
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn a_file_beside_variables_of_a_token_ends_with_78() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dexsidecar.yaml");
    fs::write(&file, two_tokens(directory.path(), "https://dex.example/token")).unwrap();
    let config = file.display().to_string();
    let run = dexsidecar(&["once", "--config", &config], &[("dex_endpoint", "https://dex.example/token")]);
    assert_eq!(run.status.code(), Some(78));
    assert!(text(&run.stderr).contains("dex_endpoint error=\"is set beside a configuration file\""));
    let missing = dexsidecar(&["once", "--config", "/nonexistent.yaml"], &[]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(text(&missing.stderr).contains("cannot be read: no such file"), "{}", text(&missing.stderr));
}

#[test]
fn the_environment_is_printed_as_a_file_that_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("dex_endpoint", "https://dex.example/token"),
        ("dex_access_token_file", "/run/dex/token"),
        ("dex_file_subject_token", "/run/subject"),
        ("dex_connector_id", "k3s"),
        ("dex_basic_auth", "incus:canary"),
    ];
    let printed = dexsidecar(&["config", "print"], &variables);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let yaml = text(&printed.stdout);
    assert!(yaml.contains("client_secret_file: TODO  #") && !yaml.contains("canary"), "{yaml}");
    let file = directory.path().join("dexsidecar.yaml");
    let validate = |yaml: &str| {
        fs::write(&file, yaml).unwrap();
        dexsidecar(&["config", "validate", &file.display().to_string()], &[])
    };
    let left = validate(&yaml);
    assert_eq!(left.status.code(), Some(78));
    insta::assert_snapshot!(
        "left_by_config_print",
        text(&left.stdout).replace(&file.display().to_string(), "FILE")
    );
    let validated = validate(&yaml.replace("TODO", "/run/secrets/client"));
    assert!(validated.status.success(), "{}", text(&validated.stdout));
    for words in [
        &["config"][..],
        &["config", "prnt"],
        &["config", "validate", "a", "b"],
        &["config", "print", "--json"],
    ] {
        assert_eq!(dexsidecar(words, &[]).status.code(), Some(64), "{words:?}");
    }
}
