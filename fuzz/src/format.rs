//! The content of a token file, in each format.

use std::time::Duration;

use dexsidecar_core::output::{Format, StoredToken};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{BootTime, Now, UnixTime};
use dexsidecar_core::token::is_bearer_token;
use dexsidecar_core::token_file::TokenFileState;

/// The content of a token file. Reading it never panics. What is read from it can be written and
/// read again, and a file that counts as valid holds a token that a header may carry.
pub fn format(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let content = Secret::new(text.to_owned());
    // A prefix that the content may have.
    let prefix = text.rfind(' ').map_or("", |end| &text[..=end]).to_owned();
    let formats =
        [Format::default(), Format::Raw { prefix }, Format::Json, Format::Incus, Format::ExecCredential];
    for format in &formats {
        let _ = format.read_at_startup(&content);
        let found = format.read(&content);
        assert!(found.is_none() || text.len() <= format.largest());
        let now = Now { boot: BootTime::default(), unix: UnixTime::from_secs(1_800_000_000) };
        let state = TokenFileState::of_content(&content, format, None, Duration::ZERO, now);
        let Some(found) = found else {
            assert!(!state.is_valid(), "{format:?}: {state:?}");
            continue;
        };
        if state.is_valid() {
            assert!(is_bearer_token(found.token.expose()), "{format:?}");
        }
        read_again(format, &found);
    }
    if let Some(found) = Format::read_any(&content) {
        formats.iter().for_each(|format| read_again(format, &found));
    }
}

/// A token that is written in this format is read again, with what the format states about it.
fn read_again(format: &Format, found: &StoredToken) {
    let again = format.read(&format.render(found)).expect("what was rendered can be read");
    assert_eq!(again.token, found.token, "{format:?}");
    let whole = |time: &UnixTime| time.as_duration().as_secs();
    let (expires, stated) = (found.expires.as_ref().map(whole), again.expires.as_ref().map(whole));
    match format {
        // The file states nothing, but the token may.
        Format::Raw { .. } => assert!(stated.is_none() || stated == expires),
        Format::Json => {
            assert_eq!(stated, expires);
            assert_eq!(again.scope, found.scope);
            assert!(again.issued_token_type.is_some());
        }
        Format::Incus | Format::ExecCredential => assert_eq!(stated, expires, "{format:?}"),
    }
}
