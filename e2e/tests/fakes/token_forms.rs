//! The forms in which `token` prints: for scripts, for kubectl, for git.

use std::io::Write as _;
use std::process::{Command, Stdio};

use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::process::killed_with_parent;
use dexsidecar_e2e::sidecar::{Completed, Setup, assert_no_secret, program};
use dexsidecar_e2e::signing_key::claims;
use serde_json::{Value, json};

const V1: &str = "client.authentication.k8s.io/v1";
const V1BETA1: &str = "client.authentication.k8s.io/v1beta1";

fn exec_info(version: &str) -> String {
    let spec = json!({"interactive": false, "cluster": {"server": "https://127.0.0.1:6443", "config": null}});
    json!({"kind": "ExecCredential", "apiVersion": version, "spec": spec}).to_string()
}

/// A set-up without a token file, whose calls share a cache.
fn caching(fixture: &Fixture) -> Setup {
    let setup = fixture.setup().unset("dex_access_token_file");
    let runtime = setup.directory().to_str().expect("UTF-8").to_owned();
    setup.set("XDG_RUNTIME_DIR", runtime)
}

/// Runs `token --format git` as git does, with a description of the wanted credential.
fn git(setup: &Setup, operation: &[&str], description: &str) -> Completed {
    let mut command = killed_with_parent(&program());
    let variables = setup.assignments();
    let variables = variables.iter().filter_map(|assignment| assignment.split_once('='));
    command.env_clear().envs(variables).args(["token", "--format", "git"]).args(operation);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // An operation that reads nothing may have ended already.
    let _ = child.stdin.take().expect("a pipe").write_all(description.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let completed =
        Completed { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert_no_secret(&completed.stderr);
    completed
}

#[test]
fn each_form_holds_the_token_and_its_expiry() {
    let fixture = Fixture::new();
    let setup = caching(&fixture);
    let raw = setup.execute(&["token", "--format", "raw"]).stdout;
    let issued = fixture.dex.issued();
    assert_eq!(raw, issued[0]);
    let expires = claims(&raw)["exp"].as_u64().unwrap();
    let json: Value = serde_json::from_str(&setup.execute(&["token", "--format", "json"]).stdout).unwrap();
    assert_eq!((json["access_token"].as_str(), json["expires_at"].as_u64()), (Some(&*raw), Some(expires)));
    assert_eq!(json["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert!((3_000..3_600).contains(&json["expires_in"].as_u64().unwrap()), "{}", json["expires_in"]);
    for (info, version) in [(None, V1), (Some(V1), V1), (Some(V1BETA1), V1BETA1)] {
        let setup = caching(&fixture);
        let setup = match info {
            Some(info) => setup.set("KUBERNETES_EXEC_INFO", exec_info(info)),
            None => setup,
        };
        let printed = setup.execute(&["token", "--format", "exec_credential"]);
        let credential: Value = serde_json::from_str(&printed.stdout).unwrap();
        assert_eq!(
            (&credential["apiVersion"], &credential["kind"]),
            (&version.into(), &"ExecCredential".into())
        );
        let token = credential["status"]["token"].as_str().unwrap();
        assert_eq!(Some(token.to_owned()), fixture.dex.issued().pop());
        let time =
            humantime::parse_rfc3339(credential["status"]["expirationTimestamp"].as_str().unwrap()).unwrap();
        let time = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(time, claims(token)["exp"].as_u64().unwrap());
    }
}

#[test]
fn an_unknown_api_version_and_an_unknown_form_are_refused_before_an_exchange() {
    let fixture = Fixture::new();
    for (info, text) in [
        (
            exec_info("client.authentication.k8s.io/v1alpha1"),
            "asks for apiVersion client.authentication.k8s.io/v1alpha1",
        ),
        ("canary".to_owned(), "KUBERNETES_EXEC_INFO is not an ExecCredential"),
    ] {
        let setup = caching(&fixture).set("KUBERNETES_EXEC_INFO", info);
        let refused = setup.execute(&["token", "--format", "exec_credential"]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(78), ""));
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    let setup = caching(&fixture);
    assert_eq!(setup.execute(&["token", "--format", "yaml"]).code, Some(78));
    assert_eq!(setup.execute(&["token", "get"]).code, Some(64));
    assert_eq!(setup.execute(&["token", "--format", "git"]).code, Some(64));
    assert_eq!(fixture.dex.requests().len(), 0);
}

#[test]
fn git_gets_a_bearer_token_if_it_supports_one_and_the_connection_is_encrypted() {
    let fixture = Fixture::new();
    let setup = caching(&fixture);
    let capable = "capability[]=authtype\ncapability[]=state\n";
    let https = "protocol=https\nhost=git.example.com\nwwwauth[]=Bearer realm=\"git\"\n\n";
    for (description, reason) in [
        (https.to_owned(), "use git 2.46 or later"),
        (format!("{capable}protocol=http\nhost=git.example.com\n\n"), "use an https URL"),
        (String::new(), "use an https URL"),
    ] {
        let silent = git(&setup, &["get"], &description);
        assert_eq!((silent.code, silent.stdout.as_str()), (Some(0), ""), "{description}");
        assert!(silent.stderr.contains(reason), "{}", silent.stderr);
    }
    for (operation, printed) in
        [("capability", "version 0\ncapability authtype\n"), ("store", ""), ("erase", ""), ("later", "")]
    {
        let done = git(&setup, &[operation], &format!("{capable}{https}"));
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (Some(0), printed, ""),
            "{operation}"
        );
    }
    assert_eq!(fixture.dex.requests().len(), 0, "none of these needs a token");
    for description in [format!("{capable}{https}"), format!("{capable}protocol=http\nhost=127.0.0.1:8080\n")]
    {
        let given = git(&setup, &["get"], &description);
        let token = fixture.dex.issued().pop().unwrap();
        let expires = &claims(&token)["exp"];
        let text = format!(
            "capability[]=authtype\nauthtype=Bearer\ncredential={token}\nephemeral=1\npassword_expiry_utc={expires}\n\n"
        );
        assert_eq!((given.code, given.stdout), (Some(0), text), "{}", given.stderr);
    }
    assert_eq!(fixture.dex.requests().len(), 1);
}

#[test]
fn fifty_calls_of_each_form_make_one_exchange_and_one_more_after_the_expiry() {
    let fixture = Fixture::new();
    for form in ["json", "exec_credential", "git"] {
        let setup = caching(&fixture).set("KUBERNETES_EXEC_INFO", exec_info(V1));
        let before = fixture.dex.issued().len();
        // The first token is expired when the second round begins: no call accepts it.
        for (round, min_ttl) in [(1, "0s"), (2, "10m")] {
            if round == 1 {
                fixture.dex.next(dexsidecar_e2e::fake_dex::Answer::Token(300));
            }
            let printed: Vec<String> = std::thread::scope(|scope| {
                let call = || match form {
                    "git" => {
                        let description = "capability[]=authtype\nprotocol=https\nhost=git.example.com\n\n";
                        git(&setup, &["get", "--min-ttl", min_ttl], description).stdout
                    }
                    form => setup.execute(&["token", "--format", form, "--min-ttl", min_ttl]).stdout,
                };
                let calls: Vec<_> = (0..50).map(|_| scope.spawn(call)).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            let issued = fixture.dex.issued();
            assert_eq!(issued.len(), before + round, "{form}");
            assert!(printed.iter().all(|text| text.contains(issued.last().unwrap().as_str())), "{form}");
        }
    }
}

/// git itself: the helper is called for a real request, whatever the version of git.
#[test]
fn git_credential_fill_gets_the_token_from_the_helper_or_nothing() {
    let fixture = Fixture::new();
    let setup = caching(&fixture);
    let helper = format!("!{} token --format git", program().display());
    let mut fill = Command::new("git");
    let variables = setup.assignments();
    let variables = variables.iter().filter_map(|assignment| assignment.split_once('='));
    fill.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", setup.directory()).envs(variables);
    fill.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    fill.args([
        "-c",
        "credential.helper=",
        "-c",
        &format!("credential.https://git.example.com.helper={helper}"),
    ]);
    fill.args(["credential", "fill"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = fill.spawn().expect("git is there");
    let description = "capability[]=authtype\nprotocol=https\nhost=git.example.com\n\n";
    child.stdin.take().unwrap().write_all(description.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match fixture.dex.issued().pop() {
        Some(token) => assert!(
            printed.contains("authtype=Bearer\n") && printed.contains(&format!("credential={token}\n")),
            "{printed}{errors}"
        ),
        // A git before 2.46 does not announce the capability.
        None => assert!(errors.contains("use git 2.46 or later"), "{printed}{errors}"),
    }
}
