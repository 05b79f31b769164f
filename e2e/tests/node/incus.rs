//! The original's story: a pod logs in to Incus with the token that its sidecar keeps.

use dexsidecar_e2e::dex::Setup;
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod};

use crate::{Story, dex};

pub(crate) const STORIES: &[Story] = &[("a_pod_stays_logged_in_to_incus", a_pod_stays_logged_in, false)];

fn a_pod_stays_logged_in(node: &Node) {
    let mut dex = dex(node, "incus", true, Setup { lifetime: "20s".to_owned(), ..Setup::default() });
    let mut incus = Incus::start(&dex);
    let manifest = Manifest::hardened("app", &dex).env("DEXSIDECAR_KEY_CHECK", "2s");
    let pod = Pod::apply(node, "incus", &manifest);
    pod.until_running();
    let trusted = "auth: trusted\nauth_user_name: system:serviceaccount:incus:app\n";
    assert_eq!(incus.asked_by(&pod, false), "auth: untrusted\nauth_user_name: nothing\n");
    assert_eq!(incus.asked_by(&pod, true), trusted, "at first");

    // While tokens come and go nothing is ever refused.
    let mut tokens = vec![pod.token()];
    while tokens.len() < 4 {
        assert_eq!(incus.asked_by(&pod, true), trusted, "with token {}", tokens.len());
        let token = pod.token();
        if tokens.last() != Some(&token) {
            tokens.push(token);
        }
    }

    // Incus is restarted, and knows the pod as before.
    incus.stop();
    incus.resume();
    assert_eq!(incus.asked_by(&pod, true), trusted, "after Incus was restarted");

    // Dex is restarted and has other keys. The token on disk is worthless now, and is replaced before it would expire.
    dex.stop();
    dex.resume();
    let before = pod.token();
    node.until("there is another token", || pod.token() != before);
    node.until("Incus trusts the pod again", || incus.asked_by(&pod, true) == trusted);
}
