//! Hours in minutes: the shipped binary keeps a token of a minute fresh while everything around it goes wrong now and then.
//! What it costs is to be the same at the end as at the beginning.

#![expect(clippy::print_stdout, reason = "the table is for the terminal")]

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{Setup, Sidecar};
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use rustix::process::Signal;

/// A minute for an hour.
const LIFETIME: u64 = 60;

/// What it costs at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    resident: u64,
    private_dirty: u64,
    descriptors: u64,
    threads: u64,
    /// So far.
    switches: u64,
}

fn main() -> ExitCode {
    let minutes: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let authority = Authority::new();
    let endpoint = Endpoint::start("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    endpoint.always(Answer::Token(LIFETIME));
    let volume = Volume::with(&format!("eyJh.eyJi{}.canary", "x".repeat(1_000)));
    let setup = Setup::new()
        .subject(&volume)
        .at_stand_in(&endpoint)
        .arguments("--key-check 10s --attempt-timeout 2s");
    let setup = setup.set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"));
    let mut sidecar = setup.run();
    sidecar.until_token();
    let start = Instant::now();
    let (mut rows, mut expired, mut step) = (vec![], 0_u64, 0_usize);
    println!("{minutes} minutes, each for an hour; tokens of {LIFETIME} s\n");
    println!(
        "{:>6} {:>8} {:>14} {:>12} {:>8} {:>10} {:>10}",
        "min", "RSS kB", "Private_Dirty", "descriptors", "threads", "wake-ups", "exchanges"
    );
    while start.elapsed() < Duration::from_secs(minutes * 60) {
        trouble(step, &endpoint, &volume, &sidecar);
        step += 1;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(500));
            // Removed a moment ago, it is put back at the next look.
            let exp = sidecar.token().and_then(|token| claims(&token)["exp"].as_u64());
            expired += u64::from(exp.is_some_and(|exp| exp < now()));
        }
        if step.is_multiple_of(12) {
            let cost = cost(&sidecar);
            println!(
                "{:>6} {:>8} {:>14} {:>12} {:>8} {:>10} {:>10}",
                step / 12,
                cost.resident,
                cost.private_dirty,
                cost.descriptors,
                cost.threads,
                cost.switches,
                endpoint.heard().len()
            );
            rows.push(cost);
        }
        if !sidecar.process.runs() {
            println!("it ended:\n{}", sidecar.process.output());
            return ExitCode::FAILURE;
        }
    }
    let ended = sidecar.terminate();
    println!("\nexpired when looked at: {expired} times; SIGTERM ended it with {ended:?}");
    // The first minute fills what is filled once.
    let flat = rows.get(1).zip(rows.last()).is_none_or(|(first, last)| {
        last.resident <= first.resident + 64
            && last.descriptors <= first.descriptors
            && last.threads <= first.threads.max(2)
    });
    println!("{}", if flat { "flat" } else { "NOT flat" });
    if flat && expired == 0 && ended == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Something else each five seconds; most often nothing.
fn trouble(step: usize, endpoint: &Endpoint, volume: &Volume, sidecar: &Sidecar) {
    let json = |status: &str, body: &str| {
        Answer::Bytes(answer(status, &[("Content-Type", "application/json")], body))
    };
    match step % 17 {
        2 => endpoint.next(json("401 Unauthorized", r#"{"error":"access_denied"}"#)),
        4 => volume.put(&format!("eyJh{step}.eyJi{}.canary", "x".repeat(1_000))),
        5 => endpoint.next(json("503 Service Unavailable", "")),
        7 => endpoint.next(Answer::ResetAfter(step % 700)),
        8 => sidecar.process.signal(Signal::HUP),
        10 => endpoint.next(json("200 OK", "<html>")),
        11 => endpoint.next(Answer::Silence),
        12 => drop(fs::remove_file(sidecar.output())),
        14 => endpoint.next(Answer::Bytes(vec![b'x'; 2 * 1024 * 1024])),
        15 => endpoint.lose_keys(),
        _ => {}
    }
}

fn cost(sidecar: &Sidecar) -> Cost {
    let pid = sidecar.process.pid();
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let number = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
    };
    let (memory, status) = (read("smaps_rollup"), read("status"));
    Cost {
        resident: number(&memory, "Rss:"),
        private_dirty: number(&memory, "Private_Dirty:"),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64),
        threads: number(&status, "Threads:"),
        switches: number(&status, "voluntary_ctxt_switches:"),
    }
}
