//! The command line: from arguments to a command and its flags, and the help, all from the table of settings.

use std::ffi::OsString;
use std::fmt::Write as _;

use dexsidecar_core::settings::{Command, FIELD_PREFIX, Kind, ORIGINAL, SETTINGS, Setting, nearest};
use lexopt::{Arg, Parser};

/// What was asked for.
#[derive(Debug, Eq, PartialEq)]
pub enum Asked {
    /// A command, with its flags without dashes; a switch has an empty value. `rest` is what follows `--`.
    Do {
        /// The command.
        command: Command,
        /// Flags in order.
        flags: Vec<(String, String)>,
        /// The program that `wait` becomes, and its arguments.
        rest: Vec<OsString>,
    },
    /// A text to print: help or the version.
    Print(String),
}

/// Reads the arguments, the program's name left out.
///
/// # Errors
/// One sentence on what is wrong with them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut parser = Parser::from_args(arguments);
    let mut command = None;
    let mut flags = Vec::new();
    let mut rest = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Print(help(command))),
            Arg::Short('V') | Arg::Long("version") => return Ok(Asked::Print(version())),
            Arg::Long(name) => {
                let name = name.to_owned();
                let setting = setting(&name)?;
                let value = match setting.kind {
                    Kind::Switch => parser.optional_value().unwrap_or_default(),
                    Kind::Value(_) => parser.value().map_err(|_| format!("--{name} needs a value"))?,
                };
                let value = value.into_string().map_err(|_| format!("the value of --{name} is not UTF-8"))?;
                flags.push((name, value));
            }
            Arg::Short(letter) => return Err(format!("-{letter} is no flag: see dexsidecar --help")),
            // `wait -- CMD ARG…`: lexopt hands over what follows the dashes as values.
            Arg::Value(word) if command == Some(Command::Wait) => {
                rest.push(word);
                rest.extend(parser.raw_args().map_err(|error| error.to_string())?);
            }
            Arg::Value(word) if command.is_none() => match &*word.to_string_lossy() {
                "version" => return Ok(Asked::Print(version())),
                "help" => return Ok(Asked::Print(help(named(parser.next())))),
                name => command = Some(find(name)?),
            },
            Arg::Value(word) => {
                return Err(format!("{} is one word too many: see dexsidecar --help", word.display()));
            }
        }
    }
    let command = command.unwrap_or(Command::Run);
    for (flag, _) in &flags {
        if !setting(flag)?.commands.contains(&command) {
            return Err(format!("dexsidecar {} has no --{flag}: see dexsidecar {0} --help", command.name()));
        }
    }
    Ok(Asked::Do { command, flags, rest })
}

fn setting(name: &str) -> Result<&'static Setting, String> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.flag == name) {
        return Ok(setting);
    }
    Err(match nearest(name, SETTINGS.iter().map(|setting| setting.flag)) {
        Some(near) => format!("--{name} is no flag: did you mean --{near}?"),
        None => format!("--{name} is no flag: see dexsidecar --help"),
    })
}

