//! The outputs of a file for the commands that judge them. A file with mistakes changes nothing of
//! a running process, so those commands do not fail on it as long as it names an output.

use super::level::{Given, Level};
use super::token::dns_label;
use super::{ConfigFile, Outputs, Reader};
use crate::config::yaml::{Node, Value};
use crate::config::{DEFAULT_NAME, ProbedFile, Problem};
use crate::settings::keys::Section;

/// The names of the tokens that can be read, each with its outputs that can be read, and the
/// problems with the others. All other keys are ignored.
pub(in crate::config) fn outputs(file: ConfigFile<'_>) -> (Vec<(String, Vec<ProbedFile>)>, Vec<Problem>) {
    let mut reader = Reader::new(file, Outputs::Optional);
    let root = reader.tree(file.content);
    let tokens = root.and_then(|root| reader.probed_tokens(&root)).unwrap_or_default();
    (tokens, reader.problems())
}

impl Reader {
    fn probed_tokens(&mut self, root: &Node) -> Option<Vec<(String, Vec<ProbedFile>)>> {
        let document = self.map_of(root, Section::Document, String::new())?;
        self.required(&document, "tokens", "list at least one token");
        let given = document.own("tokens")?;
        let nodes = self.list(&given, 1, usize::MAX)?;
        let mut tokens = vec![];
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{}[{index}]", given.path);
            let Some(level) = self.map_of(node, Section::Token, path) else { continue };
            let name = match level.own("name") {
                Some(given) => self.read_given(&given, dns_label),
                None => (nodes.len() == 1).then(|| DEFAULT_NAME.to_owned()),
            };
            let name = name.unwrap_or_else(|| level.path.clone());
            let files = level.own("outputs").map(|given| self.probed_files(&given, &name));
            tokens.push((name, files.unwrap_or_default()));
        }
        Some(tokens)
    }

    fn probed_files(&mut self, given: &Given<'_>, token: &str) -> Vec<ProbedFile> {
        let nodes = self.list(given, 1, usize::MAX).unwrap_or_default();
        let mut files = vec![];
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{}[{index}]", given.path);
            let level = self.map_of(node, Section::Output, path);
            files.extend(level.and_then(|level| {
                let format = self.format(&level);
                let path = self.output_path(&level)?;
                Some(ProbedFile { token: Some(token.to_owned()), path, format: Some(format?) })
            }));
        }
        files
    }

    /// A map whose unknown keys are ignored.
    fn map_of<'n>(&mut self, node: &'n Node, section: Section, path: String) -> Option<Level<'n>> {
        match &node.value {
            Value::Map(entries) => Some(Level { section, entries, at: node.at, path, defaults: None }),
            _ => self.level(node, section, path),
        }
    }
}
