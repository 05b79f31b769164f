//! The command line. A mistake is answered with one line: what is wrong, and what is right.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::suite::Suite;

/// The commands of this project's developers.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo xtask",
    after_help = "cargo xtask COMMAND --help has the options and examples of a command.\n\
                  What is built or fetched besides the workspace goes to $XDG_CACHE_HOME/dexsidecar or ~/.cache/dexsidecar."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

/// A command.
#[derive(Debug, Eq, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Check format and lints, and run the pure tests: under a minute when little has changed
    #[command(
        after_help = "The pure tests are those of core, sidecar, fetch and xtask: they need no Go, no network and no root."
    )]
    Check,

    /// Run every check and test, or one suite
    ///
    /// Without a suite: format, lints, documentation, licences, and every suite. Before the tests,
    /// `prefetch` gets everything that they need. The closing lines name each step with its time,
    /// and each failure. The last line has the counts: N passed, N failed, N skipped.
    #[command(after_help = "Examples:\n  \
        cargo xtask test                       everything\n  \
        cargo xtask test fakes                 one suite\n  \
        cargo xtask test fakes signals::       one file of a suite\n  \
        cargo xtask test real-dex f061         the tests of a fault in docs/faults.md\n  \
        cargo xtask test real-dex --long       with older versions of Dex, and the long forms of what is sampled")]
    Test {
        /// The suite
        suite: Option<Suite>,
        /// Only tests whose names contain this text
        filter: Option<String>,
        /// Also run what takes hours: older versions of Dex, CoreDNS, ten million reads, a hundred
        /// thousand histories
        #[arg(long)]
        long: bool,
    },

    /// Fetch and build everything that the tests need, so that they do not wait for it
    ///
    /// Dex, Kubernetes, etcd, Incus and tools of Debian are built or unpacked into the cache, each
    /// once. What this machine lacks is reported first, with how to get it. `cargo xtask test` does
    /// this by itself.
    #[command(after_help = "Examples:\n  \
        cargo xtask prefetch                   for every suite\n  \
        cargo xtask prefetch real-dex          for one suite\n  \
        cargo xtask prefetch --long            with older versions of Dex, and CoreDNS")]
    Prefetch {
        /// The suite
        suite: Option<Suite>,
        /// Also for the long forms of the tests
        #[arg(long)]
        long: bool,
    },

    /// Show a token that is kept fresh by a real Dex; Ctrl-C ends it
    #[command(after_help = "Examples:\n  \
        cargo xtask demo                       Dex and dexsidecar, no root needed\n  \
        sudo -E cargo xtask demo --kubernetes  a pod on a real node, which logs in to a real Incus")]
    Demo {
        /// Show a pod on a real Kubernetes node that logs in to a real Incus; needs root
        #[arg(long)]
        kubernetes: bool,
        /// Exit after three tokens, or with --kubernetes after the story
        #[arg(long)]
        once_around: bool,
    },

    /// Build the static binary as it ships; the last line is its path
    #[command(after_help = EXIT_CODES)]
    Build {
        /// For aarch64; the cross compiler is fetched from Debian
        #[arg(long)]
        aarch64: bool,
    },

    /// Build an OCI archive of the image, without a daemon; the last line is its path
    #[command(
        after_help = "Exits with 3 if only a cross compiler for aarch64 is missing; `cargo xtask image --amd64` needs none."
    )]
    Image {
        /// Only for amd64; otherwise for amd64 and arm64
        #[arg(long)]
        amd64: bool,
    },

    /// Write the files of a release; the last line is their directory
    ///
    /// For x86_64 and aarch64 a tarball (binary, licences, completions, man page) and an SBOM; an
    /// OCI archive of the image for both; the charts; the schemas; SHA256SUMS. The same sources
    /// give the same files. Their time is that of the last commit, or SOURCE_DATE_EPOCH.
    #[command(after_help = EXIT_CODES)]
    Dist {
        /// The directory, which must be empty or missing; otherwise target/dist
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },

    /// Write the packages of the Helm charts into a directory, without Helm; prints their paths
    Charts {
        /// The directory
        directory: PathBuf,
    },

    /// Copy xtask and crane into a directory, for a job that publishes and must not compile
    ///
    /// The copy of xtask has the commands publish-image and publish-files. They need no sources.
    #[command(after_help = "Example:\n  \
        cargo xtask publisher tools && tools/xtask publish-files target/dist")]
    Publisher {
        /// The directory
        directory: PathBuf,
    },

    /// Push the image and the charts of a release to a registry, and sign them with cosign
    ///
    /// The charts are pushed to NAME/charts. REGISTRY_USER and REGISTRY_PASSWORD are the
    /// credentials, unless there are some in docker's configuration. In a workflow of GitHub, sets
    /// the outputs name, version and digest of the image.
    #[command(after_help = "Example:\n  \
        cargo xtask publish-image target/dist ghcr.io/OWNER/dexsidecar")]
    PublishImage {
        /// What `cargo xtask dist` wrote
        directory: PathBuf,
        /// The name of the image, without a tag
        name: String,
    },

    /// Sign SHA256SUMS with cosign, and create the release on GitHub with gh
    PublishFiles {
        /// What `cargo xtask dist` wrote
        directory: PathBuf,
    },

    /// Print the SBOM of the binary as it ships: CycloneDX, in JSON
    Sbom {
        /// For aarch64
        #[arg(long)]
        aarch64: bool,
    },

    /// Write the content of the image into a directory; the Dockerfile uses this
    #[command(after_help = EXIT_CODES)]
    Rootfs {
        /// The directory
        directory: PathBuf,
        /// For aarch64
        #[arg(long)]
        aarch64: bool,
    },

    /// Write the program's completions for bash, zsh and fish, and its man page, for a release
    Completions {
        /// The directory
        directory: PathBuf,
    },

    /// Measure the shipped binary against its limits, and write docs/footprint.md
    Bench,

    /// Compress hours of use with faults of every kind into minutes, and check that memory stays
    /// the same
    Soak {
        /// How long, in minutes
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_440))]
        minutes: Option<u64>,
    },

    /// Print a table of the faults that a program survives
    #[command(after_help = "Example:\n  \
        cargo xtask survive --bin ./dexsidecar-original")]
    Survive {
        /// The program, which takes the environment of the original; otherwise ours
        #[arg(long, value_name = "PATH")]
        bin: Option<PathBuf>,
    },

    /// Simulate a thousand sidecars and a real Dex, and draw docs/fleet.svg
    Fleet,

    /// Measure on a real node how much later an app starts that waits for its token (needs root)
    StartTimes,

    /// Measure what the policies of deploy/injection add to the creation of a pod
    AdmissionTimes,

    /// Search for input that breaks an invariant, with libFuzzer
    #[command(after_help = "Examples:\n  \
        cargo xtask fuzz                       each target for a minute\n  \
        cargo xtask fuzz keys --minutes 10     one target for ten minutes")]
    Fuzz {
        /// The target: a file in fuzz/fuzz_targets, without its ending
        target: Option<String>,
        /// Processor time for each target, in minutes
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_440))]
        minutes: u64,
    },

    /// Change the core in thousands of places, one at a time, and check that its tests notice each
    Mutants,

    /// Check the dependencies against RustSec's advisories; fails without their database
    Advisories,

    /// Write the generated pages: docs/{settings,failures,events,faults,code-map}.md
    Docs,
}

