//! `token`: prints a token, in the form that its caller needs.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use dexsidecar::git_credential::{self, Operation};
use dexsidecar::token::{DEFAULT_TTL_FOR_CLIENTS, MinTtl};
use dexsidecar::{exec_plugin, token};
use dexsidecar_core::config::{self, TokenConfig, TokenForm};
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::failure::printable;
use dexsidecar_core::output::{Format, StoredToken};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings;

use super::{CLOCK, event_loop, until_stopped};
use crate::environment::{EXEC_INFO, Environment, RUNTIME_DIRECTORY};
use crate::terminal::{eprint, print};
use crate::{CONFIG, Done, NEGATIVE, USAGE};

/// git describes a credential in a few hundred bytes.
const LARGEST_DESCRIPTION: u64 = 65_536;

/// What is printed.
#[derive(Clone, Copy)]
enum Form {
    Raw,
    Json,
    /// In this API version.
    ExecCredential(&'static str),
    GitCredential,
}

/// Runs it. What the caller asks is judged first: it may need no token.
#[inline(never)]
pub(crate) fn token(environment: &Environment, operands: &[OsString]) -> Done {
    let form = config::token_form(&environment.settings);
    let form = match (form.map_err(|problems| environment.refuse(&problems))?, operands.first()) {
        (TokenForm::Git, operation) => match git_operation(operation)? {
            Operation::Get => match git_credential::judge(described_credential().expose()) {
                Ok(()) => Form::GitCredential,
                Err(why) => {
                    eprint(&format!("dexsidecar: {}\n", why.text()));
                    return Ok(ExitCode::SUCCESS);
                }
            },
            Operation::Capability => return Ok(print(git_credential::CAPABILITIES)),
            Operation::Erase => {
                let rejected = git_credential::rejected(&described_credential());
                if let Some((runtime, rejected)) = runtime_directory(environment).zip(rejected) {
                    token::forget(runtime, &rejected);
                }
                return Ok(ExitCode::SUCCESS);
            }
            Operation::Other => return Ok(ExitCode::SUCCESS),
        },
        (_, Some(word)) => {
            let word = printable(word.display().to_string());
            eprint(&format!(
                "dexsidecar: unexpected argument {word}: only --format git takes an operation\n"
            ));
            return Err(USAGE);
        }
        (TokenForm::Raw, None) => Form::Raw,
        (TokenForm::Json, None) => Form::Json,
        (TokenForm::ExecCredential, None) => {
            let info = environment.variable(EXEC_INFO).map(Secret::expose);
            Form::ExecCredential(exec_plugin::api_version(info).map_err(|why| {
                eprint(&format!("dexsidecar: {why}\n"));
                CONFIG
            })?)
        }
    };
    let (runtime, stop) = event_loop()?;
    until_stopped(&runtime, stop, Box::pin(obtain(environment, form)))
}

fn git_operation(word: Option<&OsString>) -> Result<Operation, u8> {
    word.map(|word| Operation::named(&word.to_string_lossy())).ok_or_else(|| {
        eprint("dexsidecar: --format git needs an operation, which git appends: get, store, erase or capability\n");
        USAGE
    })
}

/// Reads git's description of a credential. It holds the token that is to be erased.
fn described_credential() -> Secret {
    let mut description = vec![];
    // What could not be read is missing in the description.
    let _ = io::stdin().take(LARGEST_DESCRIPTION).read_to_end(&mut description);
    let text = String::from_utf8(description);
    Secret::new(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The directory that holds the cache.
fn runtime_directory(environment: &Environment) -> Option<&Path> {
    let directory = environment.variable(RUNTIME_DIRECTORY).map(|directory| Path::new(directory.expose()));
    directory.filter(|directory| directory.is_absolute())
}

/// Obtains a token and prints it.
async fn obtain(environment: &Environment, form: Form) -> Done {
    let (config, token, endpoint) =
        environment.one_token().map_err(|problems| environment.refuse(&problems))?;
    let default = match form {
        Form::Raw | Form::Json => Duration::ZERO,
        Form::ExecCredential(_) | Form::GitCredential => DEFAULT_TTL_FOR_CLIENTS,
    };
    let min_ttl = config.min_ttl.map_or(MinTtl::UpToHalf(default), MinTtl::Given);
    let work = token::token(&token, min_ttl, runtime_directory(environment), &endpoint, &CLOCK);
    match tokio::time::timeout(config.timeout, work).await {
        Ok(Ok(secret)) => Ok(print_as(form, secret, &token)),
        Ok(Err(failure)) => {
            let (code, owner) = (failure.code, failure.owner().title());
            let dialect = token.exchange.dialect;
            let (text, fix) = (failure.to_string(), failure.fix_in(dialect));
            eprint(&format!("dexsidecar: {text}\ncode:  {code}\nowner: {owner}\nfix:   {fix}\n"));
            Err(NEGATIVE)
        }
        Err(_) => {
            eprint(&format!(
                "dexsidecar: no token within {}: Dex, or another call that holds the cache, takes longer: \
                 run dexsidecar check, or raise --{}\n",
                HumanDuration(config.timeout),
                settings::TIMEOUT.option
            ));
            Err(NEGATIVE)
        }
    }
}

fn print_as(form: Form, token: Secret, config: &TokenConfig) -> ExitCode {
    let stored = StoredToken::of(token);
    let text = match form {
        Form::Raw => return print(stored.token.expose()),
        Form::GitCredential => {
            return print(git_credential::credential(&stored.token, stored.expires).expose());
        }
        Form::Json => {
            let lifetime = stored.expires.map(|expires| CLOCK.now().unix.until(expires));
            let issued_token_type = config.exchange.field("requested_token_type").map(str::to_owned);
            Format::Json.render(&StoredToken { lifetime, issued_token_type, ..stored })
        }
        Form::ExecCredential(version) => {
            exec_plugin::with_api_version(&Format::ExecCredential.render(&stored), version)
        }
    };
    let printed = print(text.expose());
    if printed == ExitCode::SUCCESS { print("\n") } else { printed }
}
