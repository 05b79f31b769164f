//! The lifecycle of a pod: start, refresh, end, and a sidecar that is killed and restarted.

use dexsidecar_e2e::app_image::APP;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, app, sidecar};
use dexsidecar_e2e::signing_key::claims;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![
    f111_the_app_starts_after_the_token_file_exists,
    a_pod_completes_when_its_app_exits,
    a_job_with_the_sidecar_completes,
    the_job_of_the_docs_completes,
    the_token_file_exists_while_a_killed_sidecar_is_restarted,
    the_app_starts_once_dex_is_up,
    the_commands_of_the_operations_page_work,
    a_memory_limit_of_8_mib_is_enough;
    minutes: a_rotated_subject_token_is_used,
];

/// The pod of docs/kubernetes.md, in a namespace that enforces the restricted standard.
fn f111_the_app_starts_after_the_token_file_exists(node: &Node) {
    let dex = dex(node, "life-start", true, DexSetup::default());
    let script = "test -s /var/run/secrets/dex/token && echo the token is there; exec sleep infinity";
    let pod = Pod::apply(node, "life-start", &Manifest::hardened("app", &dex).app(script));
    let now = pod.until_running();
    assert_eq!(sidecar(&now)["started"], true, "its startup probe succeeds");
    pod.until_line("app", "the token is there");
    let token = claims(&pod.token());
    assert_eq!(token["aud"], "incus");
    assert_eq!(token["name"], "system:serviceaccount:life-start:app");
    let check = pod.exec("dexsidecar", &["dexsidecar", "check"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(check.lines().all(|line| line.starts_with("ok")), "{check}");
    let ready = pod.exec("dexsidecar", &["dexsidecar", "ready"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(ready.contains(": valid, expires in 23h59m"), "{ready}");
    // The restricted standard is in force.
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", pod.pid("dexsidecar"))).expect("it is running");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:"), field("CapBnd:")), ("1", "2", "0000000000000000"));
    assert_eq!(field("Threads:"), "1");
}

fn the_commands_of_the_operations_page_work(node: &Node) {
    let dex = dex(node, "operations", true, DexSetup::default());
    let pod = Pod::apply(node, "operations", &Manifest::hardened("app", &dex));
    pod.until_running();
    let blocks = doc_manifests::fenced("docs/operations.md");
    // Those that need no node are executed in e2e/tests/docs/operations_page.rs.
    let commands = blocks.iter().flat_map(|block| doc_manifests::commands(&block.text));
    let commands: Vec<_> =
        commands.filter(|command| command.starts_with(&["kubectl".into(), "exec".into()])).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let before = pod.token();
        let arguments: Vec<_> = command[1..].iter().map(|word| word.replace("POD", "app")).collect();
        let (output, code) = pod.kubectl_run(&arguments);
        assert_eq!(code, Some(0), "{command:?}: {output}");
        let refreshes = command.last().is_some_and(|word| word == "refresh");
        assert_eq!(pod.token() != before, refreshes, "{command:?}: {output}");
    }
}

