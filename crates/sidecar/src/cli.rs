//! The command line and its help, both from the table of settings.

use std::ffi::OsString;
use std::fmt::Write as _;

use dexsidecar_core::config::RawValue;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{
    Command, EXCHANGING, FIELD_PREFIX, Kind, ORIGINAL, SETTINGS, Setting, nearest,
};
use lexopt::{Arg, Parser};

/// What the command line asks for.
#[derive(Debug, Eq, PartialEq)]
pub enum Invocation {
    /// To run a command.
    Run {
        /// The command.
        command: Command,
        /// The options, in order.
        options: Vec<RawValue>,
        /// The operands: where `copy` copies to, the program that `wait` or `copy` becomes with
        /// its arguments, what `config` is to do, or the operation that git asks of `token`.
        operands: Vec<OsString>,
    },
    /// To print a text: help or the version.
    Print(String),
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// A sentence: what is wrong, and what would be right.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    let mut parser = Parser::from_args(arguments);
    let mut command = None;
    let mut options = Vec::new();
    let mut operands = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::Print(help(command))),
            Arg::Short('V') | Arg::Long("version") => return Ok(Invocation::Print(version())),
            Arg::Long(name) => {
                let name = name.to_owned();
                let setting = setting(&name)?;
                let value = match setting.kind {
                    Kind::Switch => parser.optional_value().unwrap_or_default(),
                    _ => parser.value().map_err(|_| format!("option --{name} needs a value"))?,
                };
                let value =
                    value.into_string().map_err(|_| format!("the value of option --{name} is not UTF-8"))?;
                if setting.kind == Kind::Switch && !["", "true", "1", "false", "0"].contains(&value.as_str())
                {
                    return Err(format!("option --{name} takes true or false"));
                }
                options.push(RawValue::option(name, Secret::new(value)));
            }
            Arg::Short(letter) => return Err(format!("unknown option -{letter}: see dexsidecar --help")),
            // `wait -- CMD ARG…`: lexopt returns what follows the dashes as values.
            Arg::Value(word) if command == Some(Command::Wait) => {
                operands.push(word);
                operands.extend(parser.raw_args().map_err(|error| error.to_string())?);
            }
            // `config print`, `config validate FILE`.
            Arg::Value(word) if command == Some(Command::Config) => operands.push(word),
            Arg::Value(word) if command.is_none() => match &*word.to_string_lossy() {
                "version" => return Ok(Invocation::Print(version())),
                "help" => return Ok(Invocation::Print(help(named(parser.next())))),
                name => command = Some(find(name)?),
            },
            Arg::Value(word) if command == Some(Command::Token) && operands.is_empty() => {
                operands.push(word);
            }
            // `copy DEST -- CMD ARG…`.
            Arg::Value(word) if command == Some(Command::Copy) && operands.is_empty() => {
                operands.push(word);
                let mut rest = parser.raw_args().map_err(|error| error.to_string())?;
                if rest.next_if(|argument| argument == "--").is_some() {
                    operands.extend(rest);
                }
            }
            Arg::Value(word) => {
                return Err(format!("unexpected argument {}: see dexsidecar --help", word.display()));
            }
        }
    }
    let command = command.unwrap_or(Command::Run);
    for RawValue { name, .. } in &options {
        if !setting(name)?.commands.contains(&command) {
            return Err(format!("{} has no option --{name}: see dexsidecar {0} --help", command.name()));
        }
    }
    if command == Command::Copy && operands.is_empty() {
        return Err("copy needs DEST, a file or a directory: see dexsidecar copy --help".to_owned());
    }
    Ok(Invocation::Run { command, options, operands })
}

fn setting(name: &str) -> Result<&'static Setting, String> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.option == name) {
        return Ok(setting);
    }
    Err(match nearest(name, SETTINGS.iter().map(|setting| setting.option)) {
        Some(near) => format!("unknown option --{name}: did you mean --{near}?"),
        None => format!("unknown option --{name}: see dexsidecar --help"),
    })
}

