//! A bounded JSON value: text, number, or neither (F29).
//!
//! Nested values are skipped and not kept, whatever their size. A text is cut off shortly beyond
//! the length of the longest token.

use crate::limits::LARGEST_ISSUED_TOKEN;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// The value of a member of a JSON object. A text may be a token, so `Debug` does not show it.
#[derive(Default, PartialEq)]
pub(crate) enum Member {
    /// The member is missing or null.
    #[default]
    Absent,
    /// A string. A string that is too long for a token is cut off to four bytes more than the
    /// longest token, so that it is still too long.
    Text(Zeroizing<String>),
    Number(f64),
    /// A boolean, an array or an object.
    Other,
}

impl Member {
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Text(_) => f.write_str("Text(redacted)"),
            Self::Number(number) => write!(f, "Number({number})"),
            Self::Other => f.write_str("Other"),
        }
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Member, E> {
        Ok(Member::Number(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "lifetimes and dates are far below 2^53 seconds")]
    fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "lifetimes and dates are far below 2^53 seconds")]
    fn visit_i64<E>(self, number: i64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        let end = text.floor_char_boundary(LARGEST_ISSUED_TOKEN + 4);
        Ok(Member::Text(Zeroizing::new(text[..end].to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Member {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn texts_and_numbers_are_kept_and_nested_values_are_skipped() {
        assert_eq!(read("\"a\\u0062\"").as_text(), Some("ab"));
        assert_eq!(read("7"), Member::Number(7.0));
        assert_eq!(read("-7"), Member::Number(-7.0));
        assert_eq!(read("0.5"), Member::Number(0.5));
        assert!(read("null").is_absent() && Member::default().is_absent());
        for other in ["true", "[]", "[[0],{}]", "{}", r#"{"a":[{"b":null}]}"#] {
            assert_eq!(read(other), Member::Other, "{other}");
            assert!(!read(other).is_absent() && read(other).as_text().is_none());
        }
        assert!(serde_json::from_str::<Member>("[0").is_err());
    }

    #[test]
    fn debug_does_not_show_a_text() {
        let shown = ["\"eyJ\"", "7", "null", "[]"].map(|json| format!("{:?}", read(json)));
        assert_eq!(shown, ["Text(redacted)", "Number(7)", "Absent", "Other"]);
    }

    #[test]
    fn f029_a_text_is_cut_off_where_it_is_too_long_for_a_token() {
        for (length, kept) in [
            (LARGEST_ISSUED_TOKEN, LARGEST_ISSUED_TOKEN),
            (LARGEST_ISSUED_TOKEN * 4, LARGEST_ISSUED_TOKEN + 4),
        ] {
            let member = read(&format!("\"{}\"", "x".repeat(length)));
            assert_eq!(member.as_text().map(str::len), Some(kept));
        }
        // A character is never cut in two.
        let member = read(&format!("\"{}\"", "\u{1f511}".repeat(LARGEST_ISSUED_TOKEN)));
        assert_eq!(member.as_text().map(str::len), Some(LARGEST_ISSUED_TOKEN + 4));
    }
}