const EXIT_CODES: &str = "Exits with 3 if only a cross compiler for aarch64 is missing.";

/// What is to be done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Request {
    Run(Command),
    /// A help text to print.
    Help(String),
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// One line for a person.
pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let words: Vec<OsString> = words.into_iter().collect();
    match Arguments::try_parse_from(&words) {
        Ok(Arguments { command: Some(command) }) => Ok(Request::Run(command)),
        Ok(Arguments { command: None }) => Ok(Request::Help(Arguments::command().render_help().to_string())),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Ok(Request::Help(error.to_string())),
        Err(error) => {
            let command = words.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
            let known = commands().contains(&command);
            Err(one_line(&error, if known { &command } else { "cargo xtask" }))
        }
    }
}

/// An error of clap, which takes several lines by itself.
fn one_line(error: &clap::Error, command: &str) -> String {
    let quoted = |kind| context(error, kind).map(|value| format!("\"{value}\""));
    let value = |kind| quoted(kind).unwrap_or_default();
    let meant = |kind| quoted(kind).map(|value| format!("; did you mean {value}?")).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidSubcommand => format!(
            "{} is not a command{} The commands: {}",
            value(ContextKind::InvalidSubcommand),
            full_stop(meant(ContextKind::SuggestedSubcommand)),
            commands().join(", ")
        ),
        ErrorKind::UnknownArgument => format!(
            "{command} does not take {}{} Its usage: {}",
            value(ContextKind::InvalidArg),
            full_stop(meant(ContextKind::SuggestedArg)),
            usage(command)
        ),
        ErrorKind::InvalidValue
            if context(error, ContextKind::InvalidValue).is_some_and(|value| value.is_empty()) =>
        {
            format!("{} needs a value. Its usage: {}", value(ContextKind::InvalidArg), usage(command))
        }
        ErrorKind::InvalidValue => format!(
            "{} is not a {}{} One of: {}",
            value(ContextKind::InvalidValue),
            context(error, ContextKind::InvalidArg)
                .unwrap_or_default()
                .trim_matches(['[', ']', '<', '>'])
                .to_lowercase(),
            full_stop(meant(ContextKind::SuggestedValue)),
            context(error, ContextKind::ValidValue).unwrap_or_default()
        ),
        ErrorKind::ValueValidation => format!(
            "{}: {} is not valid: {}",
            context(error, ContextKind::InvalidArg).unwrap_or_default(),
            value(ContextKind::InvalidValue),
            std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
        ),
        ErrorKind::MissingRequiredArgument => format!(
            "{command} needs {}. Its usage: {}",
            context(error, ContextKind::InvalidArg).unwrap_or_default(),
            usage(command)
        ),
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            format!("{}. Its usage: {}", line.trim_start_matches("error: "), usage(command))
        }
    }
}

