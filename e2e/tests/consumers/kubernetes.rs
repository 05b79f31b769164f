//! kube-apiserver trusts Dex, and kubectl sends the token.

use std::fs;
use std::time::Duration;

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::control_plane::{ControlPlane, PlaneSetup};
use dexsidecar_e2e::sandbox::ADDRESS;
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_fetch::counterparts::{API_SERVER, ETCD, KUBECTL, Source};

use crate::world::{
    CA_FILE, HOME, Sidecar, World, http_status, install, start, transcript, until, until_expired, write,
};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(kubectl_and_kube_apiserver_use_each_new_token, NEEDS)];

const NEEDS: &[Source] = &[Source::Go(ETCD), Source::Go(API_SERVER), Source::Go(KUBECTL)];

const URL: &str = "https://kubernetes.example.com:6443/api/v1/namespaces/default/configmaps";

fn kubectl_and_kube_apiserver_use_each_new_token(world: &World) {
    let page = Page::of("kubernetes");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/kubernetes.yaml");
    let plane = ControlPlane::start_with(PlaneSetup {
        address: ADDRESS,
        port: Some(6443),
        names: vec!["kubernetes.example.com"],
        arguments: vec!["--authentication-config=/etc/kubernetes/authentication.yaml"],
        environment: vec![("SSL_CERT_FILE", CA_FILE)],
    });
    write("/etc/kubernetes/ca.crt", &fs::read(plane.authority().file()).expect("a CA file"));
    plane.apply(page.file("/etc/kubernetes/rbac.yaml"), &[]).expect("RBAC objects");
    let first = sidecar.until_another_token("");
    until("the API server has Dex's keys", || http_status(URL, Some(&world.issue("kubernetes"))) == "200");

    install("kubectl", plane.kubectl_program());
    let variables = [("HOME", HOME), ("KUBECONFIG", "/etc/kubernetes/kubeconfig")];
    let mut transcript = transcript(&variables);
    transcript.run("kubectl auth whoami");
    transcript.run("kubectl get pods");
    let exec = "kubectl --kubeconfig /etc/kubernetes/exec.kubeconfig auth whoami -o jsonpath='{.status.userInfo.username}'";
    transcript.run(exec);
    // Programs that run on.
    let exec_variables = [("HOME", HOME), ("KUBECONFIG", "/etc/kubernetes/exec.kubeconfig")];
    let mut exec_proxy =
        start("kubectl proxy", plane.kubectl_program(), "proxy --port=8002", &exec_variables);
    let through_exec_proxy =
        || http_status("http://127.0.0.1:8002/api/v1/namespaces/default/configmaps", None);
    exec_proxy.until("the proxy answers", |_| through_exec_proxy() == "200");
    let mut proxy = start("kubectl proxy", plane.kubectl_program(), "proxy --port=8001", &variables);
    let through_proxy = || http_status("http://127.0.0.1:8001/api/v1/namespaces/default/configmaps", None);
    proxy.until("the proxy answers", |_| through_proxy() == "200");

    page.result("answers", &world.answers("kubernetes", "200", |token| http_status(URL, token)));

    // With the expiry in the credential, no request is refused.
    assert_eq!(through_exec_proxy(), "200");
    let current = sidecar.until_another_token("");
    let expires = claims(&current)["exp"].as_u64().expect("a token of Dex expires");
    while now() <= expires {
        assert_eq!(through_exec_proxy(), "200", "{}", exec_proxy.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(through_exec_proxy(), "200", "{}", exec_proxy.output());
    sidecar.until_another_token(&first);
    until_expired(&first);
    until("the first token is refused", || http_status(URL, Some(&first)) == "401");
    transcript.meanwhile("dexsidecar refreshed the token, and kube-apiserver refuses the first one");
    transcript.run("kubectl auth whoami -o jsonpath='{.status.userInfo.username}'");
    assert_eq!(transcript.run(exec), "dex:system:serviceaccount:default:app");
    proxy.until("the proxy sends the new token", |_| through_proxy() == "200");
    page.result("transcript", &transcript.block());
}
