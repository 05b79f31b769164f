//! Older versions of Dex: the tests of the real Dex against each version that users may still have.
//! The tests of the pinned version are in the other files.
//!
//! Each test needs a Dex that takes minutes to build. They are ignored without `--include-ignored`,
//! which `cargo xtask test --long` gives.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexsidecar_e2e::dex::{Dex, DexSetup, SECRET};
use dexsidecar_e2e::dex_error_table::TokenRequest;
use dexsidecar_e2e::dex_version::{OLDER, Version};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::fake_api_server::{FakeApiServer, Flaw, Mood};
use dexsidecar_e2e::process::PATIENCE;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{claims, header, is_signed};
use rustix::process::Signal;
use serde_json::{Value, json};

mod refusals;
use refusals::{connectors_that_cannot_be_opened, issuer_alias, mistakes_in_dex, refusals};

const USER: &str = "system:serviceaccount:default:app";

/// One `#[test]` for each test of the list and each version.
macro_rules! with_each_version {
    ($($module:ident is $number:literal),*; $tests:tt) => { $(with_version!($module $number $tests);)* };
}

macro_rules! with_version {
    ($module:ident $number:literal { $($name:ident = $test:ident,)* }) => {
        mod $module {
            $(
                #[test]
                #[ignore = "older versions of Dex are tested in the long form: cargo xtask test --long"]
                fn $name() {
                    super::$test(super::built($number));
                }
            )*
        }
    };
}

with_each_version!(dex_2_38 is "2.38.0", dex_2_41 is "2.41.1", dex_2_44 is "2.44.0"; {
    the_manifest_of_the_original_brings_a_token = original_manifest,
    the_issued_token_has_the_same_claims = claims_of_the_issued_token,
    short_tokens_are_refreshed_before_they_expire = short_tokens,
    dex_is_killed_and_restarted_with_new_keys = dex_restarted,
    the_key_check_replaces_a_token_whose_key_dex_lost = keys_lost,
    the_issuer_is_frozen = issuer_frozen,
    the_issuer_is_unreachable_after_its_key_changed = issuer_unreachable,
    a_bad_subject_token_is_replaced_by_a_valid_one = bad_subject_token,
    a_wrong_client_secret_is_corrected_in_its_file = client_secret,
    a_client_authenticates_however_its_secret_is_written = kinds_of_clients,
    an_unknown_connector_is_reported_and_run_goes_on = unknown_connector,
    sigterm_exits_with_0_with_dex_up_and_with_dex_frozen = sigterm,
    every_refusal_has_the_same_words_and_the_right_code = refusals,
    check_names_each_mistake_in_dex_s_configuration = mistakes_in_dex,
    dex_exits_when_a_connector_cannot_be_opened = connectors_that_cannot_be_opened,
    the_cluster_s_issuer_needs_issuer_alias = issuer_alias,
});

#[test]
fn each_older_version_is_tested() {
    assert_eq!(OLDER.map(|version| version.number), ["2.38.0", "2.41.1", "2.44.0"]);
}

/// The version with this number. It is built unless it is in the cache. Builds run one after the
/// other, since each uses every core.
fn built(number: &str) -> Version {
    static BUILD: Mutex<()> = Mutex::new(());
    let version = OLDER.into_iter().find(|version| version.number == number).expect("an older version");
    let _one_at_a_time = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    version.program.built().unwrap_or_else(|why| panic!("{why}"));
    version
}

/// An issuer that this version can use: before `issuerAlias`, the tokens must name the URL at which
/// Dex finds the issuer.
fn issuer(version: Version) -> FakeApiServer {
    if version.issuer_alias { FakeApiServer::start() } else { FakeApiServer::named_by_address() }
}

/// A Dex of this version with the connector that fits its issuer.
fn of(version: Version) -> DexSetup {
    DexSetup { version, issuer_alias: version.issuer_alias, ..DexSetup::default() }
}

