//! Real ServiceAccount tokens of a real kube-apiserver, a real Dex that trusts it as the README says, and the sidecar: in
//! good times and in bad.

use std::fs;

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::dex::{Dex, Setup as DexSetup};
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::signing_key::claims;
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

#[test]
fn a_service_account_s_token_buys_dex_s_and_goes_on_buying_it() {
    let mut cluster = ControlPlane::start();
    let mut dex = Dex::start(&cluster, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = Volume::with(&cluster.token(600));

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

    // The API server stands still: Dex has its keys, and tokens go on coming.
    cluster.signal(Signal::STOP);
    let second = sidecar.until_another_token(&first);
    cluster.signal(Signal::CONT);

    // It is restarted with another key, and the kubelet brings a token signed with that: Dex fetches the key by itself.
    cluster.stop();
    cluster.rotate_key();
    cluster.resume();
    volume.put(&cluster.token(600));
    let third = sidecar.until_another_token(&second);

    // Dex is restarted, and has lost its own keys.
    dex.stop();
    sidecar.process.until_logged("code=connect_refused", 1);
    dex.resume();
    sidecar.until_another_token(&third);
    sidecar.process.until_logged("recovered", 1);
    assert_eq!(sidecar.terminate(), Some(0));
}

#[test]
fn what_users_forget_in_the_cluster_is_named() {
    let cluster = ControlPlane::start();
    // Nobody but ServiceAccounts may read the issuer's keys: Dex, which is none, cannot open its connector.
    cluster.kubectl(&["delete", "clusterrolebinding", "dex-discovery"]);
    let volume = Volume::with(&cluster.token(600));
    let dex = Dex::start(&cluster, &DexSetup::default());
    let setup = Setup::new().subject(&volume).at(&dex);
    let told = failed_step(&report(&setup));
    assert_eq!(told["code"], "connector_unknown", "{told:#}");
    assert!(
        told["fix"].as_str().is_some_and(|hint| hint.contains("system:service-account-issuer-discovery"))
    );
    // Dex 2.45 opens it at the next request that names it.
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
