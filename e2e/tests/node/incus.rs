//! The use case of the original: a pod authenticates to Incus with the token that its sidecar
//! refreshes.

use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod};

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![incus_trusts_a_pod_through_restarts_of_incus_and_dex];

fn incus_trusts_a_pod_through_restarts_of_incus_and_dex(node: &Node) {
    let mut dex = dex(node, "incus", true, DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let mut incus = Incus::start(&dex);
    let manifest = Manifest::hardened("app", &dex).env("DEXSIDECAR_KEY_CHECK", "2s");
    let pod = Pod::apply(node, "incus", &manifest);
    pod.until_running();
    let trusted = "auth: trusted\nauth_user_name: system:serviceaccount:incus:app\n";
    assert_eq!(incus.authentication_of(&pod, false), "auth: untrusted\nauth_user_name: none\n");
    assert_eq!(incus.authentication_of(&pod, true), trusted, "with the first token");

    // No request is refused while tokens are refreshed.
    let mut tokens = vec![pod.token()];
    while tokens.len() < 4 {
        assert_eq!(incus.authentication_of(&pod, true), trusted, "with token {}", tokens.len());
        let token = pod.token();
        if tokens.last() != Some(&token) {
            tokens.push(token);
        }
    }

    // Incus is restarted, and trusts the pod as before.
    incus.stop();
    incus.resume();
    assert_eq!(incus.authentication_of(&pod, true), trusted, "after Incus was restarted");

    // Dex is restarted and has other keys. The token on disk is replaced before it expires.
    dex.stop();
    dex.resume();
    let before = pod.token();
    node.until("the token was replaced", || pod.token() != before);
    node.until("Incus trusts the pod again", || incus.authentication_of(&pod, true) == trusted);
}
