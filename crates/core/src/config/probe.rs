//! The settings of the commands that judge token files: which files, and how long they wait.

use std::path::PathBuf;
use std::time::Duration;

use super::file::{self, ConfigFile, log_of_file};
use super::parse::Parser;
use super::{DEFAULT_NAME, Log, Problem, RawSettings, token_name};
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
    /// The format of its content. `None` for a file that no configuration names: any format counts.
    pub format: Option<Format>,
}

impl ProbedFile {
    /// A file of the command line.
    pub(super) const fn named(path: PathBuf) -> Self {
        Self { token: None, path, format: None }
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
                    path: file.expose().into(),
                    format: Some(Format::default()),
                }),
                None => parser.problem(
                    &format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}"),
                    "is not set",
                    "set it, or use --file or --config",
                ),
            }
        }
        let log = parser.log();
        Self::of_files(files, log, parser)
    }

    /// The probe of a configuration file: every output of each token, or of the one that `--token`
    /// names, or the files that options name. Only the outputs are read from the file, and mistakes
    /// in it are warnings: the running process keeps its configuration in spite of them.
    ///
    /// # Errors
    /// Every problem; at least one. One with the file is there only if no output can be read.
    pub fn of_file(
        read: Result<ConfigFile<'_>, Problem>,
        given: &RawSettings,
    ) -> Result<(Self, Vec<String>), Vec<Problem>> {
        let given = given.cleaned();
        let mut parser = Parser::new(&given);
        parser.unknown_variables();
        let in_file = read.as_ref().map(|file| log_of_file(*file, &RawSettings::default()));
        let log = parser.log_over(in_file.unwrap_or_default());
        let (mut tokens, mut problems) = match read {
            Ok(file) => file::outputs(file),
            Err(problem) => (vec![], vec![problem]),
        };
        let mut is_known = true;
        if let Some(name) = token_name(&given)
            && !tokens.is_empty()
        {
            let names: Vec<_> = tokens.iter().map(|(name, _)| name.clone()).collect();
            tokens.retain(|(known, _)| *known == name);
            is_known = !tokens.is_empty();
            if !is_known {
                let fix = format!("use one of {}", names.join(", "));
                parser.problem(&format!("--{}", settings::TOKEN.option), "is not the name of a token", fix);
            }
        }
        let known: Vec<ProbedFile> = tokens.into_iter().flat_map(|(_, files)| files).collect();
        let named: Vec<PathBuf> =
            given.options(settings::FILE.option).map(|file| file.value.expose().into()).collect();
        if named.iter().any(|path| path.as_os_str().is_empty()) {
            parser.invalid(settings::FILE, "is empty", "set it to a token file");
        }
        let files = if named.is_empty() {
            known
        } else {
            // The file of an output has its format.
            let each = named.into_iter().map(|path| {
                let same = known.iter().find(|file| file.path == path).cloned();
                same.unwrap_or_else(|| ProbedFile::named(path))
            });
            each.collect()
        };
        if files.is_empty() && problems.is_empty() && is_known {
            parser.invalid(
                settings::FILE,
                "is not set, and no token has an output",
                "set it to a token file",
            );
        }
        if files.is_empty() {
            let mut all = Self::of_files(files, log, parser).err().unwrap_or_default();
            all.append(&mut problems);
            return Err(all);
        }
        let warnings = problems.iter().map(Problem::to_string).collect();
        Self::of_files(files, log, parser).map(|probe| (probe, warnings))
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
