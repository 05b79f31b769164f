//! The files for a forge: workflows, dependency updates, RELEASING.md, and the SBOM of a release.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use dexsidecar_e2e::{doc_manifests, prebuilt};
use dexsidecar_fetch::counterparts::{ACTIONLINT, CYCLONEDX_SCHEMAS};
use serde_json::Value;

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&doc_manifests::text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names of the workflows, as paths below the workspace's directory.
fn workflows() -> Vec<String> {
    let entries = fs::read_dir(doc_manifests::root().join(".github/workflows")).expect("workflows");
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.map(|name| format!(".github/workflows/{name}")).collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    names
}

/// The jobs of all workflows, each with its name and the workflow's.
fn jobs() -> Vec<(String, Value)> {
    let mut jobs = vec![];
    for workflow in workflows() {
        for (name, job) in yaml(&workflow)["jobs"].as_object().expect("jobs") {
            jobs.push((format!("{workflow}: {name}"), job.clone()));
        }
    }
    jobs
}

/// The steps of all jobs, with the names of these.
fn steps() -> Vec<(String, Value)> {
    let steps = |(name, job): (String, Value)| {
        let steps = job["steps"].as_array().cloned().unwrap_or_default();
        steps.into_iter().map(move |step| (name.clone(), step))
    };
    jobs().into_iter().flat_map(steps).collect()
}