fn a_pod_completes_when_its_app_exits(node: &Node) {
    let dex = dex(node, "life-end", true, DexSetup::default());
    let manifest = Manifest::hardened("app", &dex)
        .app("test -s /var/run/secrets/dex/token")
        .with(|pod| pod["spec"]["restartPolicy"] = "Never".into());
    let pod = Pod::apply(node, "life-end", &manifest);
    let now = pod.until("it has succeeded", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(app(&now)["state"]["terminated"]["exitCode"], 0);
    assert_eq!(sidecar(&now)["state"]["terminated"]["exitCode"], 0, "exit code after SIGTERM: {now:#}");
}

fn a_job_with_the_sidecar_completes(node: &Node) {
    let dex = dex(node, "life-job", true, DexSetup::default());
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
fn the_job_of_the_docs_completes(node: &Node) {
    let dex = dex(node, "life-once", true, DexSetup::default());
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

fn the_token_file_exists_while_a_killed_sidecar_is_restarted(node: &Node) {
    let dex = dex(node, "life-kill", true, DexSetup::default());
    // The app polls the token file and logs when it is missing.
    let script =
        "while :; do test -s /var/run/secrets/dex/token || echo the file is missing; sleep 0.05; done";
    let pod = Pod::apply(node, "life-kill", &Manifest::hardened("app", &dex).app(script));
    pod.until_running();
    let before = pod.token();
    let pid = Pid::from_raw(pod.pid("dexsidecar").cast_signed()).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it is running");
    let now = pod.until("the sidecar is running again", |pod| {
        sidecar(pod)["restartCount"] == 1 && sidecar(pod)["state"]["running"].is_object()
    });
    assert_eq!(sidecar(&now)["lastState"]["terminated"]["exitCode"], 137);
    pod.until_event("dexsidecar", "token_adopted");
    assert!(!pod.token().is_empty() && !before.is_empty());
    assert_eq!(pod.log("app"), "");
    assert_eq!(app(&now)["restartCount"], 0, "the app was not restarted");
}

fn the_app_starts_once_dex_is_up(node: &Node) {
    let mut dex = dex(node, "life-away", true, DexSetup::default());
    dex.stop();
    let pod = Pod::apply(node, "life-away", &Manifest::hardened("app", &dex));
    pod.until_line("dexsidecar", "code=connect_refused");
    assert!(app(&pod.now())["state"]["waiting"].is_object(), "the app waits");
    assert_eq!(sidecar(&pod.now())["restartCount"], 0, "the sidecar goes on trying");
    dex.resume();
    pod.until_running();
    pod.until_event("dexsidecar", "recovered");
}

fn a_memory_limit_of_8_mib_is_enough(node: &Node) {
    let dex: Dex =
        dex(node, "life-memory", true, DexSetup { lifetime: "10s".to_owned(), ..DexSetup::default() });
    let mut manifest = Manifest::hardened("app", &dex);
    manifest.sidecar()["resources"]["limits"]["memory"] = "8Mi".into();
    let pod = Pod::apply(node, "life-memory", &manifest);
    pod.until_running();
    for _ in 0..5 {
        pod.exec("dexsidecar", &["dexsidecar", "ready"]).unwrap_or_else(|why| panic!("{why}"));
    }
    let first = pod.token();
    node.until("the token was refreshed", || pod.token() != first);
    let now = pod.now();
    assert_eq!(sidecar(&now)["restartCount"], 0, "{}", pod.diagnostics());
    let peak = pod
        .memory("dexsidecar", "memory.max_usage_in_bytes")
        .or_else(|| pod.memory("dexsidecar", "memory.peak"));
    let peak = peak.expect("the cgroup has a peak");
    assert!(peak < 8 << 20, "a peak of {peak} bytes");
}

/// The kubelet replaces a token with a lifetime of ten minutes after eight.
fn a_rotated_subject_token_is_used(node: &Node) {
    let dex =
        dex(node, "life-rotation", true, DexSetup { lifetime: "60s".to_owned(), ..DexSetup::default() });
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        let projected =
            volumes.iter_mut().find(|volume| volume["projected"].is_object()).expect("the pod has it");
        projected["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = 600.into();
    });
    let pod = Pod::apply(node, "life-rotation", &manifest);
    pod.until_running();
    let subject = || {
        let path = format!("/proc/{}/root/var/run/secrets/subject/token", pod.pid("dexsidecar"));
        std::fs::read_to_string(path).expect("the kubelet writes it")
    };
    let first = subject();
    let first_expires = claims(&first)["exp"].as_u64().expect("a number");
    let start = std::time::Instant::now();
    while subject() == first {
        assert!(start.elapsed().as_secs() < 700, "the kubelet does not replace the token");
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    // A token with a lifetime of 60 s that is valid now was issued for the second subject token.
    while dexsidecar_e2e::signing_key::now() < first_expires + 70 {
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    let token = claims(&pod.token());
    assert!(token["exp"].as_u64() > Some(dexsidecar_e2e::signing_key::now()), "{token}");
    assert_eq!(sidecar(&pod.now())["restartCount"], 0);
    assert!(!pod.log("dexsidecar").contains("error"), "{}", pod.log("dexsidecar"));
}
