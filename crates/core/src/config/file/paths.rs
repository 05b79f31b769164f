//! The paths of a file, and which of them clash: what is written must have no other use, since the
//! one would destroy the other.

use std::path::PathBuf;

use crate::config::Problem;
use crate::config::parse::same_file;
use crate::config::yaml::Place;

/// Every path that the configuration names, each with its key path.
#[derive(Default)]
pub(super) struct Paths {
    inputs: Vec<(PathBuf, String)>,
    outputs: Vec<(PathBuf, String, Place)>,
    log: Option<(PathBuf, String, Option<Place>)>,
}

impl Paths {
    /// A file that is read.
    pub(super) fn input(&mut self, path: PathBuf, name: String) {
        // A default is named by each token.
        if !self.inputs.iter().rev().take(MOST_COMPARED).any(|(_, known)| *known == name) {
            self.inputs.push((path, name));
        }
    }

    /// A file that a token is written to.
    pub(super) fn output(&mut self, path: PathBuf, name: String, at: Place) {
        self.outputs.push((path, name, at));
    }

    /// The file of the termination message. The first one counts: an option or a variable has no
    /// place, and comes before the file.
    pub(super) fn log(&mut self, path: PathBuf, name: String, at: Option<Place>) {
        self.log.get_or_insert((path, name, at));
    }

    /// A problem for each clash.
    pub(super) fn clashes(self) -> Vec<Problem> {
        let Self { inputs, outputs, log } = self;
        let mut problems = vec![];
        let mut problem = |name: &str, place: Option<Place>, what: String| {
            let (setting, fix) = (name.to_owned(), "use another file".to_owned());
            problems.push(Problem { setting, what, fix, place, file: None });
        };
        for (index, (path, name, at)) in outputs.iter().enumerate() {
            for (other, input) in inputs.iter().filter(|(other, _)| other.file_name() == path.file_name()) {
                if same_file(path, other) {
                    problem(name, Some(*at), format!("is the same file as {input}"));
                }
            }
            for (other_index, (other, first, _)) in outputs.iter().enumerate() {
                if other_index < index && other.file_name() == path.file_name() && same_file(path, other) {
                    problem(name, Some(*at), format!("is the same file as {first}"));
                }
                if other_index != index && other.as_os_str() != path.as_os_str() && is_within(other, path) {
                    problem(name, Some(*at), format!("is a directory of {first}"));
                }
            }
        }
        if let Some((path, name, at)) = log {
            let outputs = outputs.iter().map(|(path, name, _)| (path, name));
            for (other, used) in inputs.iter().map(|(path, name)| (path, name)).chain(outputs) {
                if same_file(&path, other) {
                    problem(&name, at, format!("is the same file as {used}"));
                }
            }
        }
        problems
    }
}

/// How many inputs are compared by name; a token has fewer of them from the defaults.
const MOST_COMPARED: usize = 600;

/// Whether a path leads through another one.
fn is_within(path: &std::path::Path, directory: &std::path::Path) -> bool {
    path.starts_with(directory) && !same_file(path, directory)
}