fn find(name: &str) -> Result<Command, String> {
    if let Some(command) = Command::ALL.into_iter().find(|command| command.name() == name) {
        return Ok(command);
    }
    let names = Command::ALL.into_iter().map(Command::name).chain(["version", "help"]);
    Err(match nearest(name, names) {
        Some(near) => format!("unknown command {name}: did you mean {near}?"),
        None => format!("unknown command {name}: see dexsidecar --help"),
    })
}

fn named(argument: Result<Option<Arg<'_>>, lexopt::Error>) -> Option<Command> {
    match argument {
        Ok(Some(Arg::Value(word))) => find(&word.to_string_lossy()).ok(),
        _ => None,
    }
}

/// `dexsidecar 0.1.0`.
#[must_use]
pub fn version() -> String {
    format!("dexsidecar {}\n", env!("CARGO_PKG_VERSION"))
}

/// Help for one command, or for the program.
#[must_use]
pub fn help(command: Option<Command>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match command {
        None => write!(text, "{INTRODUCTION}"),
        Some(command) => {
            let (name, purpose, operands) = (command.name(), command.purpose(), command.operands());
            let options = if has_options(command) { " [OPTIONS]" } else { "" };
            let space = if operands.is_empty() { "" } else { " " };
            write!(
                text,
                "dexsidecar {name}: {purpose}\n\nUsage: dexsidecar {name}{options}{space}{operands}\n\nExamples:\n"
            )
        }
    };
    for (purpose, line) in command.map(Command::examples).unwrap_or_default() {
        let _ = writeln!(text, "  # {purpose}\n  {line}");
    }
    if command.is_none() {
        let _ = writeln!(text, "\nCommands:");
        for command in Command::ALL {
            let _ = writeln!(text, "  {:<8} {}", command.name(), command.purpose());
        }
        let _ = writeln!(text, "  {:<8} print the version", "version");
    }
    let shown = |commands: &[Command]| command.is_none_or(|command| commands.contains(&command));
    if shown(EXCHANGING) {
        let _ = writeln!(text, "\nEnvironment variables, in lower case as with miscord-dev/dexsidecar:");
        for setting in ORIGINAL.iter().filter(|setting| shown(setting.commands)) {
            let default = if setting.default.starts_with("required") { "" } else { "default: " };
            let meaning = format!("{} [{default}{}]", setting.meaning, setting.default);
            let _ = writeln!(text, "  {FIELD_PREFIX}{}\n      {}", setting.name, wrapped(&meaning));
        }
        text.push_str(FIELDS);
    }
    if command.is_some_and(|command| !has_options(command)) {
        return text;
    }
    let _ = writeln!(text, "\nOptions, with their environment variables:");
    for setting in SETTINGS.iter().filter(|setting| shown(setting.commands)) {
        let variable =
            if setting.variable.is_empty() { String::new() } else { format!(", {}", setting.variable) };
        let placeholder = setting.placeholder();
        let space = if placeholder.is_empty() { "" } else { " " };
        let range = setting.range_text().map_or_else(String::new, |range| format!("; {range}"));
        let _ = writeln!(text, "  --{}{space}{placeholder}{variable}", setting.option);
        let default = match (setting.kind, command) {
            (Kind::Duration { .. }, Some(command)) => {
                HumanDuration(setting.default_duration(command)).to_string()
            }
            _ => setting.default_text(),
        };
        let _ =
            writeln!(text, "      {}", wrapped(&format!("{} [default: {default}{range}]", setting.meaning)));
    }
    text.push_str(if command.is_none() { NOTES } else { DURATIONS });
    text
}

fn has_options(command: Command) -> bool {
    SETTINGS.iter().any(|setting| setting.commands.contains(&command))
}

const INTRODUCTION: &str = "\
dexsidecar keeps a fresh Dex token in a file. It exchanges the pod's ServiceAccount token
at Dex's token endpoint (RFC 8693) and refreshes the issued token before it expires.

