//! Completions for shells and the man page, generated from the program's tables of commands and
//! settings. They come with a release; the program does not carry them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, ValueHint, builder::PossibleValuesParser};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use dexsidecar_core::settings::{self, Kind, ORIGINAL, SETTINGS, Setting};

/// The name of the program.
const NAME: &str = "dexsidecar";

/// Writes the files into a directory, which is created if it is missing. Gives their paths.
pub(crate) fn write(directory: &Path) -> Result<Vec<PathBuf>, String> {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut written = vec![];
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let file = generate_to(shell, &mut program(), NAME, directory);
        written.push(file.map_err(|error| format!("{}: {error}", directory.display()))?);
    }
    let page = directory.join(format!("{NAME}.1"));
    let text = man_page().map_err(|error| error.to_string())?;
    fs::write(&page, text).map_err(|error| format!("{}: {error}", page.display()))?;
    written.push(page);
    Ok(written)
}

/// The command line, as clap describes one.
fn program() -> Command {
    let run = settings::Command::Run;
    let commands = settings::Command::ALL.map(|command| {
        let name = command.name();
        operand(Command::new(name).about(command.purpose()).args(options(command)), command)
    });
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about("keeps a fresh Dex token in a file")
        .long_about(
            "dexsidecar exchanges a pod's ServiceAccount token at Dex's token endpoint (RFC 8693), and refreshes the \
             issued token before it expires. Without a command it does what the command run does.",
        )
        .disable_help_subcommand(true)
        .args(options(run))
        .subcommands(commands)
        .subcommand(Command::new("version").about("print the version"))
}

/// The options of a command.
fn options(command: settings::Command) -> impl Iterator<Item = Arg> {
    SETTINGS.iter().filter(move |setting| setting.commands.contains(&command)).map(|setting| option(setting))
}

fn option(setting: &Setting) -> Arg {
    let variable = match setting.variable {
        "" => String::new(),
        variable => format!(" [variable: {variable}]"),
    };
    let help = format!("{} [default: {}]{variable}", setting.meaning, setting.default_text());
    let option = Arg::new(setting.option).long(setting.option).help(help);
    match setting.kind {
        Kind::Switch => option.action(ArgAction::SetTrue),
        Kind::Word(words, _) => option.value_name("WORD").value_parser(PossibleValuesParser::new(words)),
        Kind::Text("FILE", _) => option.value_name("FILE").value_hint(ValueHint::FilePath),
        Kind::Text(placeholder, _) => option.value_name(placeholder),
        Kind::Duration { .. } => option.value_name("D"),
    }
}

/// Adds what follows the options.
fn operand(command: Command, which: settings::Command) -> Command {
    match which.operands() {
        "" => command,
        "[-- CMD ARG...]" => {
            command.arg(Arg::new("CMD").num_args(1..).value_hint(ValueHint::CommandName).last(true))
        }
        words if words.contains(" | ") => command.subcommands(words.split(" | ").map(subcommand)),
        words => {
            let name = words.trim_matches(['[', ']']);
            command.arg(Arg::new(name).required(!words.starts_with('[')).value_hint(ValueHint::AnyPath))
        }
    }
}

/// A form of a command, as `validate [FILE]`.
fn subcommand(form: &'static str) -> Command {
    let (name, operand) = form.split_once(' ').unwrap_or((form, ""));
    let file = (!operand.is_empty()).then(|| Arg::new("FILE").value_hint(ValueHint::FilePath));
    Command::new(name).args(file)
}

