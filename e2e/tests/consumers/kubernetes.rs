//! kube-apiserver trusts Dex, and kubectl sends the token.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dexsidecar_e2e::consumer_page::{Page, Transcript};
use dexsidecar_e2e::control_plane::{ControlPlane, PlaneSetup};
use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::fake_api_server::ClusterIssuer as _;
use dexsidecar_e2e::sandbox::ADDRESS;
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_fetch::counterparts::{API_SERVER, ETCD, KUBECTL, Source};
use serde_json::json;

use crate::world::{
    CA_FILE, HOME, ISSUER, Sidecar, World, cached_token, http_status, install, start, transcript, until,
    until_expired, without_outputs, write,
};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[
    test!(kubectl_and_kube_apiserver_use_each_new_token, NEEDS),
    test!(fifty_calls_of_kubectl_at_once_make_one_exchange, NEEDS),
];

const NEEDS: &[Source] = &[Source::Go(ETCD), Source::Go(API_SERVER), Source::Go(KUBECTL)];

const URL: &str = "https://kubernetes.example.com:6443/api/v1/namespaces/default/configmaps";

/// The files of the page.
const CONFIG: &str = "/etc/dexsidecar/kubernetes.yaml";
const AUTHENTICATION: &str = "/etc/kubernetes/authentication.yaml";
const EXEC: &str = "/etc/kubernetes/exec.kubeconfig";

/// The user in kube-apiserver.
const USER: &str = "dex:system:serviceaccount:default:app";

/// The command that prints the user.
fn who_am_i(kubectl: &str) -> String {
    format!("{kubectl} auth whoami -o jsonpath='{{.status.userInfo.username}}'")
}

/// An `XDG_RUNTIME_DIR`, and a kubeconfig whose plugin works where no dexsidecar runs.
struct Alone {
    runtime: String,
    kubeconfig: String,
}

impl Alone {
    /// Writes the files. `change` changes those of the page.
    fn new(page: &Page, name: &str, change: impl Fn(&str) -> String) -> Self {
        let config = format!("/etc/dexsidecar/{name}.yaml");
        write(&config, change(&without_outputs(page.file(CONFIG))).as_bytes());
        let kubeconfig = format!("/etc/kubernetes/{name}.kubeconfig");
        write(&kubeconfig, change(&page.file(EXEC).replace(CONFIG, &config)).as_bytes());
        let runtime = format!("/run/user/{name}");
        fs::create_dir_all(&runtime).expect("/run is writable");
        Self { runtime, kubeconfig }
    }

    fn user(&self, transcript: &Transcript) -> String {
        let Self { runtime, kubeconfig } = self;
        let kubectl = format!("XDG_RUNTIME_DIR={runtime} kubectl --kubeconfig {kubeconfig}");
        transcript.quietly(&who_am_i(&kubectl))
    }

    fn cached_token(&self) -> String {
        cached_token(Path::new(&self.runtime))
    }
}

fn kubectl_and_kube_apiserver_use_each_new_token(world: &World) {
    let page = Page::of("kubernetes");
    let mut sidecar = Sidecar::start(&page, CONFIG);
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
    let exec = who_am_i("kubectl --kubeconfig /etc/kubernetes/exec.kubeconfig");
    transcript.run(&exec);
    let file = who_am_i("kubectl --kubeconfig /etc/kubernetes/exec.kubeconfig --context file");
    assert_eq!(transcript.quietly(&file), USER);
    let beta = page.file(EXEC).replace("authentication.k8s.io/v1", "authentication.k8s.io/v1beta1");
    write("/etc/kubernetes/beta.kubeconfig", beta.as_bytes());
    assert_eq!(transcript.quietly(&who_am_i("kubectl --kubeconfig /etc/kubernetes/beta.kubeconfig")), USER);
    let alone = Alone::new(&page, "kubernetes-alone", str::to_owned);
    assert_eq!(alone.user(&transcript), USER);
    let first_alone = alone.cached_token();

    // Programs that run on.
    let exec_variables = [("HOME", HOME), ("KUBECONFIG", EXEC)];
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
    transcript.run(&who_am_i("kubectl"));
    assert_eq!(transcript.run(&exec), USER);
    assert_eq!(transcript.quietly(&file), USER);
    until_expired(&first_alone);
    assert_eq!(alone.user(&transcript), USER);
    assert_ne!(alone.cached_token(), first_alone, "the plugin exchanged again after the expiry");
    proxy.until("the proxy sends the new token", |_| through_proxy() == "200");
    page.result("transcript", &transcript.block());
}

/// With a Dex of its own, whose metrics count the exchanges of these calls only.
fn fifty_calls_of_kubectl_at_once_make_one_exchange(world: &World) {
    let page = Page::of("kubernetes");
    let dex = world.another_dex(&DexSetup {
        clients: vec![json!({"id": "kubernetes", "name": "kubernetes", "public": true})],
        ..DexSetup::default()
    });
    let ca_file = "/etc/dex/fifty.crt";
    write(ca_file, &fs::read(dex.ca_file()).expect("a CA file"));
    let authentication = page.file(AUTHENTICATION).replace(ISSUER, &dex.issuer());
    write("/etc/kubernetes/fifty-authentication.yaml", authentication.as_bytes());
    let plane = ControlPlane::start_with(PlaneSetup {
        address: ADDRESS,
        arguments: vec!["--authentication-config=/etc/kubernetes/fifty-authentication.yaml"],
        environment: vec![("SSL_CERT_FILE", ca_file)],
        ..PlaneSetup::default()
    });
    write("/etc/kubernetes/fifty-ca.crt", &fs::read(plane.authority().file()).expect("a CA file"));
    install("kubectl", plane.kubectl_program());
    let alone = Alone::new(&page, "fifty", |file| {
        file.replace(ISSUER, &dex.issuer())
            .replace(CA_FILE, ca_file)
            .replace("https://kubernetes.example.com:6443", &plane.url())
            .replace("/etc/kubernetes/ca.crt", "/etc/kubernetes/fifty-ca.crt")
    });
    let transcript = transcript(&[]);
    until("the API server trusts this Dex", || alone.user(&transcript) == USER);
    assert_eq!(dex.requests_served("/token"), 1);
    fs::remove_dir_all(Path::new(&alone.runtime).join("dexsidecar")).expect("the cache");
    let users: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..50).map(|_| scope.spawn(|| alone.user(&transcript))).collect();
        calls.into_iter().map(|call| call.join().expect("kubectl was run")).collect()
    });
    assert_eq!(users, [USER; 50]);
    assert_eq!(dex.requests_served("/token"), 2);
}
