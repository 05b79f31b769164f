//! Values as manifests deliver them: with the line break of a Secret that was made with `echo`, and
//! with references that Kubernetes did not expand.

use super::{Origin, RawSettings, RawValue, Warning};
use crate::limits::{LONGEST_VARIABLE_NAME, MAX_REFERENCES};
use crate::secret::Secret;
use crate::settings::{BASIC_AUTH, FIELD_PREFIX, FILE_PREFIX, ORIGINAL, PREFIX, is_public_field};

impl RawSettings {
    /// The same without line breaks at the ends of values. Those values are marked for a warning.
    #[must_use]
    pub fn cleaned(&self) -> Self {
        let mut cleaned = self.clone();
        for RawValue { value, had_line_break, .. } in &mut cleaned.values {
            if let Some(text) = without_line_break(value.expose()) {
                *value = Secret::new(text);
                *had_line_break = true;
            }
        }
        cleaned
    }

    /// The values that are probably not meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let broken = self.values.iter().filter(|given| given.had_line_break).map(|given| {
            let what = "ends with a line break, which was removed: remove it where the value comes from (a Secret made by \
                 kubectl create secret --from-literal or printf has none, one made by echo has)";
            Warning::new(given.shown_name(), what)
        });
        let unexpanded = self.values.iter().filter_map(|given| {
            let name = given.shown_name();
            let is_secret = given.origin == Origin::Variable && may_hold_a_secret(&given.name);
            let (what, it) = references(given.value.expose(), is_secret)?;
            let place = match given.origin {
                Origin::Variable => format!(
                    "before {name} in env, or in envFrom; a value from a Secret or a ConfigMap is never expanded"
                ),
                Origin::Option => "in env or envFrom of this container".to_owned(),
            };
            let what = format!("contains {what}, which Kubernetes did not expand: define {it} {place}");
            Some(Warning::new(name, what))
        });
        broken.chain(unexpanded).collect()
    }
}

fn without_line_break(value: &str) -> Option<String> {
    let text = value.trim_end_matches(['\r', '\n']);
    (text.len() < value.len()).then(|| text.to_owned())
}

/// Whether a variable's value may be a secret or a part of one: form fields, the client, proxies.
fn may_hold_a_secret(variable: &str) -> bool {
    let is_file = variable.starts_with(FILE_PREFIX);
    let setting = variable.strip_prefix(FIELD_PREFIX).unwrap_or_default();
    let is_setting = ORIGINAL.iter().any(|known| known.name == setting) && setting != BASIC_AUTH;
    let is_open = is_setting || is_public_field(setting);
    !(is_file || is_open || variable.starts_with(PREFIX))
}

/// The references `$(NAME)` in a value, as they are written and by their names. What is no name of
/// a variable is not repeated; in a value that may be a secret, what does not look like one at
/// first sight neither.
fn references(value: &str, secret: bool) -> Option<(String, String)> {
    let mut names: Vec<&str> = value
        .split("$(")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        return None;
    }
    let is_upper = |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    names.retain(|name| is_name(name) && (!secret || is_upper(name)));
    names.dedup();
    names.truncate(MAX_REFERENCES);
    if names.is_empty() {
        return Some(("a reference $(...)".to_owned(), "its variable".to_owned()));
    }
    Some((format!("$({})", names.join("), $(")), names.join(", ")))
}

