//! The original's story: a pod logs in to Incus with the token that its sidecar keeps.

use dexsidecar_e2e::dex::Setup;
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod};
use serde_json::Value;

use crate::{Story, dex};

pub(crate) const STORIES: &[Story] = &[("a_pod_stays_logged_in_to_incus", a_pod_stays_logged_in, false)];

/// Incus answers 200 to anybody; what it says of the caller counts.
fn says(pod: &Pod<'_>, incus: &Incus) -> (String, String) {
    let script = format!(
        "curl -sS -k --max-time 10 -H \"Authorization: Bearer $(cat /var/run/secrets/dex/token)\" {}/1.0",
        incus.url()
    );
    let answer = pod.exec("app", &["sh", "-c", &script]).unwrap_or_default();
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    let text = |name: &str| answer["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("auth"), text("auth_user_name"))
}

fn a_pod_stays_logged_in(node: &Node) {
    let mut dex = dex(node, "incus", true, Setup { lifetime: "20s".to_owned(), ..Setup::default() });
    let mut incus = Incus::start(&dex);
    let manifest = Manifest::of_the_readme("app", &dex).env("DEXSIDECAR_KEY_CHECK", "2s");
    let pod = Pod::apply(node, "incus", &manifest);
    pod.until_running();
    let trusted = ("trusted".to_owned(), "system:serviceaccount:incus:app".to_owned());
    assert_eq!(says(&pod, &incus), trusted, "at first");

    // While tokens come and go nothing is ever refused.
    let mut tokens = vec![pod.token()];
    while tokens.len() < 4 {
        assert_eq!(says(&pod, &incus), trusted, "with token {}", tokens.len());
        let token = pod.token();
        if tokens.last() != Some(&token) {
            tokens.push(token);
        }
    }

    // Incus is restarted, and knows the pod as before.
    incus.stop();
    incus.resume();
    assert_eq!(says(&pod, &incus), trusted, "after Incus was restarted");

    // Dex is restarted and has other keys. The token on disk is worthless now, and is replaced before it would expire.
    dex.stop();
    dex.resume();
    let before = pod.token();
    node.until("there is another token", || pod.token() != before);
    node.until("Incus trusts the pod again", || says(&pod, &incus) == trusted);
}
