//! Reads the subject token from its file. The file is read at every exchange, so that no rotation
//! is missed.

use std::path::Path;
use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::limits::LARGEST_SUBJECT_TOKEN;
use dexsidecar_core::text_file::{NotText, is_utf16};
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::SubjectToken;

use super::input_file::{self, Unreadable};

/// The kubelet replaces a directory in the path: for a moment the file does not exist (F60). Number
/// of retries, and the delay before each.
const MISSING_RETRIES: (u32, Duration) = (5, Duration::from_millis(20));
/// Some injectors write the file in pieces, so that it is partial for a moment (F59). Number of
/// retries, and the delay before each.
const PARTIAL_RETRIES: (u32, Duration) = (3, Duration::from_millis(100));
/// A file modified less than this ago may still be growing.
const RECENTLY_MODIFIED: Duration = Duration::from_secs(1);
/// A recently modified file is used when it did not change for this delay (F59). Number of checks,
/// and the delay before each.
const GROWTH_CHECKS: (u32, Duration) = (15, Duration::from_millis(20));

/// Reads a subject token of this type. `now` is the wall clock, against which the age of the file
/// is measured.
///
/// # Errors
/// A code that begins with `SubjectToken`. The detail names the path, never the content.
pub async fn read(path: &Path, kind: Option<&str>, now: UnixTime) -> Result<SubjectToken, Failure> {
    let (mut missing, mut partial, mut growth) = (MISSING_RETRIES.0, PARTIAL_RETRIES.0, GROWTH_CHECKS.0);
    loop {
        let file = input_file::fingerprint(path);
        let mut utf16 = false;
        let code = match input_file::read(path, LARGEST_SUBJECT_TOKEN)
            .inspect(|content| utf16 = is_utf16(content))
        {
            Ok(content) => match SubjectToken::parse(content, kind) {
                Ok(token) => {
                    let is_recent = input_file::modified_at(path)
                        .is_some_and(|modified| modified + RECENTLY_MODIFIED >= now);
                    if is_recent && growth > 0 {
                        growth -= 1;
                        tokio::time::sleep(GROWTH_CHECKS.1).await;
                        if input_file::fingerprint(path) != file {
                            continue;
                        }
                    }
                    return Ok(token);
                }
                Err(Code::SubjectTokenMalformed | Code::SubjectTokenEmpty) if partial > 0 => {
                    partial -= 1;
                    tokio::time::sleep(PARTIAL_RETRIES.1).await;
                    continue;
                }
                Err(code) => code,
            },
            Err(why) if missing > 0 && why.is_transient() => {
                missing -= 1;
                tokio::time::sleep(MISSING_RETRIES.1).await;
                continue;
            }
            Err(Unreadable::Missing) => Code::SubjectTokenMissing,
            Err(Unreadable::NotAFile) => Code::SubjectTokenNotAFile,
            Err(Unreadable::TooLarge) => Code::SubjectTokenTooLarge,
            Err(why @ (Unreadable::NotPermitted(_) | Unreadable::Failed(_))) => {
                return Err(Failure::new(Code::SubjectTokenUnreadable, format!("{}: {why}", path.display())));
            }
        };
        let path = path.display();
        return Err(Failure::new(
            code,
            if utf16 { format!("{path}: {}", NotText::Utf16) } else { path.to_string() },
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use dexsidecar_core::exchange::ID_TOKEN;

    use super::*;
    use crate::clock::Clock;

    /// A partial token has the shape of a complete one as soon as its signature begins.
    #[tokio::test(start_paused = true)]
    async fn f059_a_token_written_byte_by_byte_is_read_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let complete = format!("eyJh.eyJi.{}", "s".repeat(20));
        let mut file = File::create(&path).unwrap();
        file.write_all(&complete.as_bytes()[..12]).unwrap();
        let writing = async {
            for byte in &complete.as_bytes()[12..] {
                tokio::time::sleep(Duration::from_millis(15)).await;
                file.write_all(&[*byte]).unwrap();
            }
        };
        let (token, ()) = tokio::join!(read(&path, Some(ID_TOKEN), Clock::System.now().unix), writing);
        assert_eq!(token.unwrap().0.expose(), complete);
        // A file that was modified 3 s ago is read without delay.
        let start = tokio::time::Instant::now();
        read(&path, Some(ID_TOKEN), Clock::System.now().unix + Duration::from_secs(3)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn f152_a_byte_order_mark_is_removed_and_utf_16_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let now = UnixTime::from_secs(u64::MAX);
        fs::write(&path, "\u{feff}a.b.c\r\n").unwrap();
        assert_eq!(read(&path, Some(ID_TOKEN), now).await.unwrap().0.expose(), "a.b.c");
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}a.b.c\r\n");
            for order in [u16::to_le_bytes, u16::to_be_bytes] {
                fs::write(&path, text.encode_utf16().flat_map(order).collect::<Vec<_>>()).unwrap();
                let failure = read(&path, Some(ID_TOKEN), now).await.unwrap_err();
                assert_eq!(failure.code, Code::SubjectTokenMalformed);
                let detail = format!("{}: it is UTF-16: save it as UTF-8", path.display());
                assert_eq!(failure.detail, detail);
            }
        }
        fs::write(&path, "a.b").unwrap();
        let failure = read(&path, Some(ID_TOKEN), now).await.unwrap_err();
        assert_eq!(failure.detail, path.display().to_string());
    }

    #[tokio::test(start_paused = true)]
    async fn f060_a_token_behind_a_symlink_that_is_replaced_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (path, content) = (directory.path().join("token"), directory.path().join("content"));
        fs::write(&content, "a.b.c").unwrap();
        let now = UnixTime::from_secs(u64::MAX);
        // The file is missing for a moment, or a symbolic link points to itself for a moment.
        for to in [None, Some("token")] {
            if let Some(to) = to {
                symlink(to, &path).unwrap();
            }
            let replacing = async {
                tokio::time::sleep(Duration::from_millis(90)).await;
                let _ = fs::remove_file(&path);
                symlink(&content, &path).unwrap();
            };
            let (token, ()) = tokio::join!(read(&path, Some(ID_TOKEN), now), replacing);
            assert_eq!(token.unwrap().0.expose(), "a.b.c");
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(read(&path, Some(ID_TOKEN), now).await.unwrap_err().code, Code::SubjectTokenMissing);
    }
}
