//! The configuration file: reads its tree into the configuration, and collects every problem with
//! its place.

mod action;
mod fields;
mod level;
mod output;
mod probed;
mod token;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::parse::Parser;
use super::paths::{Locate, Paths};
use super::value::{self, Wrong};
use super::yaml::{self, Place};
use super::{Config, Log, Outputs, Problem, RawSettings, TokenConfig, Warning};
use crate::limits::{MAX_PROBLEMS, MAX_TOKENS};
use crate::settings::keys::Section;
use crate::settings::{self, Command};
pub(super) use action::signal_name;
pub(super) use fields::{is_field_key, is_list_field, short_type};
use level::{Given, Level};
pub(super) use probed::outputs;

/// A configuration file as it was read.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    /// Its path, for messages.
    pub name: &'a str,
    /// Its path: no token may be written to it.
    pub path: &'a Path,
    /// Its content.
    pub content: &'a [u8],
}

/// What the file itself holds. Options and variables may override some of it.
#[derive(Debug, Default)]
struct Document {
    tokens: Vec<TokenConfig>,
    log: Log,
    listen: Option<SocketAddr>,
    termination_log: Option<PathBuf>,
}

impl Config {
    /// Reads a configuration file, with the options and variables that concern the process or one
    /// command. A token may have no output where they are optional. `locate` tells which paths
    /// lead to one file.
    ///
    /// # Errors
    /// Every problem, in the order of the places; at least one. A syntax error hides what follows
    /// it.
    pub fn read_file(
        file: ConfigFile<'_>,
        given: &RawSettings,
        outputs: Outputs,
        locate: Locate,
    ) -> Result<Self, Vec<Problem>> {
        let given = given.cleaned();
        let mut parser = Parser::new(&given);
        parser.warnings = given.warnings();
        parser.unknown_variables();
        parser.settings_of_tokens();
        let min_ttl = parser.min_ttl_of_token();
        let timeout = parser.duration(settings::TIMEOUT, Command::Once);
        let log = parser.log_over(Log::default());
        // An option or a variable counts before the file.
        let given_log = parser.path(settings::TERMINATION_LOG);
        let mut reader = Reader::new(file, outputs);
        if let Some(path) = &given_log {
            reader.paths.log(path, parser.name(settings::TERMINATION_LOG), None);
        }
        let document = reader.document(file.content);
        for problem in std::mem::take(&mut reader.paths).clashes(locate) {
            reader.keep(problem);
        }
        let Document { tokens, log: in_file, listen, termination_log } = document;
        let listen = parser.listen().or(listen);
        let termination_log = given_log.or(termination_log);
        let log = if reader.problems.is_empty() { parser.log_over(in_file) } else { log };
        let mut warnings = std::mem::take(&mut parser.warnings);
        warnings.append(&mut reader.warnings);
        let mut problems = parser.problems();
        problems.append(&mut reader.problems());
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { tokens, listen, termination_log, min_ttl, timeout, log, warnings })
    }
}

/// Log level and log format of a file, before its other problems are reported.
#[must_use]
pub fn log_of_file(file: ConfigFile<'_>, given: &RawSettings) -> Log {
    let mut reader = Reader::new(file, Outputs::Optional);
    let root = yaml::read(file.content).tree;
    let level = root.as_ref().and_then(|root| reader.level(root, Section::Document, String::new()));
    let in_file = level.map(|level| reader.log_of(&level)).unwrap_or_default();
    Parser::new(&given.cleaned()).log_over(in_file)
}

/// The termination log of a file, before its other problems are reported.
#[must_use]
pub fn termination_log_of_file(file: ConfigFile<'_>, given: &RawSettings) -> Option<PathBuf> {
    let given = Parser::new(&given.cleaned()).path(settings::TERMINATION_LOG);
    given.or_else(|| {
        let mut reader = Reader::new(file, Outputs::Optional);
        let root = yaml::read(file.content).tree?;
        let level = reader.level(&root, Section::Document, String::new())?;
        reader.path(&level, "termination_log")
    })
}

/// The problems and warnings of one file.
struct Reader {
    file: Rc<str>,
    outputs: Outputs,
    problems: Vec<Problem>,
    /// The number of problems beyond those.
    more: usize,
    warnings: Vec<Warning>,
    paths: Paths,
}

impl Reader {
    fn new(file: ConfigFile<'_>, outputs: Outputs) -> Self {
        let mut paths = Paths::default();
        paths.input(file.path, "the configuration file".to_owned());
        let file = file.name.into();
        Self { file, outputs, problems: vec![], more: 0, warnings: vec![], paths }
    }

