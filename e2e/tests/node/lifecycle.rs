//! A pod's life: it starts, goes on, ends; its sidecar dies and comes back.

use dexsidecar_e2e::app_image::APP;
use dexsidecar_e2e::dex::{Dex, Setup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, app, sidecar};
use dexsidecar_e2e::signing_key::claims;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{Story, dex};

pub(crate) const STORIES: &[Story] = &[
    ("f111_the_app_starts_when_the_token_is_there", f111_the_app_starts_when_the_token_is_there, false),
    ("a_pod_whose_app_ends_completes", a_pod_whose_app_ends_completes, false),
    ("a_job_completes", a_job_completes, false),
    ("the_page_s_job_completes", the_page_s_job_completes, false),
    ("a_killed_sidecar_comes_back_and_the_token_was_never_away", a_killed_sidecar_comes_back, false),
    ("dex_is_away_while_the_pod_starts", dex_is_away_while_the_pod_starts, false),
    ("eight_mebibytes_are_enough", eight_mebibytes_are_enough, false),
    ("a_token_of_ten_minutes_is_rotated_and_followed", a_rotated_token_is_followed, true),
];

/// The pod of docs/kubernetes.md, in a namespace that enforces the restricted standard.
fn f111_the_app_starts_when_the_token_is_there(node: &Node) {
    let dex = dex(node, "life-start", true, Setup::default());
    let script = "test -s /var/run/secrets/dex/token && echo the token is there; exec sleep infinity";
    let pod = Pod::apply(node, "life-start", &Manifest::hardened("app", &dex).app(script));
    let now = pod.until_running();
    assert_eq!(sidecar(&now)["started"], true, "by its probe");
    pod.until_said("app", "the token is there");
    let token = claims(&pod.token());
    assert_eq!(token["aud"], "incus");
    assert_eq!(token["name"], "system:serviceaccount:life-start:app");
    let check = pod.exec("dexsidecar", &["dexsidecar", "check"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(check.lines().all(|line| line.starts_with("ok")), "{check}");
    let ready = pod.exec("dexsidecar", &["dexsidecar", "ready"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(ready.contains(": valid, expires in 23h59m"), "{ready}");
    // What /proc says of it: the restricted standard is really in force.
    let status = std::fs::read_to_string(format!("/proc/{}/status", pod.pid("dexsidecar"))).expect("it runs");
    let said =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    assert_eq!((said("NoNewPrivs:"), said("Seccomp:"), said("CapBnd:")), ("1", "2", "0000000000000000"));
    assert_eq!(said("Threads:"), "1");
}

fn a_pod_whose_app_ends_completes(node: &Node) {
    let dex = dex(node, "life-end", true, Setup::default());
    let manifest = Manifest::hardened("app", &dex)
        .app("test -s /var/run/secrets/dex/token")
        .with(|pod| pod["spec"]["restartPolicy"] = "Never".into());
    let pod = Pod::apply(node, "life-end", &manifest);
    let now = pod.until("it has succeeded", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(app(&now)["state"]["terminated"]["exitCode"], 0);
    assert_eq!(sidecar(&now)["state"]["terminated"]["exitCode"], 0, "SIGTERM ends it with 0: {now:#}");
}

fn a_job_completes(node: &Node) {
    let dex = dex(node, "life-job", true, Setup::default());
    let mut template = Manifest::hardened("app", &dex)
        .app("test -s /var/run/secrets/dex/token && echo done")
        .with(|pod| pod["spec"]["restartPolicy"] = "Never".into())
        .0;
    template["metadata"] = json!({});
    template.as_object_mut().expect("an object").retain(|name, _| name == "metadata" || name == "spec");
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "app"},
        "spec": {"template": template, "backoffLimit": 0}
    });
    node.apply("life-job", &job).unwrap_or_else(|why| panic!("{why}"));
    let path = "/apis/batch/v1/namespaces/life-job/jobs/app";
    node.until("the Job has succeeded", || node.get(path)["status"]["succeeded"] == 1);
}

/// With `once` as a plain init container, as docs/kubernetes.md has it.
fn the_page_s_job_completes(node: &Node) {
    let dex = dex(node, "life-once", true, Setup::default());
    let job =
        doc_manifests::manifests("docs/kubernetes.md").into_iter().find(|manifest| manifest["kind"] == "Job");
    let mut job = job.expect("the page has a Job");
    let pod = Manifest(json!({"spec": job["spec"]["template"]["spec"]}))
        .env("dex_endpoint", &dex.endpoint())
        .with_ca()
        .app("test -s /var/run/secrets/dex/token")
        .with(|pod| pod["spec"]["containers"][0]["image"] = APP.into());
    job["spec"]["template"]["spec"] = pod.0["spec"].clone();
    node.apply("life-once", &job).unwrap_or_else(|why| panic!("{why}"));
    let path = "/apis/batch/v1/namespaces/life-once/jobs/nightly";
    node.until("the Job has succeeded", || node.get(path)["status"]["succeeded"] == 1);
}

fn a_killed_sidecar_comes_back(node: &Node) {
    let dex = dex(node, "life-kill", true, Setup::default());
    // The app looks at the token all the time, and says so if it is ever away.
    let script = "while :; do test -s /var/run/secrets/dex/token || echo the token is away; sleep 0.05; done";
    let pod = Pod::apply(node, "life-kill", &Manifest::hardened("app", &dex).app(script));
    pod.until_running();
    let before = pod.token();
    let pid = Pid::from_raw(pod.pid("dexsidecar").cast_signed()).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it runs");
    let now = pod.until("the sidecar is back", |pod| {
        sidecar(pod)["restartCount"] == 1 && sidecar(pod)["state"]["running"].is_object()
    });
    assert_eq!(sidecar(&now)["lastState"]["terminated"]["exitCode"], 137);
    pod.until_said("dexsidecar", "adopted existing token");
    assert!(!pod.token().is_empty() && !before.is_empty());
    assert_eq!(pod.log("app"), "");
    assert_eq!(app(&now)["restartCount"], 0, "the app noticed nothing");
}

fn dex_is_away_while_the_pod_starts(node: &Node) {
    let mut dex = dex(node, "life-away", true, Setup::default());
    dex.stop();
    let pod = Pod::apply(node, "life-away", &Manifest::hardened("app", &dex));
    pod.until_said("dexsidecar", "code=connect_refused");
    assert!(app(&pod.now())["state"]["waiting"].is_object(), "the app waits");
    let message = |pod: &Value| sidecar(pod)["restartCount"].clone();
    assert_eq!(message(&pod.now()), 0, "the sidecar waits too, and is not restarted");
    dex.resume();
    pod.until_running();
    pod.until_said("dexsidecar", "recovered");
}

fn eight_mebibytes_are_enough(node: &Node) {
    let dex: Dex = dex(node, "life-memory", true, Setup { lifetime: "10s".to_owned(), ..Setup::default() });
    let mut manifest = Manifest::hardened("app", &dex);
    manifest.sidecar()["resources"]["limits"]["memory"] = "8Mi".into();
    let pod = Pod::apply(node, "life-memory", &manifest);
    pod.until_running();
    for _ in 0..5 {
        pod.exec("dexsidecar", &["dexsidecar", "ready"]).unwrap_or_else(|why| panic!("{why}"));
    }
    let first = pod.token();
    node.until("the token is another one", || pod.token() != first);
    let now = pod.now();
    assert_eq!(sidecar(&now)["restartCount"], 0, "{}", pod.told());
    let peak = pod
        .memory("dexsidecar", "memory.max_usage_in_bytes")
        .or_else(|| pod.memory("dexsidecar", "memory.peak"));
    let peak = peak.expect("the kernel counts");
    assert!(peak < 8 << 20, "{peak} bytes at most");
}

/// The kubelet replaces a token of ten minutes when two of them are left.
fn a_rotated_token_is_followed(node: &Node) {
    let dex = dex(node, "life-rotation", true, Setup { lifetime: "60s".to_owned(), ..Setup::default() });
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        let projected =
            volumes.iter_mut().find(|volume| volume["projected"].is_object()).expect("it is there");
        projected["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = 600.into();
    });
    let pod = Pod::apply(node, "life-rotation", &manifest);
    pod.until_running();
    let subject = || {
        let path = format!("/proc/{}/root/var/run/secrets/subject/token", pod.pid("dexsidecar"));
        std::fs::read_to_string(path).expect("the kubelet keeps it there")
    };
    let first = subject();
    let ends = claims(&first)["exp"].as_u64().expect("a number");
    let start = std::time::Instant::now();
    while subject() == first {
        assert!(start.elapsed().as_secs() < 700, "the kubelet does not replace the token");
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    // Past the end of the first one, only the second can have bought what is there.
    while dexsidecar_e2e::signing_key::now() < ends + 70 {
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    let token = claims(&pod.token());
    assert!(token["exp"].as_u64() > Some(dexsidecar_e2e::signing_key::now()), "{token}");
    assert_eq!(sidecar(&pod.now())["restartCount"], 0);
    assert!(!pod.log("dexsidecar").contains("error"), "{}", pod.log("dexsidecar"));
}
