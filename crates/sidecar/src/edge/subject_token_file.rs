//! From a file to a subject token, read again at every exchange, so that no rotation is ever missed.

use std::path::Path;
use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::text_file::{NotText, is_utf16};
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::{LARGEST_SUBJECT, SubjectToken};

use super::input_file::{self, Unreadable};

/// The kubelet swaps a folder below the path: a reader in between finds nothing for a moment (F60).
const SWAP: (u32, Duration) = (5, Duration::from_millis(20));
/// Some injectors write the file in pieces (F59).
const PIECES: (u32, Duration) = (3, Duration::from_millis(100));
/// A file that was written this short a time ago may still grow: it is sent when it has stood still for a moment.
const YOUNG: Duration = Duration::from_secs(1);
const STILL: (u32, Duration) = (15, Duration::from_millis(20));

/// Reads a subject token of this type; `now` tells how old the file is.
///
/// # Errors
/// Why there is none; the detail names the path, never the content.
pub async fn read(path: &Path, kind: Option<&str>, now: UnixTime) -> Result<SubjectToken, Failure> {
    let (mut swaps, mut pieces, mut growing) = (SWAP.0, PIECES.0, STILL.0);
    loop {
        let file = input_file::fingerprint(path);
        let mut utf16 = false;
        let code = match input_file::read(path, LARGEST_SUBJECT).inspect(|content| utf16 = is_utf16(content))
        {
            Ok(content) => match SubjectToken::parse(content, kind) {
                Ok(token) => {
                    let young = input_file::written(path).is_some_and(|written| written + YOUNG >= now);
                    if young && growing > 0 {
                        growing -= 1;
                        tokio::time::sleep(STILL.1).await;
                        if input_file::fingerprint(path) != file {
                            continue;
                        }
                    }
                    return Ok(token);
                }
                Err(Code::SubjectTokenMalformed | Code::SubjectTokenEmpty) if pieces > 0 => {
                    pieces -= 1;
                    tokio::time::sleep(PIECES.1).await;
                    continue;
                }
                Err(code) => code,
            },
            Err(why) if swaps > 0 && why.is_passing() => {
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
    use crate::edge::clock::Clock;

    /// A token is whole by its shape long before its signature is.
    #[tokio::test(start_paused = true)]
    async fn f059_what_is_written_byte_by_byte_is_read_when_it_stands_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let whole = format!("eyJh.eyJi.{}", "s".repeat(20));
        let mut file = File::create(&path).unwrap();
        file.write_all(&whole.as_bytes()[..12]).unwrap();
        let writing = async {
            for byte in &whole.as_bytes()[12..] {
                tokio::time::sleep(Duration::from_millis(15)).await;
                file.write_all(&[*byte]).unwrap();
            }
        };
        let (token, ()) = tokio::join!(read(&path, Some(ID_TOKEN), Clock::System.now().unix), writing);
        assert_eq!(token.unwrap().0.expose(), whole);
        // One that has stood there for a while is not waited for.
        let start = tokio::time::Instant::now();
        read(&path, Some(ID_TOKEN), Clock::System.now().unix + Duration::from_secs(3)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn f152_a_byte_order_mark_is_cut_off_and_utf_16_is_a_failure_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let now = UnixTime::from_secs(u64::MAX);
        fs::write(&path, "\u{feff}a.b.c\r\n").unwrap();
        assert_eq!(read(&path, Some(ID_TOKEN), now).await.unwrap().0.expose(), "a.b.c");
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}a.b.c\r\n");
            for order in [u16::to_le_bytes, u16::to_be_bytes] {
                fs::write(&path, text.encode_utf16().flat_map(order).collect::<Vec<_>>()).unwrap();
                let failure = read(&path, Some(ID_TOKEN), now).await.unwrap_err();
                assert_eq!(failure.code, Code::SubjectTokenMalformed);
                let told = format!("{}: it is UTF-16: save it as UTF-8", path.display());
                assert_eq!(failure.detail, told);
            }
        }
        fs::write(&path, "a.b").unwrap();
        let failure = read(&path, Some(ID_TOKEN), now).await.unwrap_err();
        assert_eq!(failure.detail, path.display().to_string());
    }

    #[tokio::test(start_paused = true)]
    async fn f060_a_link_that_is_swapped_is_followed_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (path, content) = (folder.path().join("token"), folder.path().join("content"));
        fs::write(&content, "a.b.c").unwrap();
        let now = UnixTime::from_secs(u64::MAX);
        // Away for a moment; or, half of the swap done, a link to itself.
        for to in [None, Some("token")] {
            if let Some(to) = to {
                symlink(to, &path).unwrap();
            }
            let swapping = async {
                tokio::time::sleep(Duration::from_millis(90)).await;
                let _ = fs::remove_file(&path);
                symlink(&content, &path).unwrap();
            };
            let (token, ()) = tokio::join!(read(&path, Some(ID_TOKEN), now), swapping);
            assert_eq!(token.unwrap().0.expose(), "a.b.c");
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(read(&path, Some(ID_TOKEN), now).await.unwrap_err().code, Code::SubjectTokenMissing);
    }
}
