//! A soak test in compressed time: the shipped binary refreshes a one-minute token while faults are
//! injected every five seconds. Its memory, descriptors, threads and wake-ups must not grow.

#![expect(clippy::print_stdout, reason = "the table is for the terminal")]

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::{Setup, Sidecar};
use dexsidecar_e2e::signing_key::{claims, now};
use rustix::process::Signal;

/// The lifetime of tokens in seconds: one minute stands for one hour.
const LIFETIME: u64 = 60;

/// The resources that the process uses at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    resident: u64,
    private_dirty: u64,
    descriptors: u64,
    threads: u64,
    exchanges: usize,
    /// Voluntary context switches since the start: now, and in the sample before.
    switches: (u64, u64),
}

impl Cost {
    /// Voluntary context switches of its main thread since the sample before, about a minute.
    const fn wake_ups(&self) -> u64 {
        self.switches.0 - self.switches.1
    }
}

fn main() -> ExitCode {
    let minutes: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let authority = Authority::new();
    let endpoint = FakeDex::start_at("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    endpoint.always(Answer::Token(LIFETIME));
    let volume = ProjectedVolume::with(&format!("eyJh.eyJi{}.canary", "x".repeat(1_000)));
    let setup =
        Setup::new().subject(&volume).at_fake(&endpoint).arguments("--key-check 10s --attempt-timeout 2s");
    let setup = setup.set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"));
    let mut sidecar = setup.run();
    sidecar.until_token();
    let start = Instant::now();
    let (mut rows, mut expired, mut missing, mut step, mut issued_before) =
        (vec![], 0_u64, 0_u64, 0_usize, 0_usize);
    println!("{minutes} minutes, one for each hour; {LIFETIME} s tokens\n");
    println!(
        "{:>6} {:>8} {:>14} {:>12} {:>8} {:>10} {:>10}",
        "min", "RSS kB", "Private_Dirty", "descriptors", "threads", "wake-ups", "exchanges"
    );
    while start.elapsed() < Duration::from_secs(minutes * 60) {
        inject_fault(step, &endpoint, &volume, &sidecar, &mut issued_before);
        step += 1;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(500));
            let exp = sidecar.token().and_then(|token| claims(&token)["exp"].as_u64());
            expired += u64::from(exp.is_some_and(|exp| exp < now()));
            // `inject_fault` removes the file. It is restored at the next poll, within half a
            // minute.
            missing += u64::from(exp.is_none());
        }
        if step.is_multiple_of(12) {
            let cost = cost(&sidecar, rows.last().copied().unwrap_or_default(), endpoint.requests().len());
            println!(
                "{:>6} {:>8} {:>14} {:>12} {:>8} {:>10} {:>10}",
                step / 12,
                cost.resident,
                cost.private_dirty,
                cost.descriptors,
                cost.threads,
                cost.wake_ups(),
                cost.exchanges,
            );
            rows.push(cost);
        }
        if !sidecar.process.is_running() {
            println!("dexsidecar has exited:\n{}", sidecar.process.output());
            return ExitCode::FAILURE;
        }
    }
    let ended = sidecar.terminate();
    let samples = minutes * 120;
    println!(
        "\nsamples of the token file: {samples}; expired in {expired}, missing in {missing} (the test removes it); \
         exit code after SIGTERM: {}",
        ended.map_or_else(|| "none".to_owned(), |code| code.to_string())
    );
    let flat = is_flat(&rows);
    println!("{}", if flat { "resource use is constant" } else { "resource use is NOT constant" });
    // It is removed in one of seventeen steps of five seconds.
    let passed = flat && expired == 0 && missing <= samples / 2 && ended == Some(0);
    if !passed {
        println!("{}", sidecar.process.timeline());
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the second half of the samples uses no more than the first. The first minute is left
/// out, since caches fill then.
fn is_flat(rows: &[Cost]) -> bool {
    let halves = rows.get(1..).map(|rows| rows.split_at(rows.len() / 2));
    let Some((first, second)) = halves.filter(|(first, second)| !first.is_empty() && !second.is_empty())
    else {
        println!("at least three minutes are needed to compare two halves");
        return false;
    };
    let most = |rows: &[Cost], of: fn(&Cost) -> u64| rows.iter().map(of).max().unwrap_or_default();
    let grows = |of: fn(&Cost) -> u64, by: u64| most(second, of) > most(first, of) + by;
    most(second, |cost| cost.resident) > 0
        && !grows(|cost| cost.resident, 64)
        && !grows(|cost| cost.private_dirty, 32)
        && !grows(|cost| cost.descriptors, 2)
        && !grows(|cost| cost.threads, 1)
        && !grows(Cost::wake_ups, most(first, Cost::wake_ups) / 2 + 50)
}

/// Injects the fault of a step, if it has one. A failed exchange follows only after a successful
/// one: several in a row take longer than the refresh margin of a one-minute token, so that it may
/// expire.
fn inject_fault(
    step: usize,
    endpoint: &FakeDex,
    volume: &ProjectedVolume,
    sidecar: &Sidecar,
    issued_before: &mut usize,
) {
    let json = |status: &str, body: &str| {
        Answer::Bytes(answer(status, &[("Content-Type", "application/json")], body))
    };
    let mut bad = |answer| {
        if endpoint.queued() == 0 && endpoint.issued().len() > *issued_before {
            *issued_before = endpoint.issued().len();
            endpoint.next(answer);
        }
    };
    match step % 17 {
        2 => bad(json("401 Unauthorized", r#"{"error":"access_denied"}"#)),
        4 => volume.replace_token(&format!("eyJh{step}.eyJi{}.canary", "x".repeat(1_000))),
        5 => bad(json("503 Service Unavailable", "")),
        7 => bad(Answer::ResetAfter(step % 700)),
        8 => sidecar.process.signal(Signal::HUP),
        10 => bad(json("200 OK", "<html>")),
        11 => bad(Answer::Silence),
        12 => drop(fs::remove_file(sidecar.output())),
        14 => bad(Answer::Bytes(vec![b'x'; 2 * 1024 * 1024])),
        15 => endpoint.lose_keys(),
        _ => {}
    }
}

fn cost(sidecar: &Sidecar, before: Cost, exchanges: usize) -> Cost {
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
        exchanges,
        switches: (number(&status, "voluntary_ctxt_switches:"), before.switches.0),
    }
}
