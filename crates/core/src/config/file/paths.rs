//! The paths of a file, and which of them clash: what is written must have no other use, since the
//! one would destroy the other.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use crate::config::yaml::Place;
use crate::config::{DEFAULT_TERMINATION_LOG, Problem};

/// Every path that the configuration names, each with its key path.
#[derive(Default)]
pub(super) struct Paths {
    inputs: Vec<(OsString, String)>,
    outputs: Vec<(OsString, String, Place)>,
    log: Option<(OsString, String, Option<Place>)>,
}

impl Paths {
    /// A file that is read.
    pub(super) fn input(&mut self, path: &Path, name: String) {
        let input = (normal(path), name);
        // A default is named by each token.
        if !self.inputs.iter().rev().take(MOST_COMPARED).any(|known| *known == input) {
            self.inputs.push(input);
        }
    }

    /// A file that a token is written to.
    pub(super) fn output(&mut self, path: &Path, name: String, at: Place) {
        self.outputs.push((normal(path), name, at));
    }

    /// The file of the termination message. The first one counts: an option or a variable has no
    /// place, and comes before the file.
    pub(super) fn log(&mut self, path: &Path, name: String, at: Option<Place>) {
        self.log.get_or_insert_with(|| (normal(path), name, at));
    }

    /// A problem for each output that clashes, and for the termination log, with their first clash.
    pub(super) fn clashes(self) -> Vec<Problem> {
        let Self { inputs, outputs, log } = self;
        let mut problems = vec![];
        let mut problem = |name: &str, place: Option<Place>, what: String| {
            let (setting, fix) = (name.to_owned(), "use another file".to_owned());
            problems.push(Problem { setting, what, fix, place, file: None });
        };
        for (index, (path, name, at)) in outputs.iter().enumerate() {
            let inputs = inputs.iter().map(|(other, used)| (other, used));
            let earlier = outputs[..index].iter().map(|(other, used, _)| (other, used));
            if let Some((_, used)) = inputs.chain(earlier).find(|(other, _)| *other == path) {
                problem(name, Some(*at), format!("is the same file as {used}"));
            } else if let Some((_, used, _)) = outputs.iter().find(|(other, ..)| is_within(other, path)) {
                problem(name, Some(*at), format!("is a directory of {used}"));
            }
        }
        if log.is_none() {
            let default = normal(Path::new(DEFAULT_TERMINATION_LOG));
            for (_, name, at) in outputs.iter().filter(|(path, ..)| *path == default) {
                problem(name, Some(*at), "is the termination log".to_owned());
            }
        }
        if let Some((path, name, place)) = log {
            let outputs = outputs.iter().map(|(path, name, _)| (path, name));
            let mut used = inputs.iter().map(|(path, name)| (path, name)).chain(outputs);
            if let Some((_, used)) = used.find(|(other, _)| **other == path) {
                problem(&name, place, format!("is the same file as {used}"));
            }
        }
        problems
    }
}

/// How many inputs are compared by name; a token has fewer of them from the defaults.
const MOST_COMPARED: usize = 600;

/// A path as text, without what does not change its meaning: `/run//./a` is `/run/a`, and `./a` is
/// `a`. So many paths are compared as texts only.
fn normal(path: &Path) -> OsString {
    path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>().into_os_string()
}

/// Whether a path leads through another one.
fn is_within(path: &OsStr, directory: &OsStr) -> bool {
    let rest = path.as_encoded_bytes().strip_prefix(directory.as_encoded_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}