/// A question ends with its own mark.
fn full_stop(text: String) -> String {
    if text.is_empty() { ".".to_owned() } else { text }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}

fn commands() -> Vec<String> {
    Arguments::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// The usage of a command in one line.
fn usage(name: &str) -> String {
    let mut all = Arguments::command();
    all.build();
    let usage = match all.find_subcommand_mut(name) {
        Some(command) => command.render_usage(),
        None => all.render_usage(),
    };
    usage.to_string().trim_start_matches("Usage: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &str) -> Result<Request, String> {
        read(["xtask"].into_iter().chain(words.split_ascii_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_answered_with_one_line_that_says_what_is_right() {
        for (words, line) in [
            (
                "tset",
                "\"tset\" is not a command; did you mean \"test\"? The commands: check, test, prefetch, demo, build, image, \
                 dist, charts, publisher, publish-image, publish-files, sbom, rootfs, completions, bench, soak, survive, fleet, start-times, \
                 admission-times, fuzz, mutants, advisories, docs",
            ),
            (
                "test f083",
                "\"f083\" is not a suite. One of: unit, docs, fakes, names, real-dex, consumers, node",
            ),
            (
                "test --lnog",
                "test does not take \"--lnog\"; did you mean \"--long\"? Its usage: cargo xtask test [OPTIONS] [SUITE] [FILTER]",
            ),
            ("docs all", "docs does not take \"all\". Its usage: cargo xtask docs"),
            ("rootfs", "rootfs needs <DIRECTORY>. Its usage: cargo xtask rootfs [OPTIONS] <DIRECTORY>"),
            ("soak --minutes", "\"--minutes <N>\" needs a value. Its usage: cargo xtask soak [OPTIONS]"),
            ("soak --minutes ten", "--minutes <N>: \"ten\" is not valid: invalid digit found in string"),
            ("fuzz --minutes 0", "--minutes <N>: \"0\" is not valid: 0 is not in 1..=1440"),
            ("--long", "cargo xtask does not take \"--long\". Its usage: cargo xtask [COMMAND]"),
        ] {
            assert_eq!(read_words(words), Err(line.to_owned()), "{words}");
        }
    }

    #[test]
    fn every_command_has_help_and_no_command_is_the_help() {
        let Ok(Request::Help(all)) = read_words("") else { panic!("a help text") };
        for command in commands() {
            assert!(all.contains(&format!("\n  {command} ")), "{all}");
            for option in ["--help", "-h"] {
                let help = read_words(&format!("{command} {option}"));
                let usage = format!("Usage: cargo xtask {command}");
                assert!(matches!(&help, Ok(Request::Help(text)) if text.contains(&usage)), "{help:?}");
            }
        }
    }

    #[test]
    fn a_suite_may_have_the_name_of_its_test_binary() {
        for suite in Suite::ALL {
            let Some(binary) = suite.binary() else { continue };
            for command in ["test", "prefetch"] {
                let read = [binary, &suite.name()].map(|name| read_words(&format!("{command} {name}")));
                assert!(read[0].is_ok() && read[0] == read[1], "{read:?}");
            }
        }
    }

    #[test]
    fn a_suite_is_named_as_on_the_command_line() {
        for suite in Suite::ALL {
            let Ok(Request::Run(command)) = read_words(&format!("test {} f001 --long", suite.name())) else {
                panic!("a command")
            };
            let filter = Some("f001".to_owned());
            assert_eq!(command, Command::Test { suite: Some(suite), filter, long: true });
        }
    }
}
