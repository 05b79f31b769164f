//! A demo: a pod on a real Kubernetes node gets a token from a real Dex, and a real Incus trusts
//! it. It all runs in a sandbox, of which nothing is left when the demo ends.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the demo is what it prints")]

use std::fs;
use std::io::IsTerminal as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::node::{IMAGE, Node};
use dexsidecar_e2e::pod::{Manifest, Pod, app, sidecar};
use dexsidecar_e2e::sandbox::{self, ADDRESS};
use dexsidecar_e2e::signing_key::claims;
use dexsidecar_fetch::machine;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Short, so that the token is refreshed while somebody watches.
const LIFETIME: &str = "60s";

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if sandbox::inside() {
        sandbox::set_up();
        demo(given.iter().any(|argument| argument == "--once-around"));
        return ExitCode::SUCCESS;
    }
    if let Err(why) = machine::look_for_node() {
        eprintln!("this demo needs root and Linux namespaces: {why}");
        return ExitCode::FAILURE;
    }
    println!("building and fetching what is not in the cache (the first time this takes minutes)");
    match Incus::prepare().and_then(|()| Node::prepare()) {
        Ok(image) => sandbox::run_inside(&given, &[(IMAGE, &image)]),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints each step with the seconds since the start.
struct Steps {
    start: Instant,
}

impl Steps {
    fn print(&self, step: &str) {
        println!("{:5.1} s  {step}", self.start.elapsed().as_secs_f64());
    }
}

fn demo(once_around: bool) {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("signal handlers can be installed");
    }
    let steps = Steps { start: Instant::now() };
    println!();
    steps.print("starting etcd, kube-apiserver, scheduler, controllers, containerd and kubelet in a sandbox");
    let node = Node::start();
    steps.print("the node is ready; the image of dexsidecar was imported, so no registry is needed");
    let dex = Dex::start(
        &node.plane,
        &DexSetup { address: ADDRESS, lifetime: LIFETIME.to_owned(), ..DexSetup::default() },
    );
    node.namespace("demo", true, &dex);
    steps.print(&format!(
        "Dex is running: it issues {LIFETIME} tokens, and its connector trusts this cluster: {}",
        dex.issuer()
    ));
    let incus = Incus::start(&dex);
    steps.print(&format!("Incus is running and trusts this Dex only: {}", incus.url()));
    let script = "test -s /var/run/secrets/dex/token && echo the token is there; exec sleep infinity";
    let manifest = Manifest::hardened("app", &dex).app(script);
    let pod = Pod::apply(&node, "demo", &manifest);
    steps.print(
        "kubectl apply: the pod of docs/kubernetes.md, in a namespace that enforces the restricted standard",
    );
    pod.until("the sidecar is running", |pod| sidecar(pod)["state"]["running"].is_object());
    steps.print("the sidecar is running; the app starts after its startup probe (dexsidecar ready) succeeds");
    pod.until_running();
    steps.print("the probe has succeeded, and the app is running");
    shown("kubectl get pods --namespace demo", &node.plane.kubectl(&["get", "pods", "--namespace", "demo"]));
    shown("kubectl logs app --container dexsidecar", &pod.log("dexsidecar"));
    let subject = "/var/run/secrets/subject/token";
    if let Ok(subject) = fs::read_to_string(format!("/proc/{}/root{subject}", pod.pid("dexsidecar"))) {
        shown("claims of the subject token", &listed(&claims(&subject), &["iss", "sub", "aud"]));
    }
    let token = claims(&pod.token());
    shown("claims of the issued token", &listed(&token, &["iss", "aud", "name", "federated_claims"]));
    shown("Incus, called by the app without a token", &incus.authentication_of(&pod, false));
    shown("Incus, called by the app with the token in the file", &incus.authentication_of(&pod, true));
    steps.print("Incus trusts the pod");
    shown("memory and threads of the sidecar", &footprint(&pod));
    shown("startup time of the app", &startup_times(&node, &manifest));
    if once_around {
        steps.print("--once-around: the demo ends here");
    } else {
        leave_a_shell(&node, &stop);
    }
    drop(pod);
    println!("\nstopping everything");
}

fn shown(title: &str, text: &str) {
    println!("\n   {title}\n");
    for line in text.trim_end().lines() {
        println!("      {line}");
    }
    println!();
}

fn listed(claims: &Value, names: &[&str]) -> String {
    names.iter().map(|name| format!("{name}: {}\n", claims[name])).collect()
}

fn footprint(pod: &Pod<'_>) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", pod.pid("dexsidecar"))).unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("Threads"));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    let peak = ["memory.max_usage_in_bytes", "memory.peak"];
    if let Some(peak) = peak.iter().find_map(|file| pod.memory("dexsidecar", file)) {
        text += &format!("peak of the container's cgroup: {} KiB, with its probes and runc\n", peak >> 10);
    }
    text
}

/// How long the app takes to start without and with the sidecar.
fn startup_times(node: &Node, manifest: &Manifest) -> String {
    let start = |name: &str, with: bool| {
        let manifest = manifest.clone().with(|pod| {
            pod["metadata"]["name"] = name.into();
            if !with && let Some(spec) = pod["spec"].as_object_mut() {
                spec.remove("initContainers");
            }
        });
        let start = Instant::now();
        let pod = Pod::apply(node, "demo", &manifest);
        pod.until("the app is running", |pod| app(pod)["state"]["running"].is_object());
        start.elapsed().as_secs_f64()
    };
    let (without, with) = (start("without", false), start("with", true));
    format!("from kubectl apply to a running app: {without:.1} s without a sidecar, {with:.1} s with it\n")
}

/// Starts a shell with kubectl on a terminal. Without a terminal it waits for a signal.
fn leave_a_shell(node: &Node, stop: &AtomicBool) {
    let tools = Path::new("/run/dexsidecar/bin");
    let _ = fs::create_dir(tools);
    let _ = symlink(node.plane.kubectl_program(), tools.join("kubectl"));
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    shell.env("KUBECONFIG", node.plane.kubeconfig()).env("PATH", path).env("PS1", "dexsidecar demo $ ");
    if std::io::stdin().is_terminal() {
        println!(
            "a shell in the sandbox, with kubectl; the pod is in the namespace demo. `exit` stops everything:\n"
        );
        println!("   kubectl -n demo logs app -c dexsidecar -f");
        println!("   kubectl -n demo exec app -c dexsidecar -- dexsidecar check\n");
        let _ = shell.status();
        return;
    }
    println!("running until Ctrl-C; KUBECONFIG={}", node.plane.kubeconfig().display());
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
    }
}
