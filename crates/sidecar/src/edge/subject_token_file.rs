//! From a file to a subject token, read again at every exchange, so that no rotation is ever missed.

use std::path::Path;
use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::token::{LARGEST_SUBJECT, SubjectToken};

use super::input_file::{self, Unreadable};

/// The kubelet swaps a folder below the path: a reader in between finds nothing for a moment (F60).
const SWAP: (u32, Duration) = (5, Duration::from_millis(20));
/// Some injectors write the file in pieces (F59).
const PIECES: (u32, Duration) = (3, Duration::from_millis(100));

/// Reads a subject token of this type.
///
/// # Errors
/// Why there is none; the detail names the path, never the content.
pub async fn read(path: &Path, kind: Option<&str>) -> Result<SubjectToken, Failure> {
    let (mut swaps, mut pieces) = (SWAP.0, PIECES.0);
    loop {
        let code = match input_file::read(path, LARGEST_SUBJECT) {
            Ok(content) => match SubjectToken::parse(content, kind) {
                Ok(token) => return Ok(token),
                Err(Code::SubjectTokenMalformed | Code::SubjectTokenEmpty) if pieces > 0 => {
                    pieces -= 1;
                    tokio::time::sleep(PIECES.1).await;
                    continue;
                }
                Err(code) => code,
            },
            Err(Unreadable::Missing) if swaps > 0 => {
                swaps -= 1;
                tokio::time::sleep(SWAP.1).await;
                continue;
            }
            Err(Unreadable::Missing) => Code::SubjectTokenMissing,
            Err(Unreadable::NotAFile) => Code::SubjectTokenNotAFile,
            Err(Unreadable::TooLarge) => Code::SubjectTokenTooLarge,
            Err(why @ (Unreadable::NotPermitted(_) | Unreadable::Failed(_))) => {
                return Err(Failure::new(Code::SubjectTokenUnreadable, format!("{}: {why}", path.display())));
            }
        };
        return Err(Failure::new(code, path.display().to_string()));
    }
}
