//! The paths of a configuration, and which of them clash: what is written must have no other use,
//! since the one would destroy the other.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::yaml::Place;
use super::{DEFAULT_TERMINATION_LOG, Problem};

/// Tells where a path leads: one file has several spellings, such as a relative one and one through
/// a linked directory.
#[derive(Clone, Copy, Debug)]
pub struct Locate {
    /// The directory entry at this path, which a renamed file replaces.
    pub entry: fn(&Path) -> OsString,
    /// The entry that is read at this path: that at the end of its symbolic links.
    pub target: fn(&Path) -> OsString,
}

impl Locate {
    /// Compares the paths as texts, without what does not change their meaning: `/run//./a` is
    /// `/run/a`, and `./a` is `a`.
    pub const AS_TEXT: Self = Self { entry: normal, target: normal };
}

/// Every path that the configuration names, each with its setting.
#[derive(Default)]
pub(super) struct Paths {
    inputs: Vec<(PathBuf, String)>,
    outputs: Vec<(PathBuf, String, Option<Place>)>,
    log: Option<(PathBuf, String, Option<Place>)>,
}

impl Paths {
    /// A file that is read.
    pub(super) fn input(&mut self, path: &Path, name: String) {
        let input = (path.to_owned(), name);
        // A default is named by each token.
        if !self.inputs.iter().rev().take(MOST_COMPARED).any(|known| *known == input) {
            self.inputs.push(input);
        }
    }

    /// A file that a token is written to.
    pub(super) fn output(&mut self, path: &Path, name: String, at: Option<Place>) {
        self.outputs.push((path.to_owned(), name, at));
    }

    /// The file of the termination message. The first one counts: an option or a variable has no
    /// place, and comes before the file.
    pub(super) fn log(&mut self, path: &Path, name: String, at: Option<Place>) {
        self.log.get_or_insert_with(|| (path.to_owned(), name, at));
    }

    /// A problem for each output that clashes, and for the termination log, with their first clash.
    pub(super) fn clashes(self, locate: Locate) -> Vec<Problem> {
        let Locate { entry, target } = locate;
        // A link that is read is itself in use, as well as the file that it leads to.
        let both = |path: &Path| [entry(path), target(path)];
        let inputs: Vec<_> = self.inputs.iter().map(|(path, name)| (both(path), name)).collect();
        let outputs: Vec<_> = self.outputs.iter().map(|(path, name, at)| (entry(path), name, *at)).collect();
        let directories: Vec<Vec<_>> =
            self.outputs.iter().map(|(path, ..)| path.ancestors().skip(1).map(entry).collect()).collect();
        let mut problems = vec![];
        let mut problem = |name: &str, place: Option<Place>, what: String| {
            let problem = Problem::new(name, what, "use another file");
            problems.push(Problem { place, ..problem });
        };
        let default_log = both(Path::new(DEFAULT_TERMINATION_LOG));
        for (index, (path, name, at)) in outputs.iter().enumerate() {
            let input = inputs.iter().find(|(other, _)| other.contains(path)).map(|(_, used)| used);
            let used = || outputs[..index].iter().find(|(other, ..)| other == path).map(|(_, used, _)| used);
            if let Some(used) = input.or_else(used) {
                problem(name, *at, format!("is the same file as {used}"));
            } else if let Some(inner) = directories.iter().position(|above| above.contains(path)) {
                problem(name, *at, format!("is a directory of {}", outputs[inner].1));
            } else if self.log.is_none() && default_log.contains(path) {
                problem(name, *at, "is the termination log".to_owned());
            }
        }
        if let Some((path, name, place)) = &self.log {
            let log = both(path);
            let input = inputs.iter().find(|(other, _)| log.iter().any(|log| other.contains(log)));
            let output = || outputs.iter().find(|(other, ..)| log.contains(other)).map(|(_, used, _)| used);
            if let Some(used) = input.map(|(_, used)| used).or_else(output) {
                problem(name, *place, format!("is the same file as {used}"));
            }
        }
        problems
    }
}

/// How many inputs are compared by name; a token has fewer of them from the defaults.
const MOST_COMPARED: usize = 600;

fn normal(path: &Path) -> OsString {
    path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>().into_os_string()
}

/// Whether two paths lead to one file, as far as their texts show.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}
