//! Warnings about the values of form fields, which hold in both forms of the configuration.

use crate::exchange::{ACCESS_TOKEN, ID_TOKEN, KNOWN_TO_DEX, Source};
use crate::settings::{
    AUDIENCE_SCOPE, KNOWN_SCOPES, REQUESTED_TOKEN_TYPE, SCOPE, SUBJECT_TOKEN_TYPE, nearest,
};

/// Each field with a token type or a scope that Dex does not know, and what is odd about it.
pub(super) fn warnings(fields: &[(String, Source)]) -> Vec<(&'static str, String)> {
    let text = |name: &str| {
        fields.iter().find(|(field, _)| field == name).map_or("", |(_, source)| match source {
            Source::Text(text) => text.expose(),
            Source::File(_) | Source::GithubActions { .. } => "",
        })
    };
    let mut warnings = vec![];
    for field in [SUBJECT_TOKEN_TYPE, REQUESTED_TOKEN_TYPE] {
        let kind = text(field);
        if !kind.is_empty() && !KNOWN_TO_DEX.contains(&kind) {
            let what = format!("is a token type that Dex does not support: use {ID_TOKEN} or {ACCESS_TOKEN}");
            warnings.push((field, what));
        }
    }
    for scope in text(SCOPE).split_ascii_whitespace() {
        if KNOWN_SCOPES.contains(&scope) || scope.starts_with(AUDIENCE_SCOPE) {
            continue;
        }
        let what = match nearest(scope, KNOWN_SCOPES.iter().copied()) {
            Some(near) => format!("has the scope {scope}, which Dex ignores: did you mean {near}?"),
            None => "has an unknown scope, which Dex ignores".to_owned(),
        };
        warnings.push((SCOPE, what));
    }
    warnings
}
