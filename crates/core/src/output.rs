//! Where an issued token is written, how, and in which format.

mod format;
mod stored_token;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;

pub use format::Format;
pub use stored_token::StoredToken;

/// How the names of temporary files begin, which are written beside the token file and renamed.
/// Those that a killed process left are removed.
pub const TEMPORARY_PREFIX: &str = ".dexsidecar-";

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