    /// Keeps a problem, in the order of the places.
    fn problem(&mut self, at: Place, path: &str, what: impl Into<String>, fix: impl Into<String>) {
        let setting = if path.is_empty() { "the file" } else { path };
        self.keep(Problem {
            setting: setting.to_owned(),
            what: what.into(),
            fix: fix.into(),
            place: Some(at),
            file: None,
        });
    }

    fn keep(&mut self, problem: Problem) {
        let file = problem.place.map(|_| Rc::clone(&self.file));
        let problem = Problem { file, ..problem };
        if self.problems.contains(&problem) {
            return;
        }
        if self.problems.len() < MAX_PROBLEMS {
            problem.insert_into(&mut self.problems);
        } else {
            self.more += 1;
        }
    }

    /// Keeps a warning, unless it is known: a default is read for each token.
    fn warn(&mut self, at: Place, setting: &str, what: impl Into<String>) {
        let place = Some(format!("{}:{at}", self.file));
        let warning = Warning { place, ..Warning::new(setting, what) };
        match self.warnings.len() {
            _ if self.warnings.contains(&warning) => {}
            0..MAX_PROBLEMS => self.warnings.push(warning),
            MAX_PROBLEMS => self.warnings.push(Warning::new(&*self.file, "has more warnings")),
            _ => {}
        }
    }

    fn wrong(&mut self, given: &Given<'_>, Wrong { what, fix }: Wrong) {
        self.problem(given.at(), &given.path, what, fix);
    }

    fn tree(&mut self, content: &[u8]) -> Option<yaml::Node> {
        let yaml::Document { tree, problems, more } = yaml::read(content);
        for problem in problems {
            self.keep(problem);
        }
        self.more += more;
        tree
    }

    /// Every problem that was kept, and the number of the others.
    fn problems(&mut self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut self.problems);
        if let Some(last) = problems.last().filter(|_| self.more > 0) {
            let more = self.more;
            problems.push(Problem {
                setting: "the file".to_owned(),
                what: format!("has {more} more problems"),
                fix: "correct those above first".to_owned(),
                ..last.clone()
            });
        }
        problems
    }

    fn document(&mut self, content: &[u8]) -> Document {
        let Some(root) = self.tree(content) else { return Document::default() };
        let Some(level) = self.level(&root, Section::Document, String::new()) else {
            return Document::default();
        };
        self.required(&level, "version", "write version: v1");
        self.read(&level, "version", |text| value::word(text, &[("v1", ())]));
        let document = Document {
            log: self.log_of(&level),
            listen: self.read(&level, "listen", value::listen),
            termination_log: self.path(&level, "termination_log"),
            tokens: self.tokens(&level),
        };
        if let Some((path, given)) = document.termination_log.as_ref().zip(level.own("termination_log")) {
            self.paths.log(path, given.path.clone(), Some(given.at()));
        }
        document
    }

    fn log_of(&mut self, document: &Level<'_>) -> Log {
        let Some(level) = self.sublevel(document, "log", Section::Log) else { return Log::default() };
        Log {
            level: self.read(&level, "level", |text| value::word(text, value::LEVELS)).unwrap_or_default(),
            json: self
                .read(&level, "format", |text| value::word(text, value::LOG_FORMATS))
                .unwrap_or_default(),
        }
    }

    fn tokens(&mut self, document: &Level<'_>) -> Vec<TokenConfig> {
        let defaults = document.own("defaults").and_then(|given| {
            let level = self.level(given.node, Section::Token, given.path.clone())?;
            self.not_in_defaults(&level);
            Some(level)
        });
        let Some(given) = document.own("tokens") else {
            self.required(document, "tokens", "list at least one token");
            return vec![];
        };
        let Some(nodes) = self.list(&given, 1, MAX_TOKENS) else { return vec![] };
        let mut tokens: Vec<TokenConfig> = vec![];
        let mut names: Vec<(String, String)> = vec![];
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{}[{index}]", given.path);
            let Some(mut level) = self.level(node, Section::Token, path) else { continue };
            level.defaults = defaults.as_ref().map(|level| (level.entries, level.path.as_str()));
            let name = self.token_name(&level, nodes.len() == 1, &mut names);
            let token = self.token(&level, name.unwrap_or_default());
            tokens.extend(token);
        }
        tokens
    }
}

#[cfg(test)]
pub(super) mod tests;
