//! How the settings of a token were given, so that messages name them as the user knows them.

use std::borrow::Cow;

use super::keys::KEYS;
use super::{FIELD_PREFIX, FILE_PREFIX};

/// How the settings of a token were given.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// By variables and options: `dex_endpoint`.
    #[default]
    Environment,
    /// By keys of the configuration file: `token_endpoint`.
    File,
}

impl Dialect {
    /// A text of the tables, whose names are those of variables and options, with the names of
    /// this dialect.
    #[must_use]
    pub fn render(self, text: &str) -> Cow<'_, str> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self == Self::Environment {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            match key_for(word) {
                Some(key) => {
                    // "--ca-file (DEXSIDECAR_CA_FILE)" is one name.
                    let doubled = format!("{key} (");
                    if out.ends_with(&doubled) && after.starts_with(')') {
                        out.truncate(out.len() - 2);
                        rest = &after[1..];
                        continue;
                    }
                    out.push_str(key);
                }
                None => out.push_str(word),
            }
            let separator = after.find(is_name).unwrap_or(after.len());
            out.push_str(&after[..separator]);
            rest = &after[separator..];
        }
        Cow::Owned(out)
    }

    /// The name of the setting of a form field whose value is read from a file.
    #[must_use]
    pub fn file_field(self, name: &str) -> String {
        let variable = format!("{FILE_PREFIX}{name}");
        match self {
            Self::Environment => variable,
            Self::File => key_for(&variable).map_or_else(|| format!("form_files.{name}"), str::to_owned),
        }
    }

    /// The name of the setting of a form field.
    #[must_use]
    pub fn field(self, name: &str) -> String {
        let variable = format!("{FIELD_PREFIX}{name}");
        match self {
            Self::Environment => variable,
            Self::File => key_for(&variable).map_or_else(|| format!("form.{name}"), str::to_owned),
        }
    }
}

/// The key of a variable or of an option with its dashes.
fn key_for(word: &str) -> Option<&'static str> {
    if word == "dex_basic_auth" {
        return Some("client_id and client_secret_file");
    }
    let is_same = |key: &&super::keys::Key| {
        key.variable() == word
            || key.option().is_some_and(|option| word.strip_prefix("--").is_some_and(|word| word == option))
    };
    // A variable of a token's output has its key there: `path`.
    KEYS.iter().rev().find(|key| !word.is_empty() && is_same(key)).map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    #[test]
    fn the_names_of_variables_and_options_become_keys() {
        for (text, rendered) in [
            ("set dex_endpoint to a URL", "set token_endpoint to a URL"),
            ("mount it where --ca-file (DEXSIDECAR_CA_FILE) points", "mount it where ca_file points"),
            ("set DEXSIDECAR_WRITE_MODE (--write-mode) to auto", "set write_mode to auto"),
            ("correct dex_access_token_file", "correct path"),
            ("set dex_file_subject_token (x)", "set subject_token_file (x)"),
            ("set dex_basic_auth", "set client_id and client_secret_file"),
            ("Dex and NO_PROXY stay, --json too", "Dex and NO_PROXY stay, --json too"),
            ("", ""),
        ] {
            assert_eq!(Dialect::File.render(text), rendered);
            assert_eq!(Dialect::Environment.render(text), text);
        }
    }

    #[test]
    fn no_fix_names_a_variable_in_the_dialect_of_the_file_and_no_summary_in_any() {
        for code in Code::ALL {
            let entry = code.entry();
            let fix = Dialect::File.render(entry.fix);
            // A summary is not rendered: it names no setting in any dialect.
            for text in [&*fix, entry.summary] {
                let is_free = ["dex_", "DEXSIDECAR_", "--"].iter().all(|part| !text.contains(part));
                assert!(is_free, "{code}: {text}");
            }
        }
    }

    #[test]
    fn a_form_field_has_the_name_of_its_key_or_of_its_place() {
        assert_eq!(Dialect::Environment.file_field("scope"), "dex_file_scope");
        assert_eq!(Dialect::File.file_field("subject_token"), "subject_token_file");
        assert_eq!(Dialect::File.file_field("x"), "form_files.x");
        assert_eq!(Dialect::File.file_field("client_secret"), "client_secret_file");
        assert_eq!(Dialect::File.field("scope"), "scope");
        assert_eq!(Dialect::File.field("x"), "form.x");
    }
}
