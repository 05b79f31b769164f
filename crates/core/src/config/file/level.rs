//! One map of the file with keys of its own: finds a key, reads its value, and refuses keys that
//! the table does not have.

use std::path::PathBuf;

use super::Reader;
use crate::config::value::{self, Wrong};
use crate::config::yaml::{Entry, Node, Place, Trail, Value};
use crate::secret::Secret;
use crate::settings::keys::{self, KEYS, Section};
use crate::settings::{CLIENT_SECRET, nearest};

/// One map of the file with the keys of a section.
pub(super) struct Level<'n> {
    pub(super) section: Section,
    pub(super) entries: &'n [Entry],
    pub(super) at: Place,
    /// The key path: `tokens[0]`.
    pub(super) path: String,
    /// The keys that count where this map has none, and their path.
    pub(super) defaults: Option<(&'n [Entry], &'n str)>,
}

/// A value that was given for a key.
pub(super) struct Given<'n> {
    pub(super) node: &'n Node,
    /// The key path: `tokens[0].scope`, or `defaults.scope`.
    pub(super) path: String,
}

impl<'n> Given<'n> {
    pub(super) const fn at(&self) -> Place {
        self.node.at
    }

    /// What a map has for a key.
    pub(super) fn entry(&self, key: &str) -> Option<Self> {
        match &self.node.value {
            Value::Map(entries) => find(entries, &self.path, key),
            _ => None,
        }
    }
}

/// The path of a key.
fn joined(path: &str, key: &str) -> String {
    let shown = Trail::Key(&Trail::Root, key);
    if path.is_empty() { shown.to_string() } else { format!("{path}.{shown}") }
}

fn find<'n>(entries: &'n [Entry], path: &str, key: &str) -> Option<Given<'n>> {
    let entry = entries.iter().find(|entry| entry.key == key)?;
    Some(Given { node: &entry.node, path: joined(path, key) })
}

impl<'n> Level<'n> {
    /// What the map itself has for a key.
    pub(super) fn own(&self, key: &str) -> Option<Given<'n>> {
        find(self.entries, &self.path, key)
    }

    /// What `defaults` has for a key.
    pub(super) fn default(&self, key: &str) -> Option<Given<'n>> {
        self.defaults.and_then(|(entries, path)| find(entries, path, key))
    }

    /// What counts for a key: what the map has, else what `defaults` has.
    pub(super) fn get(&self, key: &str) -> Option<Given<'n>> {
        self.own(key).or_else(|| self.default(key))
    }

    /// The path of a key of this map.
    pub(super) fn path_of(&self, key: &str) -> String {
        joined(&self.path, key)
    }
}