fn find(name: &str) -> Result<Command, String> {
    if let Some(command) = Command::ALL.into_iter().find(|command| command.name() == name) {
        return Ok(command);
    }
    let names = Command::ALL.into_iter().map(Command::name).chain(["version", "help"]);
    Err(match nearest(name, names) {
        Some(near) => format!("{name} is no command: did you mean {near}?"),
        None => format!("{name} is no command: see dexsidecar --help"),
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
            let tail = if command == Command::Wait { " [-- CMD ARG...]" } else { "" };
            write!(
                text,
                "dexsidecar {}: {}\n\nUsage: dexsidecar {0} [FLAGS]{tail}\n",
                command.name(),
                command.purpose()
            )
        }
    };
    if command.is_none() {
        let _ = writeln!(text, "\nCommands:");
        for command in Command::ALL {
            let _ = writeln!(text, "  {:<8} {}", command.name(), command.purpose());
        }
        let _ = writeln!(text, "  {:<8} print the version", "version");
    }
    if command.is_none_or(|command| !matches!(command, Command::Ready | Command::Wait)) {
        let _ = writeln!(text, "\nVariables, as the original has them:");
        for setting in ORIGINAL {
            let _ = write!(text, "  {FIELD_PREFIX}{}\n      {}", setting.name, wrapped(setting.meaning));
            let _ = writeln!(text, " [{}]", setting.default);
        }
        text.push_str(FIELDS);
    }
    let _ = writeln!(text, "\nFlags, each with its variable:");
    for setting in
        SETTINGS.iter().filter(|setting| command.is_none_or(|command| setting.commands.contains(&command)))
    {
        let value = match setting.kind {
            Kind::Switch => String::new(),
            Kind::Value(word) => format!(" {word}"),
        };
        let variable =
            if setting.variable.is_empty() { String::new() } else { format!(", {}", setting.variable) };
        let _ = writeln!(text, "  --{}{value}{variable}", setting.flag);
        let _ = writeln!(text, "      {} [{}]", wrapped(setting.meaning), setting.default);
    }
    if command.is_none() {
        text.push_str(EXIT_CODES);
    }
    text
}

const INTRODUCTION: &str = "\
dexsidecar keeps a fresh Dex token in a file: it trades the pod's ServiceAccount token
at Dex's token endpoint (RFC 8693), again and again, before the last one expires.

Usage: dexsidecar [COMMAND] [FLAGS]
       dexsidecar COMMAND --help
";

const FIELDS: &str = "  dex_<field>
      any other name is a form field <field> of the exchange, sent as it is
  dex_file_<field>
      a form field whose value is a file's content, read again at every exchange
";

const EXIT_CODES: &str = "
D is a duration as Go writes it: 1h30m, 1.5h, 250ms. SIGHUP and SIGUSR1 make run exchange now.
Ends with 0 when done, 1 when the answer is no, 64 for a wrong command line, 78 for wrong settings.
";

/// Lines of a bearable length, indented like the first.
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

    fn read(line: &str) -> Result<Asked, String> {
        parse(line.split_ascii_whitespace().map(OsString::from))
    }

    fn command(line: &str) -> Command {
        match read(line).unwrap() {
            Asked::Do { command, .. } => command,
            Asked::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        assert_eq!(command(""), Command::Run);
        assert_eq!(command("--log-level debug"), Command::Run);
        assert_eq!(command("run"), Command::Run);
    }

    #[test]
    fn wait_takes_a_command_line_behind_dashes() {
        let Ok(Asked::Do { flags, rest, .. }) = read("wait --timeout 5s --file=/t -- sh -c true") else {
            panic!()
        };
        assert_eq!(flags, [("timeout".to_owned(), "5s".to_owned()), ("file".to_owned(), "/t".to_owned())]);
        assert_eq!(rest, ["sh", "-c", "true"]);
    }

    #[test]
    fn mistakes_are_told_with_the_nearest_name() {
        for (line, told) in [
            ("redy", "redy is no command: did you mean ready?"),
            ("frobnicate", "frobnicate is no command: see dexsidecar --help"),
            ("--ca-fil x", "--ca-fil is no flag: did you mean --ca-file?"),
            ("--ca-file", "--ca-file needs a value"),
            ("run -x", "-x is no flag: see dexsidecar --help"),
            ("run extra", "extra is one word too many: see dexsidecar --help"),
            ("ready --ca-file x", "dexsidecar ready has no --ca-file: see dexsidecar ready --help"),
        ] {
            assert_eq!(read(line), Err(told.to_owned()), "{line}");
        }
    }

    #[test]
    fn help_names_every_setting() {
        let text = help(None);
        for setting in SETTINGS {
            assert!(text.contains(&format!("--{}", setting.flag)), "{}", setting.flag);
        }
        assert_eq!(read("--help"), Ok(Asked::Print(text)));
        assert_eq!(read("help ready"), Ok(Asked::Print(help(Some(Command::Ready)))));
        assert!(
            help(Some(Command::Ready)).contains("--min-ttl")
                && !help(Some(Command::Ready)).contains("--ca-file")
        );
    }
}
