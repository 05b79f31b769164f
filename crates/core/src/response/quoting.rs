//! Quotes a part of a response: bounded, in printable ASCII, and without secrets.

use percent_encoding::percent_decode_str;

use super::RequestContext;
use crate::failure::plain;
use crate::limits::LONGEST_QUOTED_WORD;

/// At most [`LONGEST_QUOTED_WORD`] characters of a word of a response, or a note that it repeats a
/// secret.
pub(super) fn quoted(word: &str, context: RequestContext<'_>) -> String {
    quoted_to(word, LONGEST_QUOTED_WORD, context)
        .unwrap_or_else(|| "(left out: it repeats a secret)".to_owned())
}

/// At most `longest` characters of a text of a response. `None` if they contain a part of a secret.
pub(super) fn quoted_to(text: &str, longest: usize, context: RequestContext<'_>) -> Option<String> {
    (!contains_secret(text, longest, context)).then(|| plain(text, longest))
}

/// True if the first `quoted` characters contain a part of a secret: unchanged, or encoded for a
/// URL or a form. Some characters more are searched, so that the beginning of a secret is not
/// quoted either.
fn contains_secret(text: &str, quoted: usize, context: RequestContext<'_>) -> bool {
    // `Secret::appears_in` needs twelve characters, which are up to 36 in percent-encoding.
    const LOOKAHEAD: usize = 36;
    let text = text.char_indices().nth(quoted + LOOKAHEAD).map_or(text, |(end, _)| &text[..end]);
    let in_url = percent_decode_str(text).decode_utf8_lossy();
    let spaced = text.replace('+', " ");
    let in_form = percent_decode_str(&spaced).decode_utf8_lossy();
    let texts = [text, &in_url, &in_form];
    context.secrets.iter().any(|secret| texts.iter().any(|text| secret.appears_in(text)))
}
