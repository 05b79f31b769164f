//! Warnings about the values of form fields, which hold in both forms of the configuration.

use crate::exchange::{ACCESS_TOKEN, ID_TOKEN, KNOWN_TO_DEX, Source};
use crate::settings::{
    AUDIENCE_SCOPE, KNOWN_SCOPES, REQUESTED_TOKEN_TYPE, SCOPE, SUBJECT_TOKEN_TYPE, nearest,
};

/// A sentence for each token type and each scope that Dex does not know. `name` gives the name of
/// the setting of a field.
pub(super) fn warnings(fields: &[(String, Source)], name: &dyn Fn(&str) -> String) -> Vec<String> {
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
            warnings.push(format!(
                "{} is a token type that Dex does not support: use {ID_TOKEN} or {ACCESS_TOKEN}",
                name(field)
            ));
        }
    }
    for scope in text(SCOPE).split_ascii_whitespace() {
        if KNOWN_SCOPES.contains(&scope) || scope.starts_with(AUDIENCE_SCOPE) {
            continue;
        }
        warnings.push(match nearest(scope, KNOWN_SCOPES.iter().copied()) {
            Some(near) => {
                format!("{} has the scope {scope}, which Dex ignores: did you mean {near}?", name(SCOPE))
            }
            None => format!("{} has an unknown scope, which Dex ignores", name(SCOPE)),
        });
    }
    warnings
}
