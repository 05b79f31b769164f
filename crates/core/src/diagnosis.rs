//! What is known here of the cause of a failure. Dex hides details from clients and logs them
//! itself; much can be worked out from what was sent.

use std::time::Duration;

use crate::claims::Claims;
use crate::duration::HumanDuration;
use crate::exchange::{ACCESS_TOKEN, Exchange, ID_TOKEN, KNOWN_TO_DEX, TOKEN_EXCHANGE};
use crate::failure::{Code, Failure, Owner, plain};
use crate::settings::{AUDIENCE_SCOPE, SUBJECT_TOKEN};
use crate::time::UnixTime;

/// Sentences that narrow down the cause of a failure; none where nothing is known. `subject` holds
/// the claims of the subject token.
#[must_use]
pub fn causes(code: Code, exchange: &Exchange, subject: Option<&Claims>, now: UnixTime) -> Vec<String> {
    let mut found = Vec::new();
    match code {
        Code::AccessDenied => {
            if exchange.field("subject_token_type") == Some(ACCESS_TOKEN) {
                found.push(format!(
                    "dex_subject_token_type is access_token: Dex then asks the issuer's userinfo endpoint, which \
                     Kubernetes does not have; use {ID_TOKEN}"
                ));
            }
            validity(exchange, subject, now, &mut found);
            found.extend(subject.and_then(issuer));
        }
        Code::InvalidRequest if is_missing(exchange, SUBJECT_TOKEN) => {
            found.push("no subject token is sent: set dex_file_subject_token".to_owned());
        }
        Code::InvalidGrant | Code::Rejected => validity(exchange, subject, now, &mut found),
        // Go's server answers plain http on its https port with a message and a reset, in either
        // order. Others close the connection, or send a TLS alert.
        Code::ConnectionLost | Code::AnswerMalformed if !exchange.endpoint.url.is_tls() => {
            found.push(
                "dex_endpoint is plain http: a server that expects TLS (https) on this port may end the connection \
                 like this"
                    .to_owned(),
            );
        }
        Code::InvalidClient if exchange.client.is_none() && is_missing(exchange, "client_id") => {
            found.push("no client credentials are sent: set dex_basic_auth".to_owned());
        }
        Code::UnsupportedGrantType if is_missing(exchange, "grant_type") => {
            found.push("dex_grant_type is not set".to_owned());
        }
        Code::UnsupportedGrantType => match exchange.field("grant_type") {
            None => {}
            Some(TOKEN_EXCHANGE) => found.push(
                "dex_grant_type is right: it is missing in oauth2.grantTypes of Dex's configuration, or Dex is older than 2.38"
                    .to_owned(),
            ),
            Some(_) => found.push("dex_grant_type is not token exchange".to_owned()),
        },
        Code::ServerError => {
            let scopes = exchange.field("scope").unwrap_or_default();
            if scopes.split_ascii_whitespace().any(|scope| scope.starts_with(AUDIENCE_SCOPE)) {
                found.push(format!(
                    "dex_scope has {AUDIENCE_SCOPE}X: Dex answers like this when client X does not exist, or does not \
                     list this client in trustedPeers"
                ));
            }
        }
        Code::ConnectorUnknown if is_missing(exchange, "connector_id") => {
            found.push("dex_connector_id is not set".to_owned());
        }
        Code::ConnectorUnknown => {
            let id = exchange.field("connector_id");
            found.extend(id.map(|id| format!("dex_connector_id is {}", plain(id, 100))));
            found.extend(subject.and_then(issuer));
        }
        Code::RequestNotSupported => {
            if is_missing(exchange, "subject_token_type") {
                found.push("dex_subject_token_type is not set".to_owned());
            }
            for name in ["subject_token_type", "requested_token_type"] {
                if exchange.field(name).is_some_and(|kind| !kind.is_empty() && !KNOWN_TO_DEX.contains(&kind)) {
                    found.push(format!("dex_{name} is not a type that Dex supports"));
                }
            }
        }
        _ => {}
    }
    found
}

/// The failure with the owner and the fix of its cause, where what was sent shows that the pod has
/// to be changed, although Dex's answer does not.
#[must_use]
pub fn with_cause(failure: Failure, exchange: &Exchange, subject: Option<&Claims>, now: UnixTime) -> Failure {
    let is_expired = subject.and_then(|claims| claims.expires).is_some_and(|expires| expires <= now);
    let fix = match failure.code {
        Code::AccessDenied | Code::InvalidGrant if is_expired => Code::SubjectTokenExpired.entry().fix,
        Code::ConnectorUnknown if is_missing(exchange, "connector_id") => {
            "set dex_connector_id to the id of Dex's connector for this cluster"
        }
        Code::UnsupportedGrantType if is_missing(exchange, "grant_type") => {
            "set dex_grant_type to urn:ietf:params:oauth:grant-type:token-exchange"
        }
        _ => return failure,
    };
    failure.owned_by(Owner::Pod).with_fix(fix)
}

