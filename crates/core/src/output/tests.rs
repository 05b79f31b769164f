//! Tests of the formats: what each holds, and that it is read back.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::claims::tests::jwt;
use crate::exchange::{ACCESS_TOKEN, ID_TOKEN};
use crate::limits::LARGEST_ISSUED_TOKEN;
use crate::secret::Secret;
use crate::time::UnixTime;

/// A format of each kind, and `raw` with a prefix. The match makes a new kind an error here.
pub(crate) fn formats() -> [Format; 5] {
    match Format::default() {
        Format::Raw { .. } | Format::Json | Format::Incus | Format::ExecCredential => {}
    }
    [Format::default(), header(), Format::Json, Format::Incus, Format::ExecCredential]
}

fn header() -> Format {
    Format::Raw { prefix: "Authorization: Bearer ".to_owned() }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// An opaque token about which everything is known.
fn opaque() -> StoredToken {
    StoredToken {
        token: secret("opaque"),
        expires: Some(UnixTime::from_secs(1_795_759_200)),
        lifetime: Some(Duration::from_secs(3_600)),
        issued_token_type: Some(ID_TOKEN.to_owned()),
        scope: Some("openid profile".to_owned()),
    }
}

#[test]
fn raw_is_the_prefix_and_the_token_without_a_newline() {
    let stored = StoredToken::of(secret("eyJh.eyJi.c2ln"));
    assert_eq!(Format::default().render(&stored).expose(), "eyJh.eyJi.c2ln");
    assert_eq!(header().render(&stored).expose(), "Authorization: Bearer eyJh.eyJi.c2ln");
    assert_eq!(header().read(&secret("Authorization: Basic eyJh.eyJi.c2ln")), None);
}

#[test]
fn json_has_the_members_of_rfc_8693_and_the_expiry_in_seconds() {
    let content = Format::Json.render(&opaque());
    assert_eq!(
        content.expose(),
        r#"{"access_token":"opaque","issued_token_type":"urn:ietf:params:oauth:token-type:id_token","token_type":"Bearer","expires_in":3600,"scope":"openid profile","expires_at":1795759200}"#
    );
}

#[test]
fn incus_has_the_members_that_its_command_line_reads() {
    let content = Format::Incus.render(&opaque());
    assert_eq!(
        content.expose(),
        r#"{"access_token":"opaque","token_type":"Bearer","expiry":"2026-11-27T06:00:00Z"}"#
    );
}

/// A reader of one finds no expiry in the other: at a start with the other format it is written
/// again.
#[test]
fn json_and_incus_are_not_taken_for_each_other() {
    for (one, other) in [(Format::Json, Format::Incus), (Format::Incus, Format::Json)] {
        for stored in [opaque(), StoredToken::of(secret("opaque"))] {
            let content = one.render(&stored);
            assert_eq!(other.read(&content), None, "{}", content.expose());
            let (found, is_in_format) = other.read_at_startup(&content).unwrap();
            assert_eq!((found.token, found.expires, is_in_format), (stored.token, stored.expires, false));
        }
    }
}

#[test]
fn exec_credential_has_the_version_the_kind_and_the_status() {
    let content = Format::ExecCredential.render(&opaque());
    assert_eq!(
        content.expose(),
        r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"opaque","expirationTimestamp":"2026-11-27T06:00:00Z"}}"#
    );
}

#[test]
fn what_is_unknown_is_left_out_but_the_required_type() {
    let stored = StoredToken::of(secret("opaque"));
    let contents = formats().map(|format| format.render(&stored).expose().to_owned());
    assert_eq!(
        contents,
        [
            "opaque",
            "Authorization: Bearer opaque",
            r#"{"access_token":"opaque","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer"}"#,
            r#"{"access_token":"opaque","token_type":"Bearer"}"#,
            r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"opaque"}}"#,
        ]
    );
}

/// A token without `exp` loses its expiry over a restart in `raw`.
#[test]
fn each_format_but_raw_keeps_the_expiry_of_an_opaque_token() {
    let expires = formats().map(|format| {
        let found = format.read(&format.render(&opaque())).unwrap();
        found.expires == opaque().expires
    });
    assert_eq!(expires, [false, false, true, true, true]);
    assert_eq!(Format::Json.read(&Format::Json.render(&opaque())), Some(opaque()));
}

