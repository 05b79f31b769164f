//! What is written must have no other use: the one would destroy the other.

use std::path::{Path, PathBuf};

use super::DEFAULT_TERMINATION_LOG;
use super::parse::Parser;
use crate::exchange::{Client, Source};
use crate::output::Output;
use crate::settings::{self, ACCESS_TOKEN_FILE, BASIC_AUTH, FIELD_PREFIX, FILE_PREFIX};

impl Parser<'_> {
    /// Reports each file that is written and has another use.
    pub(super) fn files_written(
        &mut self,
        fields: &[(String, Source)],
        client: Option<&Client>,
        ca_file: Option<&Path>,
        output: Option<&Output>,
        termination_log: Option<&Path>,
    ) {
        let from_file = |name: &str, source: &Source| match source {
            Source::File(path) => Some((format!("{FILE_PREFIX}{name}"), path.clone())),
            Source::Text(_) | Source::GithubActions { .. } => None,
        };
        let mut used: Vec<(String, PathBuf)> =
            fields.iter().filter_map(|(name, source)| from_file(name, source)).collect();
        let client_file = client.and_then(Client::file);
        used.extend(client_file.map(|path| (format!("{FILE_PREFIX}{BASIC_AUTH}"), path.to_owned())));
        used.extend(ca_file.map(|path| (self.name(settings::CA_FILE), path.to_owned())));
        let same = same_file;
        let token_file = format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}");
        if let Some(output) = output {
            for (name, _) in used.iter().filter(|(_, path)| same(path, &output.path)) {
                self.problem(&token_file, format!("is the same file as {name}"), "use another file");
            }
            if termination_log.is_none() && same(&output.path, Path::new(DEFAULT_TERMINATION_LOG)) {
                self.problem(&token_file, "is the termination log", "use another file");
            }
            used.push((token_file, output.path.clone()));
        }
        if let Some(log) = termination_log {
            for (name, _) in used.iter().filter(|(_, path)| same(path, log)) {
                let what = format!("is the same file as {name}");
                self.invalid(settings::TERMINATION_LOG, what, "use another file");
            }
        }
    }
}

/// Whether two paths lead to one file, as far as their texts show.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}