impl Reader {
    /// A map with the keys of a section. Others are reported.
    pub(super) fn level<'n>(&mut self, node: &'n Node, section: Section, path: String) -> Option<Level<'n>> {
        let Value::Map(entries) = &node.value else {
            if !matches!(node.value, Value::Invalid) {
                let keys: Vec<_> = section.keys().map(|key| key.name).take(3).collect();
                self.problem(
                    node.at,
                    &path,
                    "is not a map",
                    format!("write keys such as {}", keys.join(", ")),
                );
            }
            return None;
        };
        for entry in entries {
            if keys::key(section, &entry.key).is_none() {
                let fix = unknown(section, &entry.key);
                let what =
                    if entry.key == CLIENT_SECRET { "would hold a secret" } else { "is an unknown key" };
                self.problem(entry.at, &joined(&path, &entry.key), what, fix);
            }
        }
        Some(Level { section, entries, at: node.at, path, defaults: None })
    }

    /// The map of a key.
    pub(super) fn sublevel<'n>(
        &mut self,
        level: &Level<'n>,
        key: &str,
        section: Section,
    ) -> Option<Level<'n>> {
        let given = level.own(key)?;
        self.level(given.node, section, given.path)
    }

    pub(super) fn required(&mut self, level: &Level<'_>, key: &str, fix: &str) {
        if level.get(key).is_none() {
            self.problem(level.at, &level.path_of(key), "is not set", fix);
        }
    }

    /// The text of a value, without line breaks at its end. `None` after a problem.
    pub(super) fn text<'n>(&mut self, given: &Given<'n>) -> Option<&'n str> {
        let text = self.any_text(given)?;
        if text.is_empty() {
            self.problem(given.at(), &given.path, "is empty", "set it, or remove the key");
            return None;
        }
        if text.contains("$(") || text.contains("${") {
            self.warn(
                given.at(),
                &given.path,
                "contains a reference to a variable, which is not expanded in the configuration file: \
                 write the value itself",
            );
        }
        Some(text)
    }

    /// The text of a value, which may be empty, without line breaks at its end.
    pub(super) fn any_text<'n>(&mut self, given: &Given<'n>) -> Option<&'n str> {
        self.raw_text(given).map(|text| text.trim_end_matches(['\r', '\n']))
    }

    /// The text of a value as it is.
    pub(super) fn raw_text<'n>(&mut self, given: &Given<'n>) -> Option<&'n str> {
        let what = match &given.node.value {
            // No path, no argument and no header can hold one.
            Value::Text(text) if text.expose().contains('\0') => {
                self.problem(given.at(), &given.path, "has a NUL character", "remove it");
                return None;
            }
            Value::Text(text) => {
                let text = text.expose();
                return value::no_placeholder(text).map_err(|why| self.wrong(given, why)).ok().map(|()| text);
            }
            Value::Invalid => return None,
            Value::List(_) => "is a list",
            Value::Map(_) => "is a map",
        };
        self.problem(given.at(), &given.path, what, "write one value");
        None
    }

    /// Reads the value of a key. `None` if there is none, or after a problem.
    pub(super) fn read<T>(
        &mut self,
        level: &Level<'_>,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let given = level.get(key)?;
        self.read_given(&given, read)
    }

    pub(super) fn read_given<T>(
        &mut self,
        given: &Given<'_>,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = self.text(given)?;
        read(text).map_err(|why| self.wrong(given, why)).ok()
    }

    /// The text of a key.
    pub(super) fn text_of<'n>(&mut self, level: &Level<'n>, key: &str) -> Option<&'n str> {
        let given = level.get(key)?;
        self.text(&given)
    }

    /// The path of a file that is not part of any comparison.
    pub(super) fn path(&mut self, level: &Level<'_>, key: &str) -> Option<PathBuf> {
        self.text_of(level, key).map(PathBuf::from)
    }

    /// The path of a file that is read.
    pub(super) fn input(&mut self, level: &Level<'_>, key: &str) -> Option<PathBuf> {
        let given = level.get(key)?;
        self.input_given(&given)
    }

    pub(super) fn input_given(&mut self, given: &Given<'_>) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(given)?);
        if path.starts_with("~") {
            self.problem(
                given.at(),
                &given.path,
                "begins with ~, which is not expanded",
                "write the whole path",
            );
            return None;
        }
        self.paths.input(&path, given.path.clone());
        Some(path)
    }

    /// The elements of a list, of which there are at least and at most so many.
    pub(super) fn list<'n>(&mut self, given: &Given<'n>, least: usize, most: usize) -> Option<&'n [Node]> {
        let (what, fix) = match &given.node.value {
            Value::List(nodes) if nodes.len() > most => {
                (format!("has {} elements", nodes.len()), format!("write at most {most}"))
            }
            Value::List(nodes) if nodes.len() < least => {
                ("is empty".to_owned(), "list at least one".to_owned())
            }
            Value::List(nodes) => return Some(nodes),
            Value::Invalid => return None,
            Value::Text(text) if text.is_empty() => ("is empty".to_owned(), "list at least one".to_owned()),
            Value::Text(_) | Value::Map(_) => {
                ("is not a list".to_owned(), "write a list: each element after a dash".to_owned())
            }
        };
        self.problem(given.at(), &given.path, what, fix);
        None
    }

    /// A list of texts.
    pub(super) fn texts<'n>(
        &mut self,
        given: &Given<'n>,
        least: usize,
        most: usize,
    ) -> Vec<(Given<'n>, &'n str)> {
        let nodes = self.list(given, least, most).unwrap_or_default();
        let each = nodes.iter().enumerate().filter_map(|(index, node)| {
            let given = Given { node, path: format!("{}[{index}]", given.path) };
            self.text(&given).map(|text| (given, text))
        });
        each.collect()
    }

    /// A map from names to values.
    pub(super) fn map<'n>(&mut self, given: &Given<'n>) -> Vec<(&'n Entry, Given<'n>)> {
        match &given.node.value {
            Value::Map(entries) => {
                let each = entries
                    .iter()
                    .map(|entry| (entry, Given { node: &entry.node, path: joined(&given.path, &entry.key) }));
                each.collect()
            }
            Value::Invalid => vec![],
            Value::Text(_) | Value::List(_) => {
                self.problem(given.at(), &given.path, "is not a map", "write names with their values");
                vec![]
            }
        }
    }

    /// What belongs to one token is no default.
    pub(super) fn not_in_defaults(&mut self, defaults: &Level<'_>) {
        for key in ["name", "outputs", "on_update"] {
            if let Some(given) = defaults.own(key) {
                self.problem(given.at(), &given.path, "is no default", "set it in each token");
            }
        }
    }
}

/// What to write in place of an unknown key.
fn unknown(section: Section, name: &str) -> String {
    if name == CLIENT_SECRET {
        return "write the secret to a file, and set client_secret_file to its path".to_owned();
    }
    // A key of a map inside this one was probably written one level too high.
    let mut places: Vec<_> = KEYS.iter().filter(|key| key.name == name).collect();
    let inside = places.iter().position(|key| section.is_around(key.section));
    if !places.is_empty() {
        let key = places.swap_remove(inside.unwrap_or_default());
        return format!("move it: it is a key of {}", key.section.title());
    }
    if let Some(key) = KEYS.iter().find(|key| key.variable() == name && !name.is_empty()) {
        return format!("use {}", key.name);
    }
    // The names of the environment form without their prefix: `endpoint`, `output_mode`.
    match nearest(name, section.keys().map(|key| key.name)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("remove it, or see docs/configuration.md for the keys of {}", section.title()),
    }
}

/// A text that may be a secret.
pub(super) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}
