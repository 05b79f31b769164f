//! ServiceAccount tokens of a real kube-apiserver, and a real Dex that trusts it as the README
//! describes, through outages and key rotations of both.

use std::fs;

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::signing_key::claims;
use rustix::process::Signal;

#[test]
fn a_service_account_token_is_exchanged_through_outages_and_key_rotations() {
    let mut cluster = ControlPlane::start();
    let mut dex = Dex::start(&cluster, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&cluster.token(600));

    let subject = claims(&fs::read_to_string(volume.token()).expect("a token"));
    assert_eq!(subject["iss"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(subject["aud"], serde_json::json!(["dex"]));

    let setup = Setup::new().subject(&volume).at(&dex);
    let sound = report(&setup);
    assert_eq!(sound["ok"], true, "{sound:#}");
    let mut sidecar = setup.run();
    let first = sidecar.until_token();
    assert_eq!(claims(&first)["name"], "system:serviceaccount:default:app");
    assert_eq!(claims(&first)["federated_claims"]["user_id"], "system:serviceaccount:default:app");

    // The API server is frozen. Dex has its keys in memory, so the token is refreshed.
    cluster.signal(Signal::STOP);
    let second = sidecar.until_another_token(&first);
    cluster.signal(Signal::CONT);

    // The API server is restarted with another key, and the subject token is signed with it. Dex
    // fetches the key.
    cluster.stop();
    cluster.rotate_key();
    cluster.resume();
    volume.replace_token(&cluster.token(600));
    let third = sidecar.until_another_token(&second);

    // Dex is restarted with other keys.
    dex.stop();
    sidecar.process.until_logged("code=connect_refused", 1);
    dex.resume();
    sidecar.until_another_token(&third);
    sidecar.process.until_logged("recovered", 1);
    assert_eq!(sidecar.terminate(), Some(0));
}

#[test]
fn check_names_the_missing_role_binding_for_discovery() {
    let cluster = ControlPlane::start();
    // Without this binding only ServiceAccounts can read the issuer's keys, so Dex cannot open its
    // connector.
    cluster.kubectl(&["delete", "clusterrolebinding", "dex-discovery"]);
    let volume = ProjectedVolume::with(&cluster.token(600));
    let dex = Dex::start(&cluster, &DexSetup::default());
    let setup = Setup::new().subject(&volume).at(&dex);
    let failed = failed_step(&report(&setup));
    assert_eq!(failed["code"], "connector_unknown", "{failed:#}");
    assert!(
        failed["fix"].as_str().is_some_and(|fix| fix.contains("system:service-account-issuer-discovery"))
    );
    // Dex 2.45 opens the connector at the next request that names it.
    let role = "--clusterrole=system:service-account-issuer-discovery";
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "dex-discovery",
        role,
        "--group=system:unauthenticated",
    ]);
    let mut sidecar = setup.run();
    sidecar.until_token();
}