/// `[A-Za-z_][A-Za-z0-9_.-]*`, not too long to be repeated.
fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_VARIABLE_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{given, only_token, option};
    use super::super::{Config, Outputs, Probe, TokenConfig, log};
    use super::*;
    use crate::exchange::{Client, Source};

    const NEEDED: [&str; 6] = [
        "dex_endpoint=https://dex.example/token",
        "dex_access_token_file=/t",
        "dex_grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
        "dex_subject_token_type=urn:ietf:params:oauth:token-type:id_token",
        "dex_file_subject_token=/subject",
        "dex_connector_id=k3s",
    ];

    /// The needed settings, with these in place of those of the same name.
    fn with(more: &[&str]) -> RawSettings {
        let name = |line: &str| line.split_once('=').map(|(name, _)| name.to_owned());
        let kept = NEEDED.iter().filter(|line| more.iter().all(|other| name(other) != name(line)));
        given(&kept.copied().chain(more.iter().copied()).collect::<Vec<_>>())
    }

    fn read(more: &[&str]) -> Config {
        Config::read(&with(more), Outputs::Required).unwrap()
    }

    fn token(more: &[&str]) -> TokenConfig {
        only_token(read(more))
    }

    #[test]
    fn f152_a_line_break_at_the_end_of_any_variable_is_removed_and_reported() {
        for end in ["\n", "\r\n", "\n\n", "\r"] {
            for (line, read_as) in [
                ("dex_endpoint=https://dex.example/token", "https://dex.example/token"),
                ("dex_access_token_file=/run/dex/token", "/run/dex/token"),
                ("dex_file_subject_token=/run/subject", "/run/subject"),
                ("dex_connector_id=k3s", "k3s"),
                ("dex_scope=openid", "openid"),
                ("dex_basic_auth=incus:s3cret", "incus:s3cret"),
                ("dex_file_basic_auth=/client", "/client"),
                ("dex_refresh_before=2h", "7200s"),
                ("DEXSIDECAR_OUTPUT_MODE=0640", "640"),
                ("DEXSIDECAR_CA_FILE=/ca.pem", "/ca.pem"),
                ("DEXSIDECAR_LOG=debug", "debug"),
            ] {
                let config = read(&[&format!("{line}{end}")]);
                let [token] = &config.tokens[..] else { panic!("{config:?}") };
                let (exchange, output) = (&token.exchange, &token.outputs[0]);
                let client = match &exchange.client {
                    Some(Client::Pair(Source::Text(text))) => text.expose().to_owned(),
                    Some(Client::Pair(Source::File(path))) => path.display().to_string(),
                    other => format!("{other:?}"),
                };
                let all = [
                    exchange.endpoint.url.to_string(),
                    output.path.display().to_string(),
                    exchange.subject_token_file().unwrap().display().to_string(),
                    exchange.field("connector_id").unwrap_or_default().to_owned(),
                    exchange.field("scope").unwrap_or_default().to_owned(),
                    client,
                    format!("{}s", token.schedule.before.unwrap_or_default().as_secs()),
                    format!("{:o}", output.mode.unwrap_or_default()),
                    exchange.endpoint.ca_file.clone().unwrap_or_default().display().to_string(),
                    config.log.level.name().to_owned(),
                ];
                assert!(all.iter().any(|value| value == read_as), "{line}{end:?}: {all:?}");
                let name = line.split_once('=').unwrap().0;
                assert_eq!(
                    config.shown_warnings(),
                    [format!(
                        "{name} ends with a line break, which was removed: remove it where the value comes from (a \
                         Secret made by kubectl create secret --from-literal or printf has none, one made by echo \
                         has)"
                    )],
                    "{end:?}"
                );
            }
        }
    }

    #[test]
    fn f152_what_is_only_a_line_break_is_empty_and_the_rest_of_a_value_stays() {
        let config = read(&["dex_basic_auth=\n", "DEXSIDECAR_CA_FILE=\r\n", "dex_resource=\n"]);
        assert_eq!(config.shown_warnings().len(), 3, "{:?}", config.shown_warnings());
        let exchange = only_token(config).exchange;
        assert_eq!((exchange.client, exchange.endpoint.ca_file), (None, None));
        let missing = Config::read(&with(&["dex_endpoint=\n"]), Outputs::Required).unwrap_err();
        assert!(missing.iter().any(|problem| problem.what == "is not set"), "{missing:?}");
        for inside in ["\nk3s", " k3s ", "k\n3s", "k3s\n ", "k3s\t"] {
            let config = read(&[&format!("dex_connector_id={inside}")]);
            assert_eq!(config.shown_warnings(), [""; 0]);
            assert_eq!(only_token(config).exchange.field("connector_id"), Some(inside));
        }
    }

    #[test]
    fn f152_options_and_probes_are_read_without_line_breaks_too() {
        let mut options = with(&[]);
        options.values.push(option("ca-file", "/ca.pem\n"));
        let config = Config::read(&options, Outputs::Required).unwrap();
        assert_eq!(config.tokens[0].exchange.endpoint.ca_file, Some("/ca.pem".into()));
        assert!(
            config.shown_warnings()[0].starts_with("--ca-file ends with a line break"),
            "{:?}",
            config.shown_warnings()
        );
        let probe = Probe::read(&with(&["dex_access_token_file=/t\n", "DEXSIDECAR_MIN_TTL=5m\n"])).unwrap();
        assert_eq!((&probe.files[0].path, probe.min_ttl.as_secs()), (&"/t".into(), 300));
        assert!(log(&with(&["DEXSIDECAR_LOG_FORMAT=json\n"])).json);
    }

    /// Proxies and certificates are read elsewhere, from the same variables.
    #[test]
    fn f152_variables_of_the_system_are_cleaned_once_and_reported_once() {
        let cleaned =
            with(&["HTTPS_PROXY=http://proxy:3128\n", "SSL_CERT_FILE=/ca.pem\r\n"]).cleaned().cleaned();
        let value = |name: &str| cleaned.variable(name).map(|given| given.value.expose().to_owned());
        assert_eq!(value("HTTPS_PROXY").as_deref(), Some("http://proxy:3128"));
        assert_eq!(value("SSL_CERT_FILE").as_deref(), Some("/ca.pem"));
        let warnings = Config::read(&cleaned, Outputs::Required).unwrap().shown_warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn f153_a_reference_that_was_not_expanded_is_reported_with_its_reason() {
        for name in [
            "dex_basic_auth",
            "dex_access_token_file",
            "dex_file_subject_token",
            "dex_resource",
            "DEXSIDECAR_CA_FILE",
            "DEXSIDECAR_TERMINATION_LOG",
            "SSL_CERT_FILE",
        ] {
            let config = read(&[&format!("{name}=/incus:$(CLIENT_SECRET)")]);
            assert_eq!(
                config.shown_warnings(),
                [format!(
                    "{name} contains $(CLIENT_SECRET), which Kubernetes did not expand: define CLIENT_SECRET before \
                     {name} in env, or in envFrom; a value from a Secret or a ConfigMap is never expanded"
                )]
            );
        }
        let literal = token(&["dex_basic_auth=incus:$(CLIENT_SECRET)"]).exchange;
        assert_eq!(
            literal.client,
            Some(Client::Pair(Source::Text(Secret::new("incus:$(CLIENT_SECRET)".to_owned()))))
        );
    }

    #[test]
    fn f153_only_names_of_variables_are_repeated_and_not_too_many() {
        let long = format!("$({})", "A".repeat(65));
        for (value, named) in [
            ("$(A):$(B.c-d)", Some("$(A), $(B.c-d)")),
            ("$(A)$(A)", Some("$(A)")),
            ("$(A)$(B)$(C)$(D)$(E)", Some("$(A), $(B), $(C), $(D)")),
            ("$(s3cr t)", Some("a reference $(...)")),
            ("$(9)", Some("a reference $(...)")),
            (long.as_str(), Some("a reference $(...)")),
            ("$(never closed", None),
            ("$()", None),
            ("$HOME ${A} (A) $ (A)", None),
        ] {
            let warnings = read(&[&format!("DEXSIDECAR_TERMINATION_LOG={value}")]).shown_warnings();
            let expected = named.map(|named| format!("DEXSIDECAR_TERMINATION_LOG contains {named}, which"));
            assert_eq!(warnings.len(), usize::from(named.is_some()), "{value}: {warnings:?}");
            assert!(warnings.iter().all(|warning| warning.starts_with(expected.as_deref().unwrap())));
        }
    }

    /// A password may look like a reference.
    #[test]
    fn f153_a_value_that_may_be_a_secret_is_not_repeated() {
        for variable in ["dex_basic_auth", "dex_client_secret", "dex_actor_token", "HTTPS_PROXY"] {
            for value in ["x$(Tr0ub4dor)y", "$(a.b)", "$(A1)"] {
                let warnings = read(&[&format!("{variable}={value}")]).shown_warnings();
                assert!(
                    warnings[0].starts_with(&format!("{variable} contains a reference $(...), which")),
                    "{warnings:?}"
                );
            }
        }
        let warnings = read(&["dex_basic_auth=incus:$(CLIENT_SECRET)"]).shown_warnings();
        assert!(warnings[0].contains("$(CLIENT_SECRET)"), "{warnings:?}");
    }

    #[test]
    fn f153_an_option_is_reported_too() {
        let mut options = with(&[]);
        options.values.push(option("ca-file", "$(CA)"));
        let warnings = Config::read(&options, Outputs::Required).unwrap().shown_warnings();
        assert_eq!(
            warnings,
            [
                "--ca-file contains $(CA), which Kubernetes did not expand: define CA in env or envFrom of this container"
            ]
        );
    }
}