/// True when a field is not sent, or sent empty. The value of a field from a file is not known
/// here.
fn is_missing(exchange: &Exchange, name: &str) -> bool {
    exchange.field(name).map_or_else(|| exchange.fields.iter().all(|(known, _)| known != name), str::is_empty)
}

/// What is wrong with the subject token itself.
fn validity(exchange: &Exchange, subject: Option<&Claims>, now: UnixTime, found: &mut Vec<String>) {
    let Some(subject) = subject else {
        found.push(if is_missing(exchange, SUBJECT_TOKEN) {
            "no subject token is sent: set dex_file_subject_token".to_owned()
        } else {
            "the subject token is not a JSON Web Token".to_owned()
        });
        return;
    };
    if let Some(expires) = subject.expires.filter(|expires| *expires <= now) {
        found.push(format!(
            "by this node's clock the subject token expired {} ago",
            HumanDuration(now.since(expires))
        ));
    }
    if let Some(begins) = subject.not_before.filter(|begins| *begins > now) {
        found.push(format!(
            "by this node's clock the subject token becomes valid in {}",
            HumanDuration(now.until(begins))
        ));
    }
}

fn issuer(subject: &Claims) -> Option<String> {
    let issuer = plain(subject.issuer.as_deref()?, 200);
    Some(format!(
        "the subject token's issuer is {issuer}: the connector's issuer, or its issuerAlias, must be exactly that \
         (Dex 2.41 and earlier ignore issuerAlias)"
    ))
}

/// What to do about an issued token that has already expired by the clock of this node.
pub const FIX_CLOCKS: &str =
    "synchronise the clocks of this node and of Dex, and make sure that no cache answers in place of Dex";

/// How long ago an issued token has expired, by the clock of this node.
#[must_use]
pub fn expired_since(issued: &Claims, now: UnixTime) -> Option<Duration> {
    issued.expires.filter(|expires| *expires <= now).map(|expires| now.since(expires))
}

/// Warnings about a subject token that Dex may accept all the same.
#[must_use]
pub fn warnings(subject: &Claims, now: UnixTime) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(expires) = subject.expires.filter(|expires| *expires <= now) {
        found.push(format!("it expired {} ago by this node's clock", HumanDuration(now.since(expires))));
    }
    if let Some(length) = subject.lifetime().filter(|length| length.as_secs() < 3_600 - 60) {
        found.push(format!(
            "its lifetime is only {}: with expirationSeconds of 3600 or more it survives longer outages of the API server",
            HumanDuration(length)
        ));
    }
    found.extend(meant_for_the_api_server(subject).map(str::to_owned));
    found
}

