//! Measures what the policies of deploy/injection add to the creation of a pod on a real API
//! server: by dry runs on the server, of a pod with the label and of the same pod without it. They
//! take turns, so that noise of the machine hits both.

#![expect(clippy::print_stdout, reason = "the figures are for the terminal")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::injection::{self, is_injected, pod};
use dexsidecar_e2e::raw_http;
use serde_json::{Value, json};

/// The creations of each kind.
const ROUNDS: usize = 1_000;
/// The creations before them, which warm the caches up.
const WARM_UP: usize = 50;

fn main() {
    let plane = ControlPlane::start();
    injection::install(&plane, &injection::directory());
    let (port, _proxy) = plane.proxy();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let labelled = pod("app");
    let mut plain = labelled.clone();
    plain["metadata"]["labels"] = json!({});
    let requests = [(&plain, false), (&labelled, true)].map(|(pod, injected)| (request(pod), injected));
    let mut times = [vec![], vec![]];
    for round in 0..WARM_UP + ROUNDS {
        for ((request, injected), times) in requests.iter().zip(&mut times) {
            let took = create(address, request, *injected);
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    println!("| {ROUNDS} dry runs of a pod | median | 90 % |");
    println!("|---|---|---|");
    let medians = ["without the label", "with the label"].into_iter().zip(times).map(|(name, mut times)| {
        times.sort();
        let (median, most) = (times[times.len() / 2], times[times.len() * 9 / 10]);
        println!("| {name} | {} | {} |", milliseconds(median), milliseconds(most));
        median
    });
    let medians: Vec<Duration> = medians.collect();
    println!("difference of the medians: {}", milliseconds(medians[1].saturating_sub(medians[0])));
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
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
