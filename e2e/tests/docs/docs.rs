//! The pages that are made from the program's tables are what the tables say; `UPDATE=1` writes them anew. Every manifest
//! in README and docs is one that the program accepts.

use std::fs;
use std::path::{Path, PathBuf};

use dexsidecar_core::config::{Config, Probe, RawSettings};
use dexsidecar_core::failure::{Code, RetryClass, Step};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{Command, ORIGINAL, SETTINGS};
use dexsidecar_e2e::dex_version::{OLDER, PINNED, Version};
use dexsidecar_e2e::pages;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Compares a whole page, or the part of it between two marks.
fn page(path: &str, marks: Option<(&str, &str)>, made: &str) {
    let there = read(path);
    let (before, after) = match marks {
        None => ("", ""),
        Some((begin, end)) => {
            let begin = there.find(begin).map(|at| at + begin.len()).expect("the first mark is in the page");
            let end = there.find(end).expect("the second mark is in the page");
            (&there[..begin], &there[end..])
        }
    };
    let wanted = format!("{before}{made}{after}");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(path), wanted).expect("the page can be written");
    } else {
        assert!(there == wanted, "{path} is not what the tables say: run cargo xtask docs");
    }
}

fn names(commands: &[Command]) -> String {
    commands.iter().map(|command| command.name()).collect::<Vec<_>>().join(", ")
}

fn settings() -> String {
    let mut text = "# Settings\n\nThis page is made from the program's own table: `cargo xtask docs`.\n\n\
        ## The original's\n\nUnder these names for ever, lower-case and exactly.\n\n\
        | variable | default | meaning |\n|---|---|---|\n"
        .to_owned();
    for setting in ORIGINAL {
        text += &format!("| `dex_{}` | {} | {} |\n", setting.name, setting.default, setting.meaning);
    }
    text += "| `dex_<field>` | - | any other name is a form field `<field>` of the exchange, sent as it is |\n\
        | `dex_file_<field>` | - | a form field whose value is a file's content, read again at every exchange; newlines at \
        its end are cut off |\n\n\
        Both `dex_X` and `dex_file_X` set is an error. A duration is written as Go writes it: `1h30m`, `1.5h`, `250ms`.\n\n\
        ## Our own\n\nA flag wins over its variable. An unknown `DEXSIDECAR_` variable is an error that names the nearest \
        known one.\n\n| flag | variable | default | commands | meaning |\n|---|---|---|---|---|\n";
    for setting in SETTINGS {
        let value = match setting.placeholder() {
            placeholder if placeholder.is_empty() => placeholder,
            placeholder => format!(" {}", placeholder.replace('|', "\\|")),
        };
        let range = setting.range_text().map_or_else(String::new, |range| format!(" ({range})"));
        let variable =
            if setting.variable.is_empty() { "-".to_owned() } else { format!("`{}`", setting.variable) };
        let commands = if setting.commands.len() == Command::ALL.len() {
            "all".to_owned()
        } else {
            names(setting.commands)
        };
        text += &format!(
            "| `--{}{value}` | {variable} | {} | {commands} | {}{range} |\n",
            setting.option,
            setting.default_text(),
            setting.meaning
        );
    }
    text += "\n## Variables of the system\n\n| variable | meaning |\n|---|---|\n\
        | `SSL_CERT_FILE`, `SSL_CERT_DIR` | the system's certificates, as Go reads them |\n\
        | `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, and in lower case | proxies, as Go reads them: [network.md](network.md) |\n\
        | `XDG_RUNTIME_DIR` | where `token` keeps tokens between calls |\n\n\
        ## Exit codes\n\n| code | meaning |\n|---|---|\n| 0 | done |\n\
        | 1 | the answer is no: not ready, timed out, exchange failed, a rung is broken |\n\
        | 64 | wrong command line |\n| 78 | wrong settings |\n";
    text
}

