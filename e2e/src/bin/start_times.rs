//! Measures how long an app on a real node waits for its token: from `kubectl apply` to the app's
//! first line of log, with each way of holding it back. The ways take turns, so that noise of the
//! machine hits all of them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are for the terminal")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::node::{IMAGE, Node};
use dexsidecar_e2e::pod::{Manifest, Pod};
use dexsidecar_e2e::sandbox::{self, ADDRESS};
use dexsidecar_fetch::machine;
use serde_json::json;

/// The starts of each way.
const ROUNDS: usize = 20;
const NAMESPACE: &str = "start-times";
const SCRIPT: &str = "echo started; exec sleep infinity";

fn main() -> ExitCode {
    if sandbox::inside() {
        sandbox::set_up();
        measure();
        return ExitCode::SUCCESS;
    }
    match machine::look_for_node().and_then(|()| Node::prepare()) {
        Ok(image) => sandbox::run_inside(&[], &[(IMAGE, &image)]),
        Err(why) => {
            eprintln!("there is no node on this machine: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A way of holding the app back: its name, and the manifest of a pod of this name.
type Way = (&'static str, fn(&str, &Dex) -> Manifest);

const WAYS: [Way; 4] = [
    ("no sidecar", |name, dex| {
        Manifest::hardened(name, dex).app(SCRIPT).with(|pod| pod["spec"]["initContainers"] = json!([]))
    }),
    ("startup probe", |name, dex| Manifest::hardened(name, dex).app(SCRIPT)),
    ("`wait`, image volume", |name, dex| Manifest::waiting(name, dex).app(SCRIPT).with_image_volume()),
    ("`wait`, copied by the sidecar", |name, dex| Manifest::waiting(name, dex).app(SCRIPT)),
];

fn measure() {
    let node = Node::start();
    let dex = Dex::start(&node.plane, &DexSetup { address: ADDRESS, ..DexSetup::default() });
    node.namespace(NAMESPACE, true, &dex);
    let mut times = WAYS.map(|_| vec![]);
    // The first round warms the caches up.
    for round in 0..=ROUNDS {
        for (way, (_, manifest)) in WAYS.iter().enumerate() {
            let name = format!("app-{way}-{round}");
            let took = start(&node, &name, &manifest(&name, &dex));
            if round > 0 {
                times[way].push(took);
            }
        }
        eprintln!("round {round} of {ROUNDS}");
    }
    println!("| the app is held back by | median | 90 % | later than without |");
    println!("|---|---|---|---|");
    let mut without = None;
    for ((name, _), mut times) in WAYS.into_iter().zip(times) {
        times.sort();
        let (median, most) = (times[times.len() / 2], times[times.len() * 9 / 10]);
        let without = *without.get_or_insert(median);
        let later = median.saturating_sub(without);
        println!("| {name} | {} | {} | {} |", seconds(median), seconds(most), seconds(later));
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// From before `kubectl apply` to the app's first line of log, as the container runtime stamps it.
fn start(node: &Node, name: &str, manifest: &Manifest) -> Duration {
    let before = SystemTime::now();
    let pod = Pod::apply(node, NAMESPACE, manifest);
    pod.until_line("app", "started");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/log?container=app&timestamps=true");
    let log = node.text(&path).expect("the app has started");
    let line = log.lines().find(|line| line.ends_with(" started")).expect("its line");
    let stamp = line.split(' ').next().expect("a time");
    let at = humantime::parse_rfc3339(stamp).expect("a time of RFC 3339");
    let took = at.duration_since(before).expect("it is later");
    drop(pod);
    let gone = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}");
    node.until("the pod is gone", || node.get(&gone).is_null());
    took
}
