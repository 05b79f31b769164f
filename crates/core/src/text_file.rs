//! Decodes the content of a file to text.
//!
//! A byte order mark at the start is removed. UTF-16 is refused with a message of its own.

use std::fmt;

use zeroize::Zeroize as _;

use crate::secret::Secret;

/// Why a file's content is not text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotText {
    /// The content is UTF-16, which some tools on Windows write.
    Utf16,
    /// The content is binary or in another encoding.
    NotUtf8,
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16 => "it is UTF-16: save it as UTF-8",
            Self::NotUtf8 => "it is not UTF-8",
        })
    }
}

/// The text of a file. A byte order mark at the start and line breaks at the end, which editors
/// add, are removed.
///
/// # Errors
/// [`NotText::Utf16`] or [`NotText::NotUtf8`]. The content is wiped in both cases.
pub fn text(content: Vec<u8>) -> Result<Secret, NotText> {
    let utf16 = is_utf16(&content);
    let mut text = match String::from_utf8(content) {
        Ok(text) if !utf16 => text,
        Ok(mut text) => {
            text.zeroize();
            return Err(NotText::Utf16);
        }
        Err(error) => {
            error.into_bytes().zeroize();
            return Err(if utf16 { NotText::Utf16 } else { NotText::NotUtf8 });
        }
    };
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.starts_with('\u{feff}') {
        // In place, so that no copy of the secret stays in memory.
        text.remove(0);
    }
    Ok(Secret::new(text))
}

/// True if these bytes are UTF-16. They begin with a byte order mark, or each second byte is zero,
/// as in ASCII text. No value that is sent to Dex contains a zero byte.
#[must_use]
pub fn is_utf16(content: &[u8]) -> bool {
    let zeros_at = |first: usize| content.iter().skip(first).step_by(2).all(|byte| *byte == 0);
    content.starts_with(&[0xff, 0xfe])
        || content.starts_with(&[0xfe, 0xff])
        || content.len() >= 4 && content.len().is_multiple_of(2) && (zeros_at(0) || zeros_at(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text in UTF-16 of both byte orders, without and with a byte order mark.
    fn utf16(plain: &str) -> Vec<Vec<u8>> {
        let bytes = |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect();
        let marked = format!("\u{feff}{plain}");
        [plain, &marked]
            .iter()
            .flat_map(|text| [u16::to_le_bytes, u16::to_be_bytes].map(|order| bytes(text, order)))
            .collect()
    }

    #[test]
    fn f152_a_byte_order_mark_at_the_start_and_line_breaks_at_the_end_are_removed() {
        for (content, expected) in [
            ("value", "value"),
            ("\u{feff}value", "value"),
            ("\u{feff}value\r\n", "value"),
            ("value\n\n", "value"),
            ("\u{feff}", ""),
            ("\u{feff}\n", ""),
            ("", ""),
            // Only one byte order mark is removed, and only at the start.
            ("va\u{feff}lue", "va\u{feff}lue"),
            ("\u{feff}\u{feff}value", "\u{feff}value"),
            // Other white space may belong to the value.
            (" value \n", " value "),
            ("two\nlines\n", "two\nlines"),
        ] {
            assert_eq!(text(content.into()).unwrap().expose(), expected, "{content:?}");
        }
    }

    #[test]
    fn f152_utf_16_is_recognized() {
        for plain in ["value", "incus:s3cret\r\n", "ab"] {
            for content in utf16(plain) {
                assert_eq!(text(content.clone()).unwrap_err(), NotText::Utf16, "{content:?}");
            }
        }
        assert_eq!(text(utf16("zu\u{df}").swap_remove(2)).unwrap_err(), NotText::Utf16);
        assert!(NotText::Utf16.to_string().contains("UTF-16"));
    }

    #[test]
    fn f152_other_content_is_not_taken_for_utf_16() {
        assert_eq!(text(b"caf\xe9".to_vec()).unwrap_err(), NotText::NotUtf8);
        for content in [&b""[..], b"a", b"ab", b"a\0", b"a\0b", b"a\0bc", "\u{e9}t\u{e9}".as_bytes()] {
            assert!(text(content.to_vec()).is_ok(), "{content:?}");
        }
    }
}