Usage: dexsidecar [COMMAND] [OPTIONS]
       dexsidecar COMMAND --help
";

const FIELDS: &str = "  dex_<field>
      any other name is sent to Dex as the form field <field>. Dex requires grant_type,
      connector_id, subject_token and subject_token_type
  dex_file_<field>
      the same with the content of a file, which is read at each exchange
";

const DURATIONS: &str = "
D is a duration such as 1h30m, 1.5h or 250ms.
";

const NOTES: &str = "
D is a duration such as 1h30m, 1.5h or 250ms. SIGHUP and SIGUSR1 make run refresh the token now.

Exit codes:
  0   done
  1   negative result: not ready, timed out, exchange failed, a step of check failed
  64  wrong command line
  78  wrong settings
";

/// Wraps a text at 90 columns; further lines are indented like the first.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        if width > 0 && width + word.len() > 88 {
            out.push_str("\n      ");
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, String> {
        parse(line.split_ascii_whitespace().map(OsString::from))
    }

    fn command(line: &str) -> Command {
        match read(line).unwrap() {
            Invocation::Run { command, .. } => command,
            Invocation::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn run_is_the_default_command() {
        assert_eq!(command(""), Command::Run);
        assert_eq!(command("--log-level debug"), Command::Run);
        assert_eq!(command("run"), Command::Run);
    }

    #[test]
    fn wait_takes_a_command_line_after_two_dashes() {
        let Ok(Invocation::Run { options, operands, .. }) = read("wait --timeout 5s --file=/t -- sh -c true")
        else {
            panic!()
        };
        let option =
            |name: &str, value: &str| RawValue::option(name.to_owned(), Secret::new(value.to_owned()));
        assert_eq!(options, [option("timeout", "5s"), option("file", "/t")]);
        assert_eq!(operands, ["sh", "-c", "true"]);
    }

    #[test]
    fn copy_takes_a_command_line_after_its_destination_and_two_dashes() {
        for (line, expected) in [
            ("copy /shared -- dexsidecar run --help", &["/shared", "dexsidecar", "run", "--help"][..]),
            ("copy /shared --", &["/shared"]),
            ("copy /shared", &["/shared"]),
        ] {
            let Ok(Invocation::Run { operands, .. }) = read(line) else { panic!("{line}") };
            assert_eq!(operands, expected, "{line}");
        }
    }

    #[test]
    fn errors_name_the_nearest_option_or_command() {
        for (line, error) in [
            ("redy", "unknown command redy: did you mean ready?"),
            ("frobnicate", "unknown command frobnicate: see dexsidecar --help"),
            ("--ca-fil x", "unknown option --ca-fil: did you mean --ca-file?"),
            ("--ca-file", "option --ca-file needs a value"),
            ("run -x", "unknown option -x: see dexsidecar --help"),
            ("run extra", "unexpected argument extra: see dexsidecar --help"),
            ("copy", "copy needs DEST, a file or a directory: see dexsidecar copy --help"),
            ("copy a b", "unexpected argument b: see dexsidecar --help"),
            ("token get b", "unexpected argument b: see dexsidecar --help"),
            ("refresh a", "unexpected argument a: see dexsidecar --help"),
            ("check --json=maybe", "option --json takes true or false"),
            ("ready --ca-file x", "ready has no option --ca-file: see dexsidecar ready --help"),
        ] {
            assert_eq!(read(line), Err(error.to_owned()), "{line}");
        }
    }

    #[test]
    fn help_names_every_setting() {
        let text = help(None);
        for setting in SETTINGS {
            assert!(text.contains(&format!("--{}", setting.option)), "{}", setting.option);
        }
        assert_eq!(read("--help"), Ok(Invocation::Print(text)));
        assert_eq!(read("help ready"), Ok(Invocation::Print(help(Some(Command::Ready)))));
        assert!(
            help(Some(Command::Ready)).contains("--min-ttl")
                && !help(Some(Command::Ready)).contains("--ca-file")
        );
    }
}