/// One page for the program and all of its commands.
fn man_page() -> std::io::Result<Vec<u8>> {
    let program = program();
    let man = Man::new(program.clone());
    let mut page = vec![];
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut section = Roff::new();
    section.control("SH", ["SYNOPSIS"]);
    for command in settings::Command::ALL {
        let options = if options(command).next().is_some() { " [OPTIONS]" } else { "" };
        let line = format!("{NAME} {}{options} {}", command.name(), command.operands());
        section.text([roman(line.trim_end())]);
        section.control("br", []);
    }
    section.to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    for command in settings::Command::ALL {
        let name = command.name();
        let mut section = Roff::new();
        section.control("SH", [&*format!("{NAME} {name}")]);
        section.text([roman(command.purpose())]);
        section.to_writer(&mut page)?;
        let described = program.find_subcommand(name).cloned().unwrap_or_else(|| Command::new(name));
        let mut options = vec![];
        Man::new(described).render_options_section(&mut options)?;
        // A part of this command's section.
        page.extend(String::from_utf8_lossy(&options).replace(".SH OPTIONS", ".SS Options").bytes());
        let mut section = Roff::new();
        section.control("SS", ["Examples"]);
        for (purpose, line) in command.examples() {
            section.control("TP", []);
            section.text([roman(*purpose)]);
            section.text([roman(*line)]);
        }
        section.to_writer(&mut page)?;
    }
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]);
    let prefix = settings::FIELD_PREFIX;
    for setting in ORIGINAL {
        section.control("TP", []);
        section.text([roman(format!("{prefix}{}", setting.name))]);
        section.text([roman(format!("{} [default: {}]", setting.meaning, setting.default))]);
    }
    for (name, meaning) in [
        (format!("{prefix}<field>"), "the form field <field> of the request to Dex"),
        (
            format!("{}<field>", settings::FILE_PREFIX),
            "the same with the content of a file, read at each exchange",
        ),
    ] {
        section.control("TP", []);
        section.text([roman(name)]);
        section.text([roman(meaning)]);
    }
    section.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "done"),
        ("1", "negative result: not ready, timed out, exchange failed, a step of check failed"),
        ("64", "wrong command line"),
        ("78", "wrong settings"),
    ] {
        section.control("TP", []);
        section.text([roman(code)]);
        section.text([roman(meaning)]);
    }
    section.to_writer(&mut page)?;
    // Not every formatter reads UTF-8.
    Ok(String::from_utf8_lossy(&page).replace('\u{a7}', "\\(sc").into_bytes())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    /// The files in a temporary directory.
    fn written() -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let files = write(&directory.path().join("new")).unwrap();
        (directory, files)
    }

    fn text(output: &Output) -> String {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout.clone()).unwrap()
    }

    #[test]
    fn the_description_of_the_command_line_is_consistent() {
        program().debug_assert();
    }

    #[test]
    fn each_file_names_every_command_and_every_option() {
        let (_directory, files) = written();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["dexsidecar.bash", "_dexsidecar", "dexsidecar.fish", "dexsidecar.1"]);
        for file in &files {
            let text = fs::read_to_string(file).unwrap().replace('\\', "");
            for command in settings::Command::ALL {
                assert!(text.contains(command.name()), "{}: {command:?}", file.display());
            }
            for setting in SETTINGS {
                assert!(text.contains(setting.option), "{}: {}", file.display(), setting.option);
            }
        }
    }

    /// What bash offers for a command line whose last word is not complete.
    fn offered(script: &Path, line: &str) -> Vec<String> {
        let words: Vec<_> = line.split(' ').collect();
        let completing = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; COMP_LINE='{line}'; _dexsidecar dexsidecar '{}' '{}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let output =
            Command::new("bash").args(["--norc", "-c", &completing]).output().expect("bash is there");
        text(&output).lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_options_and_words() {
        let (directory, files) = written();
        for (line, expected) in [
            ("dexsidecar re", &["ready", "refresh"][..]),
            ("dexsidecar wait --on", &["--on-timeout"]),
            ("dexsidecar wait --on-timeout ", &["fail", "run"]),
            ("dexsidecar check --js", &["--json"]),
            ("dexsidecar ready --ca", &[]),
            ("dexsidecar --ca", &["--ca-file"]),
            ("dexsidecar config val", &["validate"]),
        ] {
            let offered: Vec<_> =
                offered(&files[0], line).into_iter().filter(|word| !word.is_empty()).collect();
            assert_eq!(offered, expected, "{line}");
        }
        let file = directory.path().join("token-of-app");
        fs::write(&file, "").unwrap();
        let line = format!("dexsidecar ready --file {}/tok", directory.path().display());
        assert_eq!(offered(&files[0], &line), [file.to_str().unwrap()]);
    }

    #[test]
    fn groff_formats_the_man_page_without_a_warning() {
        let (_directory, files) = written();
        assert!(fs::read(&files[3]).unwrap().is_ascii());
        let output = Command::new("groff")
            .args(["-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=100n"])
            .arg(&files[3])
            .output();
        let output = output.expect("groff is there");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let page = text(&output);
        for part in
            ["NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "EXIT STATUS", "dexsidecar copy /shared"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
