//! A string for secrets: it cannot be printed and is wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A secret: a token, a client's secret, a form body, or an `Authorization` header.
///
/// It implements neither `Display` nor `Serialize`, and `Debug` does not show the content. Only
/// [`Secret::expose`] gives access, so that a search for `expose` finds each place that uses a
/// secret.
///
/// ```
/// let secret = dexsidecar_core::secret::Secret::new("s3cret".to_owned());
/// println!("{secret:?}"); // Secret(redacted)
/// let text: &str = secret.expose();
/// # assert_eq!(text, "s3cret");
/// ```
///
/// ```compile_fail,E0277
/// let secret = dexsidecar_core::secret::Secret::new("s3cret".to_owned());
/// println!("{secret}"); // no Display
/// let text: &str = secret.expose();
/// ```
///
/// ```compile_fail,E0277
/// let secret = dexsidecar_core::secret::Secret::new("s3cret".to_owned());
/// println!("{secret:?}");
/// let text: String = secret.into(); // no conversion back
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of the string and makes no copy of it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The content. The caller must not write it to a log, an error or a metric.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if the content is the empty string.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if `text` contains twelve consecutive bytes of this secret, or the whole of a shorter
    /// one.
    ///
    /// Twelve bytes of base64 are 72 bits: no text repeats them by accident, and fewer do not help
    /// an attacker to guess the rest. The cost grows with the length of `text`, which is a few
    /// hundred bytes where a message quotes it; the secret may be long.
    #[must_use]
    pub fn appears_in(&self, text: &str) -> bool {
        const RUN: usize = 12;
        let (secret, text) = (self.0.as_bytes(), text.as_bytes());
        if secret.is_empty() {
            return false;
        }
        let run = secret.len().min(RUN);
        let mut runs: Vec<&[u8]> = text.windows(run).collect();
        runs.sort_unstable();
        secret.windows(run).any(|own| runs.binary_search(&own).is_ok())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_type_and_not_the_content() {
        assert_eq!(format!("{:?}", Secret::new("canary".to_owned())), "Secret(redacted)");
    }

    #[test]
    fn twelve_characters_of_a_secret_are_recognized() {
        let secret = Secret::new("abcdefghijklmnopqrstuvwxyz".to_owned());
        assert!(secret.appears_in("token starts with abcdefghijkl..."));
        assert!(!secret.appears_in("token starts with abcdefghijk"));
        assert!(Secret::new("abc".to_owned()).appears_in("xxabcxx"));
        assert!(!Secret::new(String::new()).appears_in("anything"));
        assert!(Secret::new(String::new()).is_empty() && !secret.is_empty());
    }
}