#[test]
fn the_expiry_in_a_json_web_token_outranks_what_the_file_states() {
    let token = jwt("{}", r#"{"iat":1000,"exp":1900}"#);
    for format in formats() {
        let stored = StoredToken { token: token.clone(), ..opaque() };
        let found = format.read(&format.render(&stored)).unwrap();
        assert_eq!(found.expires, Some(UnixTime::from_secs(1_900)), "{format:?}");
        assert_eq!(found.lifetime, Some(Duration::from_secs(900)), "{format:?}");
    }
}

/// The Incus command line writes its file again: other members, another order.
#[test]
fn the_same_token_in_another_spelling_is_read() {
    for (format, content) in [
        (
            Format::Incus,
            r#"{"access_token":"opaque","token_type":"Bearer","expiry":"2026-11-27T06:00:00Z","IDTokenClaims":null,"IDToken":""}"#,
        ),
        (Format::Incus, r#"{"access_token":"opaque"}"#),
        (
            Format::Incus,
            "\n{ \"expiry\" : \"0001-01-01T00:00:00Z\", \"access_token\" : \"op\\u0061que\" }\r\n",
        ),
        (
            Format::Incus,
            r#"{"refresh_token":"other","IDTokenClaims":{"a":[{"access_token":"b"}]},"access_token":"opaque"}"#,
        ),
        (
            Format::Json,
            r#"{"issued_token_type":"t","scope":7,"expires_at":"2026-11-27T06:00:00Z","access_token":"opaque"}"#,
        ),
        (
            Format::ExecCredential,
            r#"{"status":{"token":"opaque","clientKeyData":""},"kind":"ExecCredential","spec":{"interactive":false},"apiVersion":"client.authentication.k8s.io/v1"}"#,
        ),
    ] {
        let found = format.read(&secret(content)).unwrap_or_else(|| panic!("{content} is not read"));
        assert_eq!(found.token.expose(), "opaque", "{content}");
        if content.contains("2026") {
            assert_eq!(found.expires, opaque().expires, "{content}");
        } else {
            assert_eq!(found.expires, None, "{content}");
        }
    }
}

#[test]
fn content_that_its_readers_cannot_use_is_not_read() {
    let exec = |status: &str| {
        format!(
            r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{status}}}"#
        )
    };
    let deep = format!(r#"{{"access_token":"a","b":{}"#, "[".repeat(100_000));
    for (format, content) in [
        (Format::Incus, String::new()),
        (Format::Incus, "opaque".to_owned()),
        (Format::Incus, "\"opaque\"".to_owned()),
        (Format::Incus, "[\"opaque\"]".to_owned()),
        (Format::Incus, "{}".to_owned()),
        (Format::Incus, r#"{"access_token":""}"#.to_owned()),
        (Format::Incus, r#"{"access_token":null}"#.to_owned()),
        (Format::Incus, r#"{"access_token":["opaque"]}"#.to_owned()),
        (Format::Incus, r#"{"access_token":"a","access_token":"b"}"#.to_owned()),
        (Format::Incus, r#"{"access_token":"opaque""#.to_owned()),
        (Format::Incus, r#"{"access_token":"opaque"}{}"#.to_owned()),
        (Format::Incus, "\u{feff}{\"access_token\":\"opaque\"}".to_owned()),
        (Format::Incus, deep),
        (Format::Json, r#"{"access_token":"opaque"}"#.to_owned()),
        (Format::ExecCredential, exec("null")),
        (Format::ExecCredential, exec("[\"opaque\"]")),
        (Format::ExecCredential, exec("{}")),
        (Format::ExecCredential, r#"{"status":{"token":"opaque"}}"#.to_owned()),
        (Format::ExecCredential, exec(r#"{"token":"a"}"#).replace("/v1", "/v1beta1")),
        (header(), "opaque".to_owned()),
    ] {
        let shown: String = content.chars().take(100).collect();
        assert_eq!(format.read(&secret(&content)), None, "{format:?}: {shown}");
    }
}

#[test]
fn a_huge_file_is_not_read_and_the_longest_token_is() {
    for format in formats() {
        let longest = StoredToken::of(secret(&"a".repeat(LARGEST_ISSUED_TOKEN)));
        let content = format.render(&longest);
        assert!(content.expose().len() <= format.largest(), "{format:?}");
        assert_eq!(format.read(&content).map(|found| found.token), Some(longest.token), "{format:?}");
        let huge = format!("{}{}", content.expose(), " ".repeat(2 * LARGEST_ISSUED_TOKEN));
        assert_eq!(format.read(&Secret::new(huge)), None, "{format:?}");
    }
}

/// A file that was written before the format was changed.
#[test]
fn a_token_is_found_in_a_file_of_any_format() {
    for format in formats() {
        let stored = StoredToken { token: secret("eyJh.eyJi.c2ln"), ..opaque() };
        let found = Format::read_any(&format.render(&stored)).unwrap();
        assert_eq!(found.token, stored.token, "{format:?}");
    }
    for content in ["", " \n", "token: ", "{}", "{\"access_token\":", "{\"kind\":\"Secret\"}"] {
        assert_eq!(Format::read_any(&secret(content)), None, "{content}");
    }
}

proptest! {
    /// Not only the characters of a bearer token, so that a wrong escape is found.
    #[test]
    fn a_token_is_read_back_from_each_format(
        token in "\\PC{1,200}|[!-~]{1,2000}|[\\x00-\\x7f]{1,60}",
        scope in proptest::option::of("\\PC{0,60}"),
        expires in proptest::option::of(0..95_617_584_000_u64),
        lifetime in proptest::option::of(1..300_000_000_u64),
    ) {
        let stored = StoredToken {
            token: Secret::new(token),
            expires: expires.map(UnixTime::from_secs),
            lifetime: lifetime.map(Duration::from_secs),
            issued_token_type: Some(ACCESS_TOKEN.to_owned()),
            scope,
        };
        for format in formats() {
            let found = format.read(&format.render(&stored)).unwrap();
            prop_assert_eq!(&found.token, &stored.token);
            match format {
                Format::Raw { .. } => prop_assert_eq!(found.expires, None),
                Format::Json => prop_assert_eq!(&found, &stored),
                Format::Incus | Format::ExecCredential => prop_assert_eq!(found.expires, stored.expires),
            }
        }
    }

    #[test]
    fn no_content_causes_a_panic(content in "\\PC*", json in "[\\[\\]{}:,\"a-z_0-9 .-]*") {
        for content in [content, json.clone(), format!("{{\"access_token\":{json}}}")] {
            let content = Secret::new(content);
            for format in formats() {
                if let Some(found) = format.read(&content) {
                    let again = format.read(&format.render(&found));
                    prop_assert_eq!(again.map(|again| again.token), Some(found.token));
                }
            }
            let _ = Format::read_any(&content);
        }
    }
}
