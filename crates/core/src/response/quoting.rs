//! What may be quoted of an answer: a bounded part of it, in printable ASCII, and no secret.

use percent_encoding::percent_decode_str;

use super::RequestContext;
use crate::failure::plain;

const LONGEST_WORD: usize = 64;

/// A word of an answer, up to 64 characters of it.
pub(super) fn quoted(word: &str, context: RequestContext<'_>) -> String {
    quoted_to(word, LONGEST_WORD, context).unwrap_or_else(|| "(left out: it repeats a secret)".to_owned())
}

/// A text of an answer, up to `longest` characters of it. Nothing when that shows a secret.
pub(super) fn quoted_to(text: &str, longest: usize, context: RequestContext<'_>) -> Option<String> {
    (!shows_a_secret(text, longest, context)).then(|| plain(text, longest))
}

/// In as much of the text as is quoted, as it is or as it was before somebody encoded it for a form or a URL; and a little
/// further, so that the beginning of a secret is not quoted either.
fn shows_a_secret(text: &str, quoted: usize, context: RequestContext<'_>) -> bool {
    const FURTHER: usize = 36;
    let text = text.char_indices().nth(quoted + FURTHER).map_or(text, |(end, _)| &text[..end]);
    let in_url = percent_decode_str(text).decode_utf8_lossy();
    let spaced = text.replace('+', " ");
    let in_form = percent_decode_str(&spaced).decode_utf8_lossy();
    let texts = [text, &in_url, &in_form];
    context.secrets.iter().any(|secret| texts.iter().any(|text| secret.appears_in(text)))
}
