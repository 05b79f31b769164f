//! The settings of the commands that judge token files: which files, and how long they wait.

use std::path::PathBuf;
use std::time::Duration;

use super::parse::Parser;
use super::{Config, DEFAULT_NAME, Log, Problem, RawSettings};
use crate::output::Format;
use crate::settings::{self, ACCESS_TOKEN_FILE, Command, FIELD_PREFIX};

/// The settings of `ready`, `wait` and `refresh`, which judge files only.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The files to judge; at least one.
    pub files: Vec<ProbedFile>,
    /// The minimum remaining validity of each token.
    pub min_ttl: Duration,
    /// The overall timeout of `wait`.
    pub timeout: Duration,
    /// Whether `wait` goes on all the same at the timeout.
    pub run_on_timeout: bool,
    /// How long `refresh` waits for the new tokens.
    pub wait: Duration,
    /// The process that `refresh` signals, where several run.
    pub pid: Option<i32>,
    /// Log level and format.
    pub log: Log,
}

/// A file that a probe judges.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbedFile {
    /// The name of the token that is written there. `None` for a file that no configuration names.
    pub token: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// The format of its content.
    pub format: Format,
}

impl ProbedFile {
    /// A file of the command line, which holds the token itself.
    pub(super) fn named(path: PathBuf) -> Self {
        Self { token: None, path, format: Format::default() }
    }
}

impl Probe {
    /// Reads the settings of a probe. Others are ignored, but not unknown ones.
    ///
    /// # Errors
    /// Every problem; at least one.
    pub fn read(given: &RawSettings) -> Result<Self, Vec<Problem>> {
        let given = given.cleaned();
        let mut parser = Parser::new(&given);
        parser.unknown_variables();
        let options = given.options(settings::FILE.option);
        let mut files: Vec<_> = options.map(|file| ProbedFile::named(file.value.expose().into())).collect();
        if files.iter().any(|file| file.path.as_os_str().is_empty()) {
            parser.invalid(settings::FILE, "is empty", "set it to a token file");
        }
        if files.is_empty() {
            match parser.original(ACCESS_TOKEN_FILE) {
                Some(file) => files.push(ProbedFile {
                    token: Some(DEFAULT_NAME.to_owned()),
                    ..ProbedFile::named(file.expose().into())
                }),
                None => parser.problem(
                    &format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}"),
                    "is not set",
                    "set it, or use --file",
                ),
            }
        }
        let log = parser.log();
        Self::of_files(files, log, parser)
    }

    /// The probe of these tokens: every output of each, or the files that options name.
    ///
    /// # Errors
    /// Every problem; at least one.
    pub fn of_config(config: &Config, given: &RawSettings) -> Result<Self, Vec<Problem>> {
        let given = given.cleaned();
        let mut parser = Parser::new(&given);
        let configured = config.tokens.iter().flat_map(|token| {
            token.outputs.iter().map(|output| ProbedFile {
                token: Some(token.name.clone()),
                path: output.path.clone(),
                format: output.format.clone(),
            })
        });
        let named: Vec<PathBuf> =
            given.options(settings::FILE.option).map(|file| file.value.expose().into()).collect();
        let files = if named.is_empty() {
            configured.collect::<Vec<_>>()
        } else {
            let known: Vec<_> = configured.collect();
            // The file of an output has its format.
            let each = named.into_iter().map(|path| {
                let same = known.iter().find(|file| file.path == path).cloned();
                same.unwrap_or_else(|| ProbedFile::named(path))
            });
            each.collect()
        };
        if files.is_empty() {
            parser.invalid(
                settings::FILE,
                "is not set, and no token has an output",
                "set it to a token file",
            );
        }
        Self::of_files(files, config.log, parser)
    }

    fn of_files(files: Vec<ProbedFile>, log: Log, mut parser: Parser<'_>) -> Result<Self, Vec<Problem>> {
        let probe = Self {
            files,
            min_ttl: parser.duration(settings::MIN_TTL, Command::Wait),
            timeout: parser.duration(settings::TIMEOUT, Command::Wait),
            run_on_timeout: parser.run_on_timeout(),
            wait: parser.duration(settings::WAIT, Command::Refresh),
            pid: parser.pid(),
            log,
        };
        parser.end(probe)
    }
}
