//! The whole story, to be watched: a pod on a real Kubernetes node gets a token from a real Dex, and a real Incus trusts it.
//! Everything is in namespaces of its own, and gone when this ends, however it ends.

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

/// Short, so that something is to be seen.
const LIFETIME: &str = "60s";

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if sandbox::inside() {
        sandbox::set_up();
        story(given.iter().any(|argument| argument == "--once-around"));
        return ExitCode::SUCCESS;
    }
    if let Err(why) = machine::look_for_node() {
        eprintln!("this demo needs a machine that it can make namespaces on: {why}");
        return ExitCode::FAILURE;
    }
    println!("building and fetching what is not in the cache yet; the first time this takes minutes");
    match Incus::prepare().and_then(|()| Node::prepare()) {
        Ok(image) => sandbox::run_inside(&given, &[(IMAGE, &image)]),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what happens, and when.
struct Teller {
    start: Instant,
}

impl Teller {
    fn tell(&self, what: &str) {
        println!("{:5.1} s  {what}", self.start.elapsed().as_secs_f64());
    }
}

fn story(once_around: bool) {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("signals can be heard");
    }
    let teller = Teller { start: Instant::now() };
    println!();
    teller.tell("in namespaces of its own: starting etcd, kube-apiserver, scheduler, controllers, containerd, kubelet");
    let node = Node::start();
    teller.tell("the node is Ready, and has the image of dexsidecar; there is no registry");
    let dex = Dex::start(
        &node.plane,
        &DexSetup { address: ADDRESS, lifetime: LIFETIME.to_owned(), ..DexSetup::default() },
    );
    node.namespace("demo", true, &dex);
    teller.tell(&format!(
        "a real Dex, with tokens of {LIFETIME}, whose connector trusts this cluster: {}",
        dex.issuer()
    ));
    let incus = Incus::start(&dex);
    teller.tell(&format!("a real Incus, which trusts Dex and nobody else: {}", incus.url()));
    let script = "test -s /var/run/secrets/dex/token && echo the token is there; exec sleep infinity";
    let manifest = Manifest::hardened("app", &dex).app(script);
    let pod = Pod::apply(&node, "demo", &manifest);
    teller.tell(
        "kubectl apply: the pod of docs/kubernetes.md, in a namespace that enforces the restricted standard",
    );
    pod.until("the sidecar runs", |pod| sidecar(pod)["state"]["running"].is_object());
    teller.tell("the sidecar's container runs; the app waits for its startup probe, dexsidecar ready");
    pod.until_running();
    teller.tell("the probe says yes, and the app's container runs");
    shown("kubectl get pods --namespace demo", &node.plane.kubectl(&["get", "pods", "--namespace", "demo"]));
    shown("kubectl logs app --container dexsidecar", &pod.log("dexsidecar"));
    let subject = "/var/run/secrets/subject/token";
    if let Ok(subject) = fs::read_to_string(format!("/proc/{}/root{subject}", pod.pid("dexsidecar"))) {
        shown("what the subject token says", &told(&claims(&subject), &["iss", "sub", "aud"]));
    }
    let token = claims(&pod.token());
    shown("what the issued token says", &told(&token, &["iss", "aud", "name", "federated_claims"]));
    shown("what Incus says to the app without a token", &incus.authentication_of(&pod, false));
    shown("what Incus says to the app with the token from the file", &incus.authentication_of(&pod, true));
    teller.tell("Incus trusts the pod");
    shown("what the sidecar costs", &cost(&pod));
    shown("what waiting for the token costs the app", &start_of_the_app(&node, &manifest));
    if once_around {
        teller.tell("once around, as asked");
    } else {
        leave_a_shell(&node, &stop);
    }
    drop(pod);
    println!("\nending all of it");
}

fn shown(title: &str, text: &str) {
    println!("\n   {title}\n");
    for line in text.trim_end().lines() {
        println!("      {line}");
    }
    println!();
}

fn told(claims: &Value, names: &[&str]) -> String {
    names.iter().map(|name| format!("{name}: {}\n", claims[name])).collect()
}

fn cost(pod: &Pod<'_>) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", pod.pid("dexsidecar"))).unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("Threads"));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    let peak = ["memory.max_usage_in_bytes", "memory.peak"];
    if let Some(peak) = peak.iter().find_map(|file| pod.memory("dexsidecar", file)) {
        text +=
            &format!("its container's cgroup at most: {} KiB, probes and the runtime included\n", peak >> 10);
    }
    text
}

/// The same pod with and without a sidecar, side by side.
fn start_of_the_app(node: &Node, manifest: &Manifest) -> String {
    let start = |name: &str, with: bool| {
        let manifest = manifest.clone().with(|pod| {
            pod["metadata"]["name"] = name.into();
            if !with && let Some(spec) = pod["spec"].as_object_mut() {
                spec.remove("initContainers");
            }
        });
        let start = Instant::now();
        let pod = Pod::apply(node, "demo", &manifest);
        pod.until("the app runs", |pod| app(pod)["state"]["running"].is_object());
        start.elapsed().as_secs_f64()
    };
    let (without, with) = (start("without", false), start("with", true));
    format!("from kubectl apply to a running app: {without:.1} s without a sidecar, {with:.1} s with it\n")
}

/// A shell with kubectl, where there is a terminal; else everything stays until a signal.
fn leave_a_shell(node: &Node, stop: &AtomicBool) {
    let tools = Path::new("/run/dexsidecar/bin");
    let _ = fs::create_dir(tools);
    let _ = symlink(node.plane.kubectl_program(), tools.join("kubectl"));
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    shell.env("KUBECONFIG", node.plane.kubeconfig()).env("PATH", path).env("PS1", "dexsidecar demo $ ");
    if std::io::stdin().is_terminal() {
        println!(
            "a shell inside, with kubectl; what is here is in the namespace demo (-n demo). `exit` ends everything:\n"
        );
        println!("   kubectl -n demo logs app -c dexsidecar -f");
        println!("   kubectl -n demo exec app -c dexsidecar -- dexsidecar check\n");
        let _ = shell.status();
        return;
    }
    println!("it stays until Ctrl-C; KUBECONFIG={}", node.plane.kubeconfig().display());
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
    }
}