fn failures() -> String {
    let mut text = "# Failures\n\nThis page is made from the program's own table: `cargo xtask docs`. A failure never ends \
        `dexsidecar run`: it changes how soon the next try comes, and what is said.\n\n\
        How soon: *network* 1 s to 30 s without a good token, 5 s to 5 min with one; *refused* 1 s to 60 s, 10 s to 5 min; \
        *config* 1 s to 5 min, 30 s to 5 min, and at once when a file of ours changes; *local* a look each 0.25 s to 5 s, a \
        write each 1 s to 30 s.\n"
        .to_owned();
    let mut stage: Option<Step> = None;
    for code in Code::ALL {
        let entry = code.entry();
        if stage != Some(entry.step) {
            stage = Some(entry.step);
            text += &format!("\n## At the rung: {}\n", entry.step.title());
        }
        let pace = match entry.retry {
            RetryClass::Network => "network",
            RetryClass::Refused => "refused",
            RetryClass::Config => "config",
            RetryClass::Local => "local",
        };
        text += &format!(
            "\n### {}\n\n{}.\n\n- whose move: {}\n- how soon again: {pace}\n- what to do: {}\n",
            entry.name,
            sentence(entry.summary),
            entry.owner.title(),
            entry.fix
        );
    }
    text
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

#[test]
fn settings_are_what_the_table_says() {
    page("docs/settings.md", None, &settings());
}

#[test]
fn failures_are_what_the_table_says() {
    page("docs/failures.md", None, &failures());
}

/// The containers of a pod or of what makes pods.
fn sidecars(manifest: &Value) -> Vec<Value> {
    let pod =
        if manifest["kind"] == "Pod" { &manifest["spec"] } else { &manifest["spec"]["template"]["spec"] };
    let all = pod["initContainers"].as_array().into_iter().chain(pod["containers"].as_array()).flatten();
    all.filter(|container| container["image"].as_str().is_some_and(|image| image.contains("dexsidecar")))
        .cloned()
        .collect()
}

#[test]
fn every_manifest_of_the_readme_is_accepted_and_its_volumes_fit() {
    let mut seen = 0;
    for manifest in pages::manifests("README.md").iter().filter(|manifest| manifest["apiVersion"].is_string())
    {
        for sidecar in sidecars(manifest) {
            seen += 1;
            let variables: Vec<(String, Secret)> = sidecar["env"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|entry| {
                    let text = |name: &str| entry[name].as_str().expect("a string").to_owned();
                    (text("name"), Secret::new(text("value")))
                })
                .collect();
            let given = RawSettings { variables, ..RawSettings::default() };
            let config = Config::read(&given, true).expect("the program accepts it");
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
            // Every path that is named lies below something that is mounted.
            let mounts = sidecar["volumeMounts"].as_array().expect("a list");
            let mounted = |path: &Path| {
                mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().expect("a string")))
            };
            let subject = config.subject_token_file().expect("a subject token");
            assert!(mounted(subject), "{}", subject.display());
            assert!(mounted(&config.output.expect("an output").path));
            // The probe reads the same environment.
            assert_eq!(
                sidecar["startupProbe"]["exec"]["command"],
                serde_json::json!(["dexsidecar", "ready"])
            );
            assert!(Probe::read(&given).is_ok());
        }
    }
    assert!(seen > 0, "the README has a manifest");
}

#[test]
fn the_versions_of_dex_that_are_tested_are_those_of_the_page() {
    let page = read("docs/kubernetes.md");
    let readme = read("README.md");
    let tested: Vec<Version> = OLDER.into_iter().chain([PINNED]).collect();
    for version in &tested {
        let alias = if version.issuer_alias { "yes" } else { "no: ignored" };
        let start = if version.starts_with_failed_connectors { "Dex starts" } else { "Dex exits" };
        let row = format!("| {} | {alias} | {start}", version.number);
        assert!(page.contains(&row), "docs/kubernetes.md has no row: {row}");
        assert!(readme.contains(version.number), "README.md does not name Dex {}", version.number);
    }
    let rows = page.lines().filter(|line| line.starts_with("| 2.")).count();
    assert_eq!(rows, tested.len(), "every row of docs/kubernetes.md is a version that is tested");
}

#[test]
fn edges_name_neither_the_agent_nor_each_other_and_core_names_no_edge() {
    // What may be used by other edges: they are the ground under them.
    let ground = ["clock", "chance", "dns", "input_file", "thread"];
    let edge = root().join("crates/sidecar/src/edge");
    let mut wrong = vec![];
    walk(&edge, &mut |path| {
        let text = fs::read_to_string(path).expect("a file");
        let own = path.strip_prefix(&edge).expect("it is below").components().next().expect("a name");
        let own = own.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("use ")) {
            let above = ["agent", "check", "cli", "exchange", "probe", "reporter", "token"];
            let forbidden = above.iter().any(|room| line.starts_with(&format!("use crate::{room}")));
            let other = line.split("super::super::").nth(1).or_else(|| line.strip_prefix("use super::"));
            let other = other.filter(|_| {
                !path.to_string_lossy().contains("token_endpoint") || line.contains("super::super::")
            });
            let names: Vec<_> = other
                .map(|names| {
                    names.trim_matches(['{', '}', ';']).split([',', ':', ';']).map(str::trim).collect()
                })
                .unwrap_or_default();
            let strays = names.first().is_some_and(|name| {
                edge.join(format!("{name}.rs")).exists() && *name != own && !ground.contains(name)
            });
            if forbidden || strays {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn secrets_are_exposed_in_few_places() {
    // Each of these turns a secret into bytes on their way: to Dex, to the file, to a look inside.
    let allowed = [
        "core/src/secret.rs",
        "core/src/claims.rs",
        "core/src/config.rs",
        "core/src/config/parse.rs",
        "core/src/config/values.rs",
        "core/src/endpoint_url.rs",
        "core/src/exchange.rs",
        "core/src/response.rs",
        "core/src/token.rs",
        "core/src/verdict.rs",
        "sidecar/src/commands/mod.rs",
        "sidecar/src/environment.rs",
        "sidecar/src/token.rs",
        "sidecar/src/exchange.rs",
        "sidecar/src/edge/output_file/atomic.rs",
        "sidecar/src/edge/output_file/in_place.rs",
        "sidecar/src/edge/token_endpoint/proxy.rs",
        "sidecar/src/edge/token_endpoint/request.rs",
        "sidecar/src/edge/token_endpoint/socks.rs",
        "sidecar/src/edge/token_endpoint/tunnel.rs",
    ];
    let mut wrong = vec![];
    for room in ["crates/core/src", "crates/sidecar/src"] {
        walk(&root().join(room), &mut |path| {
            let text = fs::read_to_string(path).expect("a file");
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let exposes = code.contains(".expose()") || code.contains("Secret::expose");
            let name = path.display().to_string();
            if exposes && !allowed.iter().any(|end| name.ends_with(end)) && !name.contains("/tests") {
                wrong.push(name);
            }
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