fn with_lifetime(version: Version, lifetime: &str) -> DexSetup {
    DexSetup { lifetime: lifetime.to_owned(), ..of(version) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The manifest and the connector in the original's README.
fn original_manifest(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &DexSetup { connector_of_the_original: true, ..of(version) });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let manifest = doc_manifests::original_deployment();
    let sidecar = &manifest["spec"]["template"]["spec"]["initContainers"][0];
    let mut setup = Setup::new();
    for entry in sidecar["env"].as_array().unwrap() {
        let name = text(&entry["name"]);
        if name != "dex_access_token_file" {
            setup = setup.set(&name, text(&entry["value"]));
        }
    }
    let mut sidecar = setup.subject(&volume).at(&dex).run();
    let token = sidecar.until_token();
    assert_eq!(claims(&token)["aud"], "user");
    sidecar.process.until_logged("token_written", 1);
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(fs::read_to_string(sidecar.output()).unwrap(), token, "the file is kept after the exit");
}

fn claims_of_the_issued_token(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    let reply = dex.request_token(&TokenRequest::exchange_of(&issuer.token(600)));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer = reply.json();
    assert!((86_390..=86_399).contains(&answer["expires_in"].as_u64().unwrap()), "{answer}");
    assert_eq!(answer["token_type"], "bearer");
    assert_eq!(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    let token = text(&answer["access_token"]);
    assert_eq!((names(&header(&token)), header(&token)["alg"].as_str()), (vec!["alg", "kid"], Some("RS256")));
    let claims = claims(&token);
    assert_eq!(names(&claims), ["at_hash", "aud", "exp", "federated_claims", "iat", "iss", "name", "sub"]);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(dex.issuer()), &json!("user")));
    assert_eq!(claims["name"], USER);
    assert_eq!(claims["federated_claims"], json!({"connector_id": "k3s", "user_id": USER}));
    let sub = URL_SAFE_NO_PAD.decode(claims["sub"].as_str().unwrap()).unwrap();
    assert_eq!(sub, [&[0x0a, 33], USER.as_bytes(), &[0x12, 3], b"k3s"].concat());
    let crossed = [("scope", "openid audience:server:client_id:target")];
    let crossed = dex.request_token(&TokenRequest::exchange_of(&issuer.token(600)).with(&crossed)).json();
    let crossed = dexsidecar_e2e::signing_key::claims(&text(&crossed["access_token"]));
    assert_eq!((&crossed["aud"], &crossed["azp"]), (&json!(["target", "user"]), &json!("user")));
}

fn short_tokens(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &with_lifetime(version, "20s"));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let mut token = sidecar.until_token();
    for _ in 0..2 {
        let next = sidecar.until_another_token(&token);
        let second = |token: &str, name: &str| claims(token)[name].as_u64().unwrap();
        assert!(second(&next, "iat") < second(&token, "exp"), "refreshed before the old token expired");
        assert!(is_signed(&next, &dex.get("/dex/keys").unwrap().json()));
        token = next;
    }
    assert_eq!(sidecar.process.logged("attempt_failed"), 0, "{}", sidecar.process.timeline());
}

fn dex_restarted(version: Version) {
    let issuer = issuer(version);
    let mut dex = Dex::start(&issuer, &with_lifetime(version, "20s"));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    dex.stop();
    sidecar.process.until_logged("code=connect_refused", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first), "the valid token stays");
    dex.resume();
    let second = sidecar.until_another_token(&first);
    sidecar.process.until_logged("recovered", 1);
    let keys = dex.get("/dex/keys").unwrap().json();
    assert_eq!((is_signed(&first, &keys), is_signed(&second, &keys)), (false, true));
}

fn keys_lost(version: Version) {
    let issuer = issuer(version);
    let mut dex = Dex::start(&issuer, &of(version));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).arguments("--key-check 2s").run();
    let first = sidecar.until_token();
    dex.stop();
    dex.resume();
    sidecar.process.until_logged("signing_key_not_published", 1);
    // Within the period and one minute, over which a fleet is spread.
    sidecar
        .process
        .until_within(PATIENCE * 2, "the token is replaced", |process| process.logged("token_written") == 2);
    let second = sidecar.until_another_token(&first);
    assert!(is_signed(&second, &dex.get("/dex/keys").unwrap().json()));
}

