//! `config print` and `config validate`: the effective configuration as a file, and every problem
//! of one.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use dexsidecar::json;
use dexsidecar_core::config::{Config, Outputs, Problem, Warning};
use dexsidecar_core::failure::printable;
use dexsidecar_core::settings::{self, nearest};

use crate::environment::Environment;
use crate::terminal::{eprint, lines, print};
use crate::{CONFIG, Done, USAGE};

const USAGE_TEXT: &str = "use config print, or config validate [FILE]";

/// Runs one of both. `words` are those after the command.
#[inline(never)]
pub(crate) fn config(environment: impl FnOnce() -> Environment, words: Vec<OsString>) -> Done {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
        ["print"] => {
            let environment = environment();
            if environment.is_json() {
                let option = settings::JSON.option;
                eprint(&format!("dexsidecar: --{option} is for config validate: config print prints YAML\n"));
                return Err(USAGE);
            }
            print_config(&environment)
        }
        ["validate"] => Ok(validate(&environment(), None)),
        ["validate", file] => Ok(validate(&environment(), Some(Path::new(file)))),
        ref other => {
            let what = match other {
                [] => "config needs a word".to_owned(),
                ["print" | "validate", ..] => "config has too many words".to_owned(),
                [word, ..] => match nearest(word, ["print", "validate"]) {
                    Some(near) => format!("unknown word {word}: did you mean {near}?"),
                    None => format!("unknown word {word}"),
                },
            };
            eprint(&format!("dexsidecar: {}: {USAGE_TEXT}\n", printable(what)));
            Err(USAGE)
        }
    }
}

fn print_config(environment: &Environment) -> Done {
    let config = environment.config(Outputs::Optional).map_err(|problems| environment.refuse(&problems))?;
    for warning in &config.warnings {
        eprint(&format!("warning: {}\n", printable(warning.to_string())));
    }
    Ok(print(&config.print()))
}

/// Validates a file, or what the other commands would read.
fn validate(environment: &Environment, file: Option<&Path>) -> ExitCode {
    let of_file = file.map(Environment::of_file);
    let as_json = environment.is_json();
    let environment = of_file.as_ref().unwrap_or(environment);
    let (read, name) = (environment.config(Outputs::Required), environment.file_name());
    let text = if as_json { to_json(&read, name) } else { to_text(&read, name) };
    let printed = print(&text);
    if read.is_ok() { printed } else { CONFIG.into() }
}

fn to_text(read: &Result<Config, Vec<Problem>>, file: Option<&str>) -> String {
    match read {
        Ok(config) => {
            let warnings =
                config.warnings.iter().map(|warning| format!("warning: {}", printable(warning.to_string())));
            let name = file.unwrap_or("the environment");
            let tokens = match config.tokens.len() {
                1 => "1 token".to_owned(),
                more => format!("{more} tokens"),
            };
            lines(&warnings.chain([format!("{name} is valid: {tokens}")]).collect::<Vec<_>>())
        }
        Err(problems) => lines(&problems.iter().map(Problem::to_string).collect::<Vec<_>>()),
    }
}

fn to_json(read: &Result<Config, Vec<Problem>>, file: Option<&str>) -> String {
    let (problems, warnings): (&[Problem], &[Warning]) = match read {
        Ok(config) => (&[], &config.warnings),
        Err(problems) => (problems, &[]),
    };
    let problems: Vec<_> = problems.iter().map(problem_json).collect();
    let warnings: Vec<_> = warnings.iter().map(|warning| json::string(&warning.to_string())).collect();
    // The members are in the order of their names.
    let report = json::object_on_lines(
        0,
        &[
            ("file", string_or_null(file)),
            ("problems", json::array_on_lines(2, &problems)),
            ("valid", read.is_ok().to_string()),
            ("warnings", json::array_on_lines(2, &warnings)),
        ],
    );
    format!("{report}\n")
}

fn problem_json(problem: &Problem) -> String {
    let Problem { setting, what, fix, place, file } = problem;
    let number = |number: Option<String>| number.unwrap_or_else(|| "null".to_owned());
    json::object_on_lines(
        4,
        &[
            ("column", number(place.map(|place| place.column.to_string()))),
            ("error", json::string(what)),
            ("file", string_or_null(file.as_deref())),
            ("fix", json::string(fix)),
            ("line", number(place.map(|place| place.line.to_string()))),
            ("setting", json::string(setting)),
        ],
    )
}

fn string_or_null(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), json::string)
}
