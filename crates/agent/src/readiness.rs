//! Judges token files by what is on disk: for `ready` and `wait`, for `check`, and for probes over
//! HTTP.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use dexsidecar_core::output::{Format, StoredToken};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::token_file::TokenFileState;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::input_file::{self, Unreadable};

/// Whether readers can use a token file. The `Display` text follows the path: "/run/dex/token:
/// expired 5m ago".
#[derive(Debug)]
pub enum Readiness {
    /// The file was read, and is in this state.
    Judged(TokenFileState),
    /// The file cannot be read.
    Unreadable(Unreadable),
}

impl Readiness {
    /// Judges the file that is at this path now. A symbolic link is followed, as readers do.
    /// Without a format, any counts. `min_ttl` is the remaining validity that is required. Blocks.
    #[must_use]
    pub fn of(path: &Path, format: Option<&Format>, min_ttl: Duration, clock: &Clock) -> Self {
        match input_file::read(path, largest(format)) {
            Err(why) => Self::Unreadable(why),
            Ok(content) => Self::Judged(match String::from_utf8(content).map(Secret::new) {
                Ok(content) => {
                    let format = format.cloned().unwrap_or_else(|| Format::found_in(&content));
                    of_content(path, &content, &format, min_ttl, clock)
                }
                Err(_) => TokenFileState::Malformed,
            }),
        }
    }

    /// True if readers can use the token.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Judged(state) if state.is_valid())
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Judged(state) => state.fmt(f),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

/// The token in the file that is at this path now. `None` if the file cannot be read, or does not
/// have this format; without one, any counts. A symbolic link is followed. Blocks.
#[must_use]
pub fn read(path: &Path, format: Option<&Format>) -> Option<StoredToken> {
    let content = input_file::read(path, largest(format)).ok()?;
    let content = Secret::new(String::from_utf8(content).ok()?);
    format.map_or_else(|| Format::found_in(&content).read(&content), |format| format.read(&content))
}

/// The largest content that is read, in bytes.
fn largest(format: Option<&Format>) -> usize {
    format.unwrap_or(&Format::Json).largest()
}

/// The state of a file with this content in this format now.
#[must_use]
pub fn of_content(
    path: &Path,
    content: &Secret,
    format: &Format,
    min_ttl: Duration,
    clock: &Clock,
) -> TokenFileState {
    TokenFileState::of_content(content, format, input_file::modified_at(path), min_ttl, clock.now())
}

/// The state of a file that holds this token now.
#[must_use]
pub fn of_token(path: &Path, stored: &StoredToken, min_ttl: Duration, clock: &Clock) -> TokenFileState {
    TokenFileState::of_file(stored, input_file::modified_at(path), min_ttl, clock.now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_judged_in_the_format_of_its_output() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let of = |content: &[u8], format: &Format| {
            std::fs::write(&path, content).unwrap();
            let readiness = Readiness::of(&path, Some(format), Duration::ZERO, &Clock::System);
            (readiness.is_ready(), readiness.to_string())
        };
        let (raw, header) = (Format::default(), Format::Raw { prefix: "Authorization: Bearer ".to_owned() });
        let exec = br#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"opaque"}}"#;
        for (content, format, is_ready, text) in [
            (&b"opaque"[..], &raw, true, "valid, expiry unknown"),
            (b"Authorization: Bearer opaque", &header, true, "valid, expiry unknown"),
            (b"opaque", &header, false, "not in the format raw"),
            (b"{\"access_token\":\"opaque\"}", &Format::Incus, true, "valid, expiry unknown"),
            (b"{\"access_token\":\"opaque\"}", &Format::Json, false, "not in the format json"),
            (b"{\"access_token\":\"opaque\"}", &raw, false, "not a token"),
            (
                b"{\"access_token\":\"opaque\",\"issued_token_type\":\"t\",\"expires_at\":1000}",
                &Format::Json,
                false,
                "expired",
            ),
            (exec, &Format::ExecCredential, true, "valid, expiry unknown"),
            (b"\xff", &Format::Json, false, "not a token"),
            (b"", &Format::Json, false, "empty"),
            (&[b'a'; 300_000], &raw, false, "cannot be read: too large"),
        ] {
            let (ready, found) = of(content, format);
            assert!(ready == is_ready && found.starts_with(text), "{format:?}: {found}");
        }
        let jwt = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.sig";
        for (content, is_ready, text) in [
            (jwt.to_owned(), true, "valid, expires in"),
            (format!("Authorization: Bearer {jwt}"), true, "valid, expires in"),
            (format!("{{\"access_token\":\"{jwt}\"}}"), true, "valid, expires in"),
            ("{\"access_token\":\"opaque\",\"expires_at\":1000}".to_owned(), false, "expired"),
            (String::from_utf8(exec.to_vec()).unwrap(), true, "valid, expiry unknown"),
            ("opaque".to_owned(), true, "valid, expiry unknown"),
            ("two words".to_owned(), false, "not a token"),
            (format!("{jwt} "), false, "not a token"),
            ("{}".to_owned(), false, "not a token"),
            (String::new(), false, "empty"),
        ] {
            std::fs::write(&path, &content).unwrap();
            let readiness = Readiness::of(&path, None, Duration::ZERO, &Clock::System);
            let found = readiness.to_string();
            assert!(readiness.is_ready() == is_ready && found.starts_with(text), "{content}: {found}");
            let is_read = read(&path, None).is_some();
            assert!(is_read || !is_ready, "{content}");
        }
        let missing = Readiness::of(&directory.path().join("no"), Some(&raw), Duration::ZERO, &Clock::System);
        assert_eq!(
            (missing.is_ready(), missing.to_string().as_str()),
            (false, "cannot be read: no such file")
        );
    }
}
