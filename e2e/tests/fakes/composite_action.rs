//! action.yml: its steps, run by a shell as the runner of GitHub Actions runs them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::fake_github_actions::{FakeGithubActions, Reply};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::sidecar::program;
use serde_json::Value;
use tempfile::TempDir;

/// A job that uses the action with these inputs.
struct Job<'a> {
    fixture: &'a Fixture,
    github: &'a FakeGithubActions,
    inputs: Vec<(&'a str, String)>,
    directory: TempDir,
    /// `RUNNER_OS`.
    system: &'a str,
    /// The directories of programs after that of [`Job::put`].
    path: String,
}

impl<'a> Job<'a> {
    fn new(fixture: &'a Fixture, github: &'a FakeGithubActions) -> Self {
        let inputs = vec![("endpoint", fixture.dex.url()), ("client", "argo-cd:canary-secret".to_owned())];
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = std::env::var("PATH").unwrap_or_default();
        Self { fixture, github, inputs, directory, system: "Linux", path }
    }

    fn with(mut self, input: &'a str, value: impl Into<String>) -> Self {
        self.inputs.push((input, value.into()));
        self
    }

    /// Puts a program on `PATH`, before the system's.
    fn put(self, name: &str, script: &str) -> Self {
        let path = self.directory.path().join("bin").join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a temporary directory");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a temporary directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file of this test");
        self
    }

    /// Runs the steps until one fails. Gives what the last one printed, and the outputs of all.
    fn run(&self) -> (Output, BTreeMap<String, String>) {
        let action = action();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for (name, input) in action["inputs"].as_object().expect("inputs") {
            let given = self.inputs.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
            let value = given.or_else(|| input["default"].as_str().map(str::to_owned));
            known.insert(format!("inputs.{name}"), value.expect("a required input is given"));
        }
        for (input, _) in &self.inputs {
            assert!(known.contains_key(&format!("inputs.{input}")), "the action has no input {input}");
        }
        known.insert("github.token".to_owned(), "canary-github".to_owned());
        known.insert("github.action_repository".to_owned(), "octo-org/dexsidecar".to_owned());
        let job = self.github.job(self.fixture.setup());
        let assignments = job.assignments();
        let runner = assignments
            .iter()
            .filter(|one| one.starts_with("ACTIONS_"))
            .filter_map(|one| one.split_once('='));
        let mut last = None;
        for step in action["runs"]["steps"].as_array().expect("steps") {
            assert_eq!(step["shell"], "bash");
            let script = self.directory.path().join("step.sh");
            let run = step["run"].as_str().expect("a script");
            assert!(!run.contains("${{"), "an expression in a script is an injection: {run}");
            fs::write(&script, run).expect("a temporary directory");
            let output = self.directory.path().join("output");
            fs::write(&output, "").expect("a temporary directory");
            let mut bash = Command::new("/bin/bash");
            // As the runner starts it.
            bash.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(&script).env_clear();
            bash.envs(runner.clone()).env("GITHUB_OUTPUT", &output).env("RUNNER_TEMP", self.directory.path());
            bash.env("PATH", format!("{}:{}", self.directory.path().join("bin").display(), self.path));
            bash.env("RUNNER_OS", self.system);
            for (name, value) in step["env"].as_object().into_iter().flatten() {
                bash.env(name, evaluated(value.as_str().expect("a text"), &known));
            }
            let done = bash.output().expect("bash starts");
            let succeeded = done.status.success();
            let id = step["id"].as_str().expect("an id");
            for line in fs::read_to_string(&output).expect("a file of this test").lines() {
                let (name, value) = line.split_once('=').expect("NAME=VALUE");
                known.insert(format!("steps.{id}.outputs.{name}"), value.to_owned());
            }
            last = Some(done);
            if !succeeded {
                break;
            }
        }
        let outputs = action["outputs"].as_object().expect("outputs").iter().filter_map(|(name, output)| {
            let name_of_step = expression(output["value"].as_str()?)?;
            Some((name.clone(), known.get(name_of_step)?.clone()))
        });
        let outputs = outputs.collect();
        (last.expect("a step"), outputs)
    }
}

fn action() -> Value {
    serde_saphyr::from_str(&doc_manifests::text("action.yml")).expect("YAML")
}

/// What stands in `${{ }}`, if the text is one expression.
fn expression(text: &str) -> Option<&str> {
    text.strip_prefix("${{ ")?.strip_suffix(" }}")
}