fn issuer_frozen(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    issuer.serve_keys(Mood::Hanging);
    let mut hung = Setup::new().subject(&volume).at(&dex).arguments("--attempt-timeout 1s").run();
    hung.process.until_logged("code=timed_out", 1);
    // In Dex every exchange waits for the fetch that hangs.
    issuer.serve_keys(Mood::Failing);
    let mut denied = Setup::new().subject(&volume).at(&dex).run();
    denied.process.until_logged("code=access_denied", 1);
    issuer.serve_keys(Mood::Well);
    denied.until_token();
    hung.until_token();
}

fn issuer_unreachable(version: Version) {
    let mut issuer = issuer(version);
    let dex = Dex::start(&issuer, &with_lifetime(version, "20s"));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    issuer.stop();
    issuer.rotate_key();
    volume.replace_token(&issuer.token(3_600));
    sidecar.process.until_logged("code=access_denied", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first));
    issuer.resume();
    sidecar.until_another_token(&first);
    sidecar.process.until_logged("recovered", 1);
}

fn bad_subject_token(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    let volume = ProjectedVolume::with(&issuer.flawed(Flaw::OtherIssuer));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.process.until_logged("code=access_denied", 1);
    volume.replace_token(&issuer.token(-60));
    sidecar.process.until_logged("code=subject_token_expired", 1);
    volume.replace_token(&issuer.token(3_600));
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

fn client_secret(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).unset("dex_basic_auth");
    let file = setup.directory().join("client");
    fs::write(&file, "private+app:canary-old").unwrap();
    let mut sidecar = setup.set("dex_file_basic_auth", file.to_str().unwrap()).run();
    sidecar.process.until_logged("code=invalid_client", 1);
    fs::write(&file, format!("private+app:{SECRET}")).unwrap();
    assert_eq!(claims(&sidecar.until_token())["aud"], "private+app");
    sidecar.process.until_logged("recovered", 1);
}

fn kinds_of_clients(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let setup = || Setup::new().subject(&volume).at(&dex);
    let encoded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let in_form = setup();
    let file = in_form.directory().join("secret");
    fs::write(&file, SECRET).unwrap();
    let in_form = in_form
        .set("dex_basic_auth", "")
        .set("dex_client_id", "private+app")
        .set("dex_file_client_secret", file.to_str().unwrap());
    for (how, setup, client) in [
        ("a public client", setup(), "user"),
        ("the id alone", setup().set("dex_basic_auth", "incus"), "incus"),
        ("a raw secret", setup().set("dex_basic_auth", format!("private+app:{SECRET}")), "private+app"),
        (
            "an encoded secret",
            setup().set("dex_basic_auth", format!("private%2Bapp:{encoded}")),
            "private+app",
        ),
        ("in the form", in_form, "private+app"),
        ("a public one in the form", setup().unset("dex_basic_auth").set("dex_client_id", "incus"), "incus"),
    ] {
        let done = setup.execute(&["once", "--timeout", "20s"]);
        assert_eq!(done.code, Some(0), "{how}\n{}", done.stderr);
        assert_eq!(claims(&fs::read_to_string(setup.output()).unwrap())["aud"], client, "{how}");
    }
}

fn unknown_connector(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).set("dex_connector_id", "kubernets").run();
    sidecar.process.until_logged("code=connector_unknown", 3);
    let reported = sidecar.process.logged("attempt_failed level=error code=connector_unknown");
    assert_eq!(reported, 1, "reported once\n{}", sidecar.process.output());
    assert!(sidecar.process.is_running() && sidecar.token().is_none());
    dex.until_logged("failed to get connector object from storage: not found");
}

fn sigterm(version: Version) {
    let issuer = issuer(version);
    let dex = Dex::start(&issuer, &of(version));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let token = sidecar.until_token();
    sidecar.process.until_logged("token_written", 1);
    dex.signal(Signal::STOP);
    // An exchange is under way when SIGTERM comes.
    sidecar.process.signal(Signal::HUP);
    assert_eq!(sidecar.terminate(), Some(0), "{}", sidecar.process.timeline());
    assert_eq!(sidecar.token(), Some(token));
    let mut waiting = Setup::new().subject(&volume).at(&dex).arguments("--attempt-timeout 1s").run();
    waiting.process.until_logged("code=timed_out", 1);
    assert_eq!(waiting.terminate(), Some(0), "{}", waiting.process.timeline());
    dex.signal(Signal::CONT);
}
