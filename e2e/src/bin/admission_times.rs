//! Measures what the policies of deploy/injection add to the creation of a pod on a real API
//! server, by dry runs on the server: of a pod without the label, of the same pod with it where
//! only the mutating policy is installed, and where both are. They take turns, so that noise of the
//! machine hits all.

#![expect(clippy::print_stdout, reason = "the figures are for the terminal")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::injection::{self, is_injected, pod, submit};
use dexsidecar_e2e::process::Process;
use dexsidecar_e2e::raw_http;
use serde_json::{Value, json};

/// The creations of each kind.
const ROUNDS: usize = 500;
/// The creations before them, which warm the caches up.
const WARM_UP: usize = 50;

fn main() {
    let both = cluster(true);
    let mutating = cluster(false);
    let labelled = pod("app");
    let mut plain = labelled.clone();
    plain["metadata"]["labels"] = json!({});
    let kinds = [
        ("without the label", both.1, request(&plain), false),
        ("with the label, mutating policy only", mutating.1, request(&labelled), true),
        ("with the label, both policies", both.1, request(&labelled), true),
    ];
    let mut times = kinds.each_ref().map(|_| vec![]);
    for round in 0..WARM_UP + ROUNDS {
        for ((_, address, request, injected), times) in kinds.iter().zip(&mut times) {
            let took = create(*address, request, *injected);
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    println!("| {ROUNDS} dry runs of a pod | median | 90 % | more than without |");
    println!("|---|---|---|---|");
    let mut without = None;
    for ((name, ..), mut times) in kinds.into_iter().zip(times) {
        times.sort();
        let (median, most) = (times[times.len() / 2], times[times.len() * 9 / 10]);
        let more = median.saturating_sub(*without.get_or_insert(median));
        println!("| {name} | {} | {} | {} |", milliseconds(median), milliseconds(most), milliseconds(more));
    }
}

/// A control plane with both policies or the mutating one, and the address of its proxy.
fn cluster(validating: bool) -> ((ControlPlane, Process), SocketAddr) {
    let plane = ControlPlane::start();
    injection::install(&plane, &injection::directory());
    if !validating {
        plane.kubectl(&["delete", "validatingadmissionpolicy", "dexsidecar-injection"]);
        let mut wrong = pod("wrong");
        wrong["metadata"]["annotations"]["dexsidecar.io/start"] = "later".into();
        injection::until("no pod is refused", || submit(&plane, "default", &wrong).is_ok());
    }
    let (port, proxy) = plane.proxy();
    ((plane, proxy), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

/// A request that creates a pod by a dry run on the server.
fn request(pod: &Value) -> String {
    let body = pod.to_string();
    format!(
        "POST /api/v1/namespaces/default/pods?dryRun=All HTTP/1.0\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Creates a pod, and gives the time from the request to the complete response.
fn create(address: SocketAddr, request: &str, injected: bool) -> Duration {
    let before = Instant::now();
    let reply = raw_http::send(address, request).expect("kubectl proxy responds");
    let took = before.elapsed();
    assert_eq!(reply.status, 201, "{}", reply.body);
    let pod: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(is_injected(&pod), injected, "{pod:#}");
    took
}
