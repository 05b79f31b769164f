//! A string that cannot be printed and is wiped when dropped. It refuses to know what it holds.

use std::fmt;

use zeroize::Zeroizing;

/// A secret: a token, a client's secret, a form body, an `Authorization` header.
///
/// There is no `Display`, no `Serialize`, and `Debug` says nothing of the content; [`Secret::expose`] is the
/// only way in, so that a search for it lists every place that touches a secret.
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
    /// Takes the string over; no copy of it is made.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The content. Whoever calls this must not let it reach a log, an error or a metric.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `text` holds this secret, or a telling part of it: any run of twelve characters of it, or all
    /// of a shorter one. The text is to be short, as what is quoted is; the secret may be as long as any.
    #[must_use]
    pub fn appears_in(&self, text: &str) -> bool {
        const TELLING: usize = 12;
        let (secret, text) = (self.0.as_bytes(), text.as_bytes());
        if secret.is_empty() {
            return false;
        }
        let run = secret.len().min(TELLING);
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
    fn debug_tells_the_type_and_nothing_else() {
        assert_eq!(format!("{:?}", Secret::new("canary".to_owned())), "Secret(redacted)");
    }

    #[test]
    fn a_part_of_a_secret_is_recognised() {
        let secret = Secret::new("abcdefghijklmnopqrstuvwxyz".to_owned());
        assert!(secret.appears_in("token starts with abcdefghijkl..."));
        assert!(!secret.appears_in("token starts with abcdefghijk"));
        assert!(Secret::new("abc".to_owned()).appears_in("xxabcxx"));
        assert!(!Secret::new(String::new()).appears_in("anything"));
        assert!(Secret::new(String::new()).is_empty() && !secret.is_empty());
    }
}