fn evaluated(text: &str, known: &BTreeMap<String, String>) -> String {
    match expression(text) {
        Some(name) => known.get(name).unwrap_or_else(|| panic!("{name} has no value")).clone(),
        None => text.to_owned(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_action_exchanges_the_job_s_token_and_masks_the_result() {
    let (fixture, github) = (Fixture::new(), FakeGithubActions::start());
    github.next(Reply::Status("503 Service Unavailable", "canary"));
    let job = Job::new(&fixture, &github).with("program", program().to_str().expect("UTF-8"));
    let (done, outputs) = job.run();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let issued = fixture.dex.issued().pop().expect("a token");
    assert_eq!(outputs.get("token"), Some(&issued));
    assert_eq!(text(&done.stdout), format!("::add-mask::{issued}\n"));
    assert!(!text(&done.stderr).contains("canary"), "{}", text(&done.stderr));
    let request = fixture.dex.requests().pop().expect("a request");
    assert_eq!(request.field("connector_id").as_deref(), Some("github-actions"));
    assert_eq!(request.field("subject_token"), github.issued().pop());
    assert!(github.requests().pop().expect("a request").target.ends_with("&audience=dex"));
    let left = fs::read_dir(job.directory.path()).expect("a directory").filter_map(Result::ok);
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("dexsidecar."));
    assert_eq!(left.count(), 0, "the token file is removed");
}

#[test]
fn the_action_fails_with_the_cause_when_dex_refuses() {
    let (fixture, github) = (Fixture::new(), FakeGithubActions::start());
    let job = Job::new(&fixture, &github)
        .with("program", program().to_str().expect("UTF-8"))
        .with("endpoint", "http://127.0.0.1:1/token")
        .with("timeout", "1s");
    let job = Job { inputs: job.inputs.into_iter().skip(1).collect(), ..job };
    let (done, outputs) = job.run();
    assert!(!done.status.success());
    assert!(outputs.is_empty(), "{outputs:?}");
    assert!(text(&done.stderr).contains("connect_refused"), "{}", text(&done.stderr));
}

#[test]
fn the_action_says_what_its_runner_lacks() {
    let (fixture, github) = (Fixture::new(), FakeGithubActions::start());
    let (on_macos, without_gh) = (Job::new(&fixture, &github), Job::new(&fixture, &github));
    for (job, words) in [
        (
            Job { system: "macOS", ..on_macos },
            "::error::dexsidecar needs Linux, and this runner has macOS: use a runner with Linux\n",
        ),
        (
            Job { path: String::new(), ..without_gh },
            "::error::gh is missing, which downloads and verifies dexsidecar: install it, or set the input \
             program\n",
        ),
    ] {
        let (done, outputs) = job.run();
        assert!(!done.status.success());
        assert_eq!((text(&done.stdout).as_str(), outputs.len()), (words, 0), "{}", text(&done.stderr));
    }
}

/// A `gh` that has one release, whose tarball has this program.
fn gh(directory: &Path, verified: &str) -> String {
    let name =
        format!("dexsidecar-{}-{}-unknown-linux-musl", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let content = directory.join(&name);
    fs::create_dir_all(&content).expect("a temporary directory");
    fs::copy(program(), content.join("dexsidecar")).expect("the program");
    let tarball = directory.join(format!("{name}.tar.gz"));
    let tar = Command::new("tar").arg("-czf").arg(&tarball).arg("-C").arg(directory).arg(&name).status();
    assert!(tar.expect("tar is there").success());
    format!(
        "[ \"$GH_TOKEN\" = canary-github ] || exit 4\n\
         case \"$*\" in\n\
         'release download v{version} --repo octo-org/dexsidecar --pattern {name}.tar.gz --dir '*)\n\
         \tcp '{tarball}' \"$9\";;\n\
         'attestation verify '*'/{name}.tar.gz --repo octo-org/dexsidecar --signer-workflow \
         octo-org/dexsidecar/.github/workflows/release.yml')\n\
         \t{verified};;\n\
         *) echo \"unexpected: $*\" >&2; exit 1;;\n\
         esac",
        version = env!("CARGO_PKG_VERSION"),
        tarball = tarball.display(),
    )
}

#[test]
fn the_action_downloads_its_own_release_and_runs_it_only_if_it_is_attested() {
    let (fixture, github) = (Fixture::new(), FakeGithubActions::start());
    let release = tempfile::tempdir().expect("a temporary directory");
    let (done, outputs) = Job::new(&fixture, &github).put("gh", &gh(release.path(), "exit 0")).run();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(outputs.get("token"), fixture.dex.issued().last());

    let requests = fixture.dex.requests().len();
    let forged = gh(release.path(), "echo 'no attestations found' >&2; exit 1");
    let (done, outputs) = Job::new(&fixture, &github).put("gh", &forged).run();
    assert!(!done.status.success());
    assert!(text(&done.stderr).contains("no attestations found"), "{}", text(&done.stderr));
    assert_eq!((outputs.len(), fixture.dex.requests().len()), (0, requests));
}
