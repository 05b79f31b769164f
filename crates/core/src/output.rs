//! Where an issued token is written, how, and in which format.

use std::path::PathBuf;

use crate::secret::Secret;

/// How the token file is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WriteMode {
    /// Atomically replaced; overwritten only if it is a mount point, or if the volume cannot rename
    /// files.
    #[default]
    Auto,
    /// Atomically replaced, or not written.
    Atomic,
    /// Overwritten in place.
    InPlace,
}

/// The format of a token file. The content of the file is compared and judged as the token that it
/// holds, so each format can be read back: `read(render(token))` is `token`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// The token itself, without a newline.
    #[default]
    Raw,
}

impl Format {
    /// The content of a file that holds this token.
    #[must_use]
    pub fn render(self, token: &Secret) -> Secret {
        match self {
            Self::Raw => token.clone(),
        }
    }

    /// The token that this content holds. `None` if the content does not have this format. Whether
    /// the token is valid is not judged here.
    #[must_use]
    pub fn read(self, content: Secret) -> Option<Secret> {
        match self {
            Self::Raw => Some(content),
        }
    }
}

/// Where the issued token is written, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// The file.
    pub path: PathBuf,
    /// Whether its missing directories are created.
    pub create_directories: bool,
    /// The format of its content.
    pub format: Format,
    /// Its permissions; without them 0644, or 0640 in a setgid directory, as the kubelet has it.
    pub mode: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// How the file is written.
    pub write_mode: WriteMode,
    /// Whether the file is removed after its token has expired.
    pub remove_expired: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every format. The match makes a new one an error here.
    fn formats() -> impl Strategy<Value = Format> {
        match Format::default() {
            Format::Raw => Just(Format::Raw),
        }
    }

    #[test]
    fn raw_is_the_token_without_a_newline() {
        let token = Secret::new("eyJh.eyJi.c2ln".to_owned());
        assert_eq!(Format::Raw.render(&token), token);
    }

    proptest! {
        /// A bearer token of RFC 6750 is ASCII without blanks.
        #[test]
        fn a_token_is_read_back_from_each_format(format in formats(), token in "[!-~]{1,2000}") {
            let token = Secret::new(token);
            prop_assert_eq!(format.read(format.render(&token)), Some(token));
        }
    }
}