/// A warning about a subject token whose audience is the API server: everyone who sees it, Dex
/// included, could use it there as the pod (F54).
#[must_use]
pub fn meant_for_the_api_server(subject: &Claims) -> Option<&'static str> {
    let is_default = |audience: &String| audience.contains("kubernetes.default");
    subject.audience.iter().any(is_default).then_some(
        "its audience is the API server: give the projected volume an audience of its own, such as dex",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::given;
    use crate::config::{Config, Outputs};
    use crate::exchange::JWT;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn exchange(more: &[&str]) -> Exchange {
        let all = [&["dex_endpoint=https://dex/token", "dex_access_token_file=/t"], more].concat();
        Config::read(&given(&all), Outputs::Required).unwrap().tokens.remove(0).exchange
    }

    #[test]
    fn access_denied_names_its_likely_causes() {
        let subject = Claims {
            issuer: Some("https://kubernetes.default.svc".to_owned()),
            expires: Some(UnixTime::from_secs(400)),
            ..Claims::default()
        };
        let kind = format!("dex_subject_token_type={ACCESS_TOKEN}");
        let found = causes(Code::AccessDenied, &exchange(&[&kind]), Some(&subject), NOW);
        assert!(found[0].contains("userinfo"), "{found:?}");
        assert_eq!(found[1], "by this node's clock the subject token expired 10m ago");
        assert!(found[2].contains("https://kubernetes.default.svc"), "{found:?}");
        // e2e/tests/real_dex/dex_versions.rs asks the versions themselves.
        assert!(found[2].contains("2.41 and earlier ignore issuerAlias"), "{found:?}");
    }

    #[test]
    fn an_invalid_subject_token_is_the_only_cause_named() {
        let opaque = exchange(&["dex_subject_token=opaque"]);
        let none = exchange(&[]);
        let subject = Claims {
            issuer: Some("https://kubernetes.default.svc".to_owned()),
            expires: Some(UnixTime::from_secs(400)),
            ..Claims::default()
        };
        let missing = causes(Code::InvalidRequest, &none, None, NOW);
        assert_eq!(missing, ["no subject token is sent: set dex_file_subject_token"]);
        assert!(causes(Code::InvalidRequest, &opaque, None, NOW).is_empty());
        for code in [Code::AccessDenied, Code::InvalidGrant, Code::Rejected] {
            assert_eq!(causes(code, &opaque, None, NOW), ["the subject token is not a JSON Web Token"]);
            assert_eq!(
                causes(code, &none, None, NOW),
                ["no subject token is sent: set dex_file_subject_token"]
            );
            let found = causes(code, &opaque, Some(&subject), NOW);
            assert_eq!(found[0], "by this node's clock the subject token expired 10m ago");
            assert_eq!(found.len(), if code == Code::AccessDenied { 2 } else { 1 }, "{code}: {found:?}");
        }
    }

    #[test]
    fn what_the_pod_has_to_change_is_not_left_to_the_operator_of_dex() {
        let expired = Claims { expires: Some(UnixTime::from_secs(400)), ..Claims::default() };
        let valid = Claims { expires: Some(UnixTime::from_secs(4_000)), ..Claims::default() };
        let complete = exchange(&[
            "dex_connector_id=k3s",
            "dex_grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
        ]);
        let none = exchange(&[]);
        for (code, exchange, subject, is_pod) in [
            (Code::AccessDenied, &complete, Some(&expired), true),
            (Code::InvalidGrant, &complete, Some(&expired), true),
            (Code::AccessDenied, &complete, Some(&valid), false),
            (Code::AccessDenied, &complete, None, false),
            (Code::ConnectorUnknown, &none, Some(&valid), true),
            (Code::ConnectorUnknown, &complete, Some(&valid), false),
            (Code::UnsupportedGrantType, &none, Some(&valid), true),
            (Code::UnsupportedGrantType, &complete, Some(&valid), false),
        ] {
            let failure = with_cause(Failure::new(code, ""), exchange, subject, NOW);
            assert_eq!(failure.owner() == Owner::Pod, is_pod, "{code}");
            assert_eq!(failure.fix() != code.entry().fix, is_pod, "{code}");
        }
    }

    /// The value of a field from a file is not known here.
    #[test]
    fn a_field_from_a_file_is_not_called_missing() {
        for (code, name) in [
            (Code::UnsupportedGrantType, "grant_type"),
            (Code::ConnectorUnknown, "connector_id"),
            (Code::RequestNotSupported, "subject_token_type"),
            (Code::InvalidClient, "client_id"),
        ] {
            let (file, empty) = (format!("dex_file_{name}=/etc/hostname"), format!("dex_{name}="));
            assert!(causes(code, &exchange(&[&file]), None, NOW).is_empty(), "{name}");
            assert_eq!(causes(code, &exchange(&[&empty]), None, NOW).len(), 1, "{name}");
        }
    }

    #[test]
    fn missing_settings_are_named() {
        assert_eq!(causes(Code::InvalidClient, &exchange(&[]), None, NOW).len(), 1);
        assert!(causes(Code::InvalidClient, &exchange(&["dex_client_id=incus"]), None, NOW).is_empty());
        assert_eq!(
            causes(Code::UnsupportedGrantType, &exchange(&[]), None, NOW),
            ["dex_grant_type is not set"]
        );
        assert_eq!(
            causes(Code::ConnectorUnknown, &exchange(&[]), None, NOW),
            ["dex_connector_id is not set"]
        );
        assert_eq!(
            causes(Code::ServerError, &exchange(&["dex_scope=audience:server:client_id:x"]), None, NOW).len(),
            1
        );
        assert!(causes(Code::ServerError, &exchange(&[]), None, NOW).is_empty());
    }

    #[test]
    fn a_grant_type_or_connector_that_is_set_is_judged() {
        let said = |code, more: &str| causes(code, &exchange(&[more]), None, NOW);
        let grant = format!("dex_grant_type={TOKEN_EXCHANGE}");
        assert_eq!(
            said(Code::UnsupportedGrantType, &grant),
            [
                "dex_grant_type is right: it is missing in oauth2.grantTypes of Dex's configuration, or Dex is older than 2.38"
            ]
        );
        assert_eq!(
            said(Code::UnsupportedGrantType, "dex_grant_type=password"),
            ["dex_grant_type is not token exchange"]
        );
        assert_eq!(said(Code::ConnectorUnknown, "dex_connector_id="), ["dex_connector_id is not set"]);
        let id = "dex_connector_id is kubernetes";
        assert_eq!(said(Code::ConnectorUnknown, "dex_connector_id=kubernetes"), [id]);
        let subject = Claims { issuer: Some("https://issuer".to_owned()), ..Claims::default() };
        let told =
            causes(Code::ConnectorUnknown, &exchange(&["dex_connector_id=kubernetes"]), Some(&subject), NOW);
        assert!(told[0] == id && told[1].contains("https://issuer") && told.len() == 2, "{told:?}");
    }

    #[test]
    fn a_token_type_that_dex_does_not_support_is_named() {
        let missing = "dex_subject_token_type is not set";
        let subject = "dex_subject_token_type is not a type that Dex supports";
        let requested = "dex_requested_token_type is not a type that Dex supports";
        for (given, told) in [
            (&[("subject", ID_TOKEN), ("requested", ACCESS_TOKEN)][..], &[][..]),
            (&[("subject", ACCESS_TOKEN), ("requested", ID_TOKEN)], &[]),
            (&[("subject", ID_TOKEN)], &[]),
            (&[("subject", ID_TOKEN), ("requested", "")], &[]),
            (&[], &[missing]),
            (&[("subject", "")], &[missing]),
            (&[("subject", JWT), ("requested", ACCESS_TOKEN)], &[subject]),
            (&[("subject", ID_TOKEN), ("requested", JWT)], &[requested]),
        ] {
            let given: Vec<String> =
                given.iter().map(|(which, kind)| format!("dex_{which}_token_type={kind}")).collect();
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            assert_eq!(causes(Code::RequestNotSupported, &exchange(&given), None, NOW), told, "{given:?}");
        }
    }

    #[test]
    fn a_lost_connection_is_explained_where_it_was_plain_http() {
        let plain = Config::read(
            &given(&["dex_endpoint=http://127.0.0.1/token", "dex_access_token_file=/t"]),
            Outputs::Required,
        );
        let plain = plain.unwrap().tokens.remove(0).exchange;
        for code in [Code::ConnectionLost, Code::AnswerMalformed] {
            let found = causes(code, &plain, None, NOW);
            assert!(found.len() == 1 && found[0].contains("https"), "{found:?}");
            assert!(causes(code, &exchange(&[]), None, NOW).is_empty());
        }
    }

    #[test]
    fn a_subject_token_outside_its_validity_is_reported_to_the_second() {
        let told = |not_before: u64, expires: u64| {
            let subject = Claims {
                not_before: Some(UnixTime::from_secs(not_before)),
                expires: Some(UnixTime::from_secs(expires)),
                ..Claims::default()
            };
            causes(Code::AccessDenied, &exchange(&["dex_subject_token=x"]), Some(&subject), NOW)
        };
        assert!(told(1_000, 1_001).is_empty());
        assert_eq!(told(1_060, 2_000), ["by this node's clock the subject token becomes valid in 1m"]);
        assert_eq!(told(900, 1_000), ["by this node's clock the subject token expired 0s ago"]);
    }

    #[test]
    fn a_subject_token_of_less_than_an_hour_gets_a_warning() {
        let notes = |length: u64| {
            let expires = Some(UnixTime::from_secs(1_000 + length));
            warnings(&Claims { issued: Some(NOW), expires, ..Claims::default() }, NOW).len()
        };
        // A minute less is what the kubelet's own rounding may take.
        assert_eq!((notes(600), notes(3_539), notes(3_540), notes(3_600)), (1, 1, 0, 0));
    }

    #[test]
    fn a_good_service_account_token_has_no_warnings() {
        let good = Claims {
            audience: vec!["dex".to_owned()],
            issued: Some(NOW),
            expires: Some(UnixTime::from_secs(4_600)),
            ..Claims::default()
        };
        assert!(warnings(&good, NOW).is_empty());
        let odd = Claims { audience: vec!["https://kubernetes.default.svc".to_owned()], ..Claims::default() };
        assert_eq!(warnings(&odd, NOW).len(), 1);
    }
}