/// The commands of `cargo xtask`, from its help.
fn commands() -> BTreeSet<String> {
    let help = prebuilt::cargo().args(["xtask", "--help"]).output().expect("cargo runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_ascii_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn actionlint_finds_nothing_in_the_workflows() {
    let actionlint = prebuilt::program(&ACTIONLINT);
    // Its other linters are not the same on each machine.
    let mut lint = Command::new(actionlint);
    lint.args(["-no-color", "-shellcheck=", "-pyflakes="]).args(workflows());
    let lint = lint.current_dir(doc_manifests::root()).output().expect("actionlint starts");
    let found = format!("{}{}", String::from_utf8_lossy(&lint.stdout), String::from_utf8_lossy(&lint.stderr));
    assert!(lint.status.success() && found.is_empty(), "{found}");
}

/// The one job with rights to write.
const PUBLISH: &str = ".github/workflows/release.yml: publish";

/// What compiles runs build scripts and macros of all dependencies.
#[test]
fn the_job_that_may_write_checks_out_no_sources_and_compiles_nothing() {
    let jobs = jobs();
    let (_, publish) = jobs.iter().find(|(name, _)| name == PUBLISH).expect("the job");
    assert!(publish["container"].is_null(), "the image of Rust: {publish:#}");
    let steps = publish["steps"].as_array().expect("steps");
    let mut artifacts = vec![];
    for step in steps {
        let action = step["uses"].as_str().unwrap_or_default();
        assert!(!action.contains("checkout") && !action.contains("/setup-"), "{action}");
        if action.starts_with("actions/download-artifact@") {
            artifacts.push(&step["with"]["name"]);
        }
    }
    assert_eq!(artifacts, ["dist", "publisher"]);
    let release = yaml(".github/workflows/release.yml");
    let build = release["jobs"]["build"]["steps"].as_array().expect("steps");
    let uploads = build
        .iter()
        .filter(|step| step["uses"].as_str().is_some_and(|action| action.starts_with("actions/upload-")));
    assert_eq!(uploads.map(|step| &step["with"]["name"]).collect::<Vec<_>>(), artifacts);
}

#[test]
fn the_workflows_run_commands_of_xtask_only() {
    let commands = commands();
    let mut seen = BTreeSet::new();
    for (job, step) in steps() {
        let Some(run) = step["run"].as_str() else { continue };
        // What a machine needs before it can run them.
        if run.starts_with("apt-get update && apt-get install ") && run.lines().count() == 1 {
            continue;
        }
        // The copy of xtask that the job build makes.
        if job == PUBLISH && run == "chmod +x publisher/xtask publisher/crane" {
            continue;
        }
        let xtask = if job == PUBLISH { "publisher/xtask " } else { "cargo xtask " };
        let rest = run.strip_prefix(xtask).unwrap_or_else(|| panic!("{job}: {run}"));
        assert_eq!(run.lines().count(), 1, "{job}: {run}");
        let command = rest.split_ascii_whitespace().next().expect("a command");
        if command == "${{" {
            continue;
        }
        assert!(commands.contains(command), "{job}: {run}");
        seen.insert(command.to_owned());
    }
    let ci = yaml(".github/workflows/ci.yml");
    for row in ci["jobs"]["test"]["strategy"]["matrix"]["include"].as_array().expect("rows") {
        let command = row["command"].as_str().expect("a command");
        assert!(commands.contains(command), "{command}");
        seen.insert(command.to_owned());
    }
    let expected =
        ["advisories", "check", "dist", "fuzz", "publish-files", "publish-image", "publisher", "test"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Helm is built in the long form only, so that the other jobs do not render the charts.
#[test]
fn the_charts_are_tested_each_night_and_before_a_release_is_published() {
    let docs = yaml(".github/workflows/docs.yml");
    let steps = docs["jobs"]["long"]["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["run"] == "cargo xtask test docs --long"), "{steps:?}");
    for workflow in ["nightly", "release"] {
        let jobs = &yaml(&format!(".github/workflows/{workflow}.yml"))["jobs"];
        assert_eq!(jobs["docs"]["uses"], "./.github/workflows/docs.yml", "{workflow}");
    }
    let release = yaml(".github/workflows/release.yml");
    let jobs = release["jobs"].as_object().expect("jobs");
    let needed: BTreeSet<&str> =
        jobs["publish"]["needs"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let others: BTreeSet<&str> = jobs.keys().map(String::as_str).filter(|name| *name != "publish").collect();
    assert_eq!(needed, others);
}

#[test]
fn each_action_is_pinned_to_a_commit_and_names_its_version() {
    let mut count = 0;
    for workflow in workflows() {
        for line in doc_manifests::text(&workflow).lines() {
            let Some((_, action)) = line.split_once("uses: ") else { continue };
            if action.starts_with("./") {
                continue;
            }
            let (action, version) = action.split_once(" # v").unwrap_or_else(|| panic!("no version: {line}"));
            let (_, commit) = action.split_once('@').unwrap_or_else(|| panic!("no commit: {line}"));
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
            assert_eq!(version.split('.').count(), 3, "{line}");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn each_job_states_its_permissions_and_only_publish_may_write() {
    for workflow in workflows() {
        assert_eq!(yaml(&workflow)["permissions"], serde_json::json!({}), "{workflow}");
    }
    for (name, job) in jobs() {
        let permissions = job["permissions"].as_object().unwrap_or_else(|| panic!("{name}: no permissions"));
        let writes: Vec<&str> =
            permissions.iter().filter(|(_, value)| *value != "read").map(|(name, _)| name.as_str()).collect();
        let expected: &[&str] = match name.as_str() {
            PUBLISH => &["attestations", "contents", "id-token", "packages"],
            _ => &[],
        };
        assert_eq!(writes.into_iter().collect::<BTreeSet<_>>(), expected.iter().copied().collect(), "{name}");
    }
    for (name, step) in steps() {
        if step["uses"].as_str().is_some_and(|action| action.starts_with("actions/checkout@")) {
            assert_eq!(step["with"]["persist-credentials"], false, "{name}");
        }
    }
}

#[test]
fn every_pinned_module_is_updated_except_for_older_versions_of_dex() {
    let mut modules = BTreeSet::new();
    for parent in ["e2e", "xtask"] {
        for entry in fs::read_dir(doc_manifests::root().join(parent)).expect("a directory").flatten() {
            if entry.path().join("go.sum").exists() {
                modules.insert(format!("/{parent}/{}", entry.file_name().display()));
            }
        }
    }
    modules.retain(|module| !module.starts_with("/e2e/dex-2."));
    let updates = yaml(".github/dependabot.yml");
    let of_go = |update: &&Value| update["package-ecosystem"] == "gomod";
    let go = updates["updates"].as_array().expect("updates").iter().find(of_go).expect("Go modules");
    let updated: BTreeSet<String> = go["directories"]
        .as_array()
        .expect("directories")
        .iter()
        .map(|directory| directory.as_str().expect("a path").to_owned())
        .collect();
    assert_eq!(updated, modules);
}

#[test]
fn the_action_has_the_version_of_the_program() {
    let action = yaml("action.yml");
    assert_eq!(action["runs"]["steps"][0]["env"]["VERSION"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_page_about_ci_gives_the_action_inputs_that_it_has() {
    let action = yaml("action.yml");
    let inputs = action["inputs"].as_object().expect("inputs");
    let page = doc_manifests::text("docs/ci.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let uses: Vec<Value> = blocks
        .filter(|block| block.contains("uses: OWNER/dexsidecar@"))
        .map(|block| serde_saphyr::from_str(block).expect("YAML"))
        .collect();
    assert_eq!(uses.len(), 1);
    let steps = uses[0]["jobs"]["deploy"]["steps"].as_array().expect("steps");
    let given = steps[0]["with"].as_object().expect("inputs");
    for name in given.keys() {
        assert!(inputs.contains_key(name), "the action has no input {name}");
    }
    for (name, _) in inputs.iter().filter(|(_, input)| input["required"] == true) {
        assert!(given.contains_key(name), "the action needs the input {name}");
    }
}

#[test]
fn the_steps_of_releasing_are_commands_that_exist() {
    let page = doc_manifests::text("RELEASING.md");
    let commands = commands();
    let mut count = 0;
    for block in page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if words.starts_with(&["cargo", "xtask"]) {
                assert!(commands.contains(words[2]), "{line}");
                count += 1;
            }
            let is_path = |word: &&&str| {
                !word.contains(['*', ':']) && (word.ends_with(".md") || word.ends_with(".toml"))
            };
            for path in words.iter().filter(is_path) {
                assert!(doc_manifests::root().join(path).exists(), "{line}");
            }
        }
    }
    assert!(count >= 4, "{count}");
    let steps = page.lines().filter(|line| line.starts_with("- [ ] ")).count();
    assert_eq!(page.matches("```sh\n").count(), steps, "each step is a command");
}

#[test]
fn the_step_that_sets_the_version_changes_every_manifest_and_recorded_text() {
    let page = doc_manifests::text("RELEASING.md");
    let step = page.lines().find(|line| line.starts_with("git grep -lF")).expect("the step");
    let endings: Vec<&str> = step.split('\'').filter_map(|word| word.strip_prefix('*')).collect();
    let listed = Command::new("git")
        .current_dir(doc_manifests::root())
        .args(["grep", "-lF", env!("CARGO_PKG_VERSION"), "--", "deploy", "e2e/tests"])
        .output()
        .expect("git lists the files");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let left: Vec<&str> =
        listed.lines().filter(|path| !endings.iter().any(|ending| path.ends_with(ending))).collect();
    assert!(listed.lines().count() > 10 && left.is_empty(), "{left:?} of {listed}");
}

/// What bash prints, in a directory.
fn bash(directory: &Path, script: &str) -> String {
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).current_dir(directory);
    let output = bash.output().expect("bash starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The commands of a step.
fn step(page: &str, title: &str) -> String {
    let (_, rest) = page.split_once(&format!("- [ ] {title}")).expect("the step");
    rest.split("```").nth(1).and_then(|block| block.strip_prefix("sh\n")).expect("a block").to_owned()
}

#[test]
fn the_step_that_sets_the_version_leaves_texts_about_an_older_version() {
    let now = env!("CARGO_PKG_VERSION");
    let page = doc_manifests::text("RELEASING.md");
    // The lines before the steps, with another version.
    let lines: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let lines = |version: &str| {
        let line = |line: &&str| match line.strip_prefix("export VERSION=") {
            Some(_) => format!("export VERSION={version}\n"),
            None => format!("{line}\n"),
        };
        lines.iter().map(line).collect::<String>()
    };
    let set_version = step(&page, "The version is the new one").replace("cargo update --workspace\n", "");

    let directory = tempfile::tempdir().expect("a temporary directory");
    let clone = directory.path();
    let copy = format!("git ls-files -z | xargs -0 cp --parents --no-dereference -t {}", clone.display());
    bash(doc_manifests::root(), &copy);
    bash(
        clone,
        "git init -q && git add --all --force && git -c user.name=a -c user.email=a@b commit -qm before",
    );
    bash(clone, &(lines(now) + &set_version));
    assert_eq!(bash(clone, "git diff --name-only"), "", "the first release");

    bash(clone, &format!("git tag v{now}"));
    bash(clone, &(lines("9.8.7") + &set_version));
    let changed = bash(clone, "git diff --name-only");
    let changed: Vec<&str> = changed.lines().collect();
    for path in ["Cargo.toml", "action.yml", "docs/deploy.md", "deploy/helm/dexsidecar/values.yaml"] {
        assert!(changed.contains(&path), "{path}: {changed:?}");
    }
    for path in ["CHANGELOG.md", "RELEASING.md", "SECURITY.md", "docs/operations.md"] {
        assert!(!changed.contains(&path), "{path}");
    }
    assert_eq!(bash(clone, "git grep -iE '(from|since) 9[.]8[.]7|9[.]8[.]7 \\(unreleased' || true"), "");
    // What is left: the step does not change this page, and it has no other version.
    let operations = doc_manifests::text("docs/operations.md");
    for line in operations.lines().filter(|line| line.contains(now)) {
        assert!(line.contains(&format!("stable from {now} on")), "{line}");
    }

    bash(clone, &(lines("9.8.7") + &step(&page, "The supported version")));
    let security = fs::read_to_string(clone.join("SECURITY.md")).expect("the page");
    let versions: Vec<&str> = security.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(versions, ["| 9.8.7 | on `main` |"]);
}

/// A schema of CycloneDX, by its name without the ending.
fn schema(directory: &Path, name: &str) -> Value {
    let path = directory.join(format!("{name}.SNAPSHOT.schema.json"));
    serde_json::from_slice(&fs::read(path).expect("a schema")).expect("JSON")
}

#[test]
fn the_sbom_is_valid_cyclonedx() {
    let schemas = match CYCLONEDX_SCHEMAS.unpacked() {
        Ok(schemas) => schemas,
        Err(why) => return prebuilt::skip("the_sbom_is_valid_cyclonedx", &why),
    };
    let registry = ["spdx", "jsf-0.82", "cryptography-defs"].iter().fold(
        jsonschema::Registry::new(),
        |registry, name| {
            let uri = format!("http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json");
            registry.add(uri, schema(&schemas, name)).expect("a schema")
        },
    );
    let registry = registry.prepare().expect("the schemas refer to each other");
    let validator =
        jsonschema::options().with_registry(&registry).build(&schema(&schemas, "bom-1.6")).expect("a schema");
    for arguments in [&["xtask", "sbom"][..], &["xtask", "sbom", "--aarch64"]] {
        let printed = prebuilt::cargo().args(arguments).output().expect("cargo runs");
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let mut bom: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
        let errors: Vec<String> = validator.iter_errors(&bom).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        bom["components"][0]["type"] = "crate".into();
        assert!(!validator.is_valid(&bom), "the schema is in force");
    }
}
