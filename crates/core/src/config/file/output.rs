//! One output of a token.

use std::path::{Component, Path, PathBuf};

use super::level::Level;
use super::{Outputs, Reader};
use crate::config::value::{self, Wrong, wrong};
use crate::failure::is_unprintable;
use crate::limits::MAX_OUTPUTS;
use crate::output::{Format, Output};
use crate::settings::keys::Section;

impl Reader {
    /// The outputs of a token. At least one, where a command writes it.
    pub(super) fn outputs(&mut self, token: &Level<'_>) -> Vec<Output> {
        let Some(given) = token.own("outputs") else {
            if self.outputs == Outputs::Required {
                self.required(
                    token,
                    "outputs",
                    "list at least one output, with a path; only token and check need none",
                );
            }
            return vec![];
        };
        let nodes = self.list(&given, 1, MAX_OUTPUTS).unwrap_or_default();
        let mut outputs = vec![];
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{}[{index}]", given.path);
            let level = self.level(node, Section::Output, path);
            outputs.extend(level.and_then(|level| self.output(&level)));
        }
        outputs
    }

    fn output(&mut self, level: &Level<'_>) -> Option<Output> {
        let format = self.format(level);
        let mode = self.read(level, "mode", value::mode);
        let group = self.read(level, "group", value::group);
        let write_mode = self.read(level, "write_mode", |text| value::word(text, value::WRITE_MODES));
        let write_mode = write_mode.unwrap_or_default();
        let remove_expired = self.read(level, "on_expiry", |text| value::word(text, value::ON_EXPIRY));
        let create_directories = self.read(level, "create_directories", value::switch);
        if let Some(given) = level.own("mode")
            && let Err(why) = value::mode_for(mode, write_mode, "write_mode")
        {
            self.wrong(&given, why);
        }
        let path = self.output_path(level)?;
        Some(Output {
            path,
            create_directories: create_directories.unwrap_or_default(),
            format: format?,
            mode,
            group,
            write_mode,
            remove_expired: remove_expired.unwrap_or_default(),
        })
    }
}

impl Reader {
    pub(super) fn output_path(&mut self, level: &Level<'_>) -> Option<PathBuf> {
        self.required(level, "path", "set it to the path of the token file");
        let given = level.own("path")?;
        let path = PathBuf::from(self.text(&given)?);
        let checked = value::output_path(&path).and_then(|()| without_parent(&path));
        if let Err(why) = checked {
            self.wrong(&given, why);
            return None;
        }
        self.paths.output(&path, given.path.clone(), Some(given.at()));
        Some(path)
    }
}

/// Refuses a path with `..`: where it leads depends on directories that may not exist yet.
fn without_parent(path: &Path) -> Result<(), Wrong> {
    if path.components().any(|part| part == Component::ParentDir) {
        return wrong("contains ..", "write the path without it");
    }
    Ok(())
}

/// The formats without a prefix.
const FORMATS: [Format; 3] = [Format::Json, Format::Incus, Format::ExecCredential];

impl Reader {
    pub(super) fn format(&mut self, level: &Level<'_>) -> Option<Format> {
        let words = [("raw", 0), ("json", 1), ("incus", 2), ("exec_credential", 3)];
        let number = match level.own("format") {
            Some(given) => self.read_given(&given, |text| value::word(text, &words))?,
            None => 0,
        };
        let given = level.own("prefix");
        let Some(index) = usize::checked_sub(number, 1) else {
            let prefix = given.and_then(|given| {
                let text = self.any_text(&given)?;
                prefix(text).map_err(|why| self.wrong(&given, why)).ok()
            });
            return Some(Format::Raw { prefix: prefix.unwrap_or_default() });
        };
        let format = FORMATS[index].clone();
        if let Some(given) = given {
            let what = format!("has no effect: the format is {}", format.name());
            self.problem(given.at(), &given.path, what, "remove it, or use the format raw");
        }
        Some(format)
    }
}

/// The text before a raw token, on the same line.
fn prefix(text: &str) -> Result<String, Wrong> {
    if text.len() > LONGEST_PREFIX || text.contains(is_unprintable) {
        return wrong(
            "is not one short line",
            format!("use at most {LONGEST_PREFIX} printable characters, such as \"Authorization: Bearer \""),
        );
    }
    Ok(text.to_owned())
}

/// The longest prefix, in bytes.
const LONGEST_PREFIX: usize = 256;
