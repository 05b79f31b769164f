//! What older versions of Dex refuse, and the mistakes in their configuration.

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::dex_error_table::{ErrorResponse, MALFORMED, REFUSALS, TokenRequest};
use dexsidecar_e2e::dex_version::Version;
use dexsidecar_e2e::fake_api_server::{FakeApiServer, ISSUER, Mood};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::raw_http::Reply;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::signing_key::claims;
use serde_json::json;

use super::{issuer, of, text};

/// The status, `error`, `error_description` and content type of a refusal are those of the table.
fn assert_refused(name: &str, reply: &Reply, expected: &ErrorResponse) {
    let response = reply.json();
    let words = (text(&response["error"]), text(&response["error_description"]));
    assert_eq!(
        (reply.status, words.0.as_str(), words.1.as_str()),
        (expected.status, expected.error, expected.description),
        "{name}: {}",
        reply.body
    );
    assert_eq!(reply.header("content-type"), Some("application/json"), "{name}");
}

pub(super) fn refusals(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    for row in REFUSALS {
        let subject = row.subject(&issuer);
        let question = TokenRequest::exchange_of(&subject).by(row.client.unwrap_or("user:")).with(row.fields);
        assert_refused(row.name, &dex.request_token(&question), &row.response);

        let volume = ProjectedVolume::with(&subject);
        let mut setup = Setup::new().subject(&volume).at(&dex);
        for (name, value) in row.fields {
            setup = setup.set(&format!("dex_{name}"), *value);
            if *name == "subject_token" {
                setup = setup.unset("dex_file_subject_token");
            }
        }
        if let Some(client) = row.client {
            setup = setup.set("dex_basic_auth", client);
        }
        let broken = failed_step(&report(&setup));
        assert_eq!(
            (&broken["step"], &broken["code"]),
            (&json!("exchange"), &json!(row.code)),
            "{}",
            row.name
        );
    }
    let subject = issuer.token(600);
    for row in MALFORMED {
        assert_refused(row.name, &dex.request_token(&row.request(&subject)), &row.response);
    }
    for target in ["/dex/token/", "/token", "/dex/dex/token"] {
        let lost = dex.get(target).unwrap();
        assert_eq!((lost.status, lost.body.as_str()), (404, "404 page not found\n"), "{target}");
    }
}

pub(super) fn mistakes_in_dex(version: Version) {
    let issuer = issuer(version);
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let checked = |setup: &DexSetup| {
        let dex = Dex::start(&issuer, setup);
        (report(&Setup::new().subject(&volume).at(&dex)), dex)
    };
    let (sound, dex) = checked(&of(version));
    assert_eq!(sound["ok"], true, "{sound:#}\n{}", dex.log());
    let groups =
        json!({"insecureEnableGroups": true, "claimMapping": {"groups": "sub"}, "allowedGroups": ["others"]});
    let connector = |connector| DexSetup { connector, ..of(version) };
    for (what, setup, code, named, logged) in [
        (
            "grantTypes without token exchange",
            DexSetup { token_exchange: false, ..of(version) },
            "unsupported_grant_type",
            "oauth2.grantTypes",
            "unsupported grant type",
        ),
        (
            "no userNameKey",
            connector(json!({"userNameKey": null})),
            "access_denied",
            "userNameKey",
            "missing",
        ),
        ("no scopes", connector(json!({"scopes": null})), "access_denied", "scopes", "missing email claim"),
        ("userinfo", connector(json!({"getUserInfo": true})), "access_denied", "getUserInfo", "userinfo"),
        ("other groups", connector(groups), "access_denied", "Dex's log", "not a member of allowed groups"),
    ] {
        let (report, dex) = checked(&setup);
        let broken = failed_step(&report);
        assert_eq!(broken["code"], code, "{what}: {broken:#}\n{}", dex.log());
        assert!(format!("{}{}", broken["fix"], broken["notes"]).contains(named), "{what}: {broken:#}");
        dex.until_logged(logged);
    }
}

pub(super) fn connectors_that_cannot_be_opened(version: Version) {
    assert!(!version.starts_with_failed_connectors, "the pinned version: errors_of_dex.rs");
    let mut issuer = issuer(version);
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let other_authority = Authority::new();
    let another_ca = json!({"rootCAs": [other_authority.file()]});
    let refused = |dex: &Dex, logged: &str| {
        let log = dex.log();
        assert!(log.contains("ailed to open connector") && log.contains(logged), "{logged}\n{log}");
        let broken = failed_step(&report(&Setup::new().subject(&volume).at(dex)));
        assert_eq!(broken["code"], "connect_refused", "{broken:#}");
        assert!(text(&broken["fix"]).contains("cannot open"), "{broken:#}");
    };
    let setup = DexSetup { connector: another_ca, ..of(version) };
    refused(&Dex::start_expecting_exit(&issuer, &setup), "certificate signed by unknown authority");
    issuer.stop();
    refused(&Dex::start_expecting_exit(&issuer, &of(version)), "connection refused");
    issuer.resume();

    issuer.serve_discovery(Mood::Refusing);
    let mut dex = Dex::start_expecting_exit(&issuer, &of(version));
    refused(&dex, "401 Unauthorized");
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.process.until_logged("code=connect_refused", 1);
    issuer.serve_discovery(Mood::Well);
    dex.resume();
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

/// Tokens that name the cluster, and an issuer whose URL is another.
pub(super) fn issuer_alias(version: Version) {
    let issuer = FakeApiServer::start();
    let subject = issuer.token(3_600);
    assert_eq!(claims(&subject)["iss"], ISSUER);
    let volume = ProjectedVolume::with(&subject);
    let setup = |alias| DexSetup { version, issuer_alias: alias, ..DexSetup::default() };
    let check = |dex: &Dex| report(&Setup::new().subject(&volume).at(dex));
    if version.issuer_alias {
        let report = check(&Dex::start(&issuer, &setup(true)));
        assert_eq!(report["ok"], true, "{report:#}");
    }
    // Without it; or, where it is unknown, also with it.
    for alias in [false, true].into_iter().filter(|&alias| !alias || !version.issuer_alias) {
        let dex = Dex::start_expecting_exit(&issuer, &setup(alias));
        let log = dex.log();
        assert!(log.contains("did not match the issuer"), "{log}");
        assert_eq!(failed_step(&check(&dex))["code"], "connect_refused");
    }
    // With its feature flag Dex starts, and its answer is that of later versions.
    if version.issuer_alias {
        let environment = vec![("DEX_CONTINUE_ON_CONNECTOR_FAILURE", "true")];
        let dex = Dex::start(&issuer, &DexSetup { environment, ..setup(false) });
        let broken = failed_step(&check(&dex));
        assert_eq!(broken["code"], "connector_unknown", "{broken:#}");
        assert!(format!("{}{}", broken["fix"], broken["notes"]).contains("issuerAlias"), "{broken:#}");
    }
}
