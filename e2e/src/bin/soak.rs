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
    exchanges: usize,
    /// So far, and when it was looked at before.
    switches: (u64, u64),
}

impl Cost {
    /// In this minute: all voluntary switches of its main thread, the only one that lasts.
    const fn wake_ups(&self) -> u64 {
        self.switches.0 - self.switches.1
    }
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
    let (mut rows, mut expired, mut missing, mut step, mut good) = (vec![], 0_u64, 0_u64, 0_usize, 0_usize);
    println!("{minutes} minutes, each for an hour; tokens of {LIFETIME} s\n");
    println!(
        "{:>6} {:>8} {:>14} {:>12} {:>8} {:>10} {:>10}",
        "min", "RSS kB", "Private_Dirty", "descriptors", "threads", "wake-ups", "exchanges"
    );
    while start.elapsed() < Duration::from_secs(minutes * 60) {
        trouble(step, &endpoint, &volume, &sidecar, &mut good);
        step += 1;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(500));
            let exp = sidecar.token().and_then(|token| claims(&token)["exp"].as_u64());
            expired += u64::from(exp.is_some_and(|exp| exp < now()));
            // Removed by `trouble`, it is put back at the next look, which is half a minute away at most.
            missing += u64::from(exp.is_none());
        }
        if step.is_multiple_of(12) {
            let cost = cost(&sidecar, rows.last().copied().unwrap_or_default(), endpoint.heard().len());
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
        if !sidecar.process.runs() {
            println!("it ended:\n{}", sidecar.process.output());
            return ExitCode::FAILURE;
        }
    }
    let ended = sidecar.terminate();
    let looks = minutes * 120;
    println!(
        "\nof {looks} looks at the file it had expired at {expired} and was not there at {missing}, since it had been \
         removed; SIGTERM ended it with {ended:?}"
    );
    let flat = is_flat(&rows);
    println!("{}", if flat { "flat" } else { "NOT flat" });
    // It is removed once in seventeen troubles, each five seconds.
    let good = flat && expired == 0 && missing <= looks / 2 && ended == Some(0);
    if !good {
        println!("{}", sidecar.process.timeline());
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The second half of the time costs what the first half did; the first minute fills what is filled once.
fn is_flat(rows: &[Cost]) -> bool {
    let halves = rows.get(1..).map(|rows| rows.split_at(rows.len() / 2));
    let Some((first, second)) = halves.filter(|(first, second)| !first.is_empty() && !second.is_empty())
    else {
        println!("three minutes at least tell whether it is flat");
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

/// Something else each five seconds; most often nothing. A bad answer comes only after a good one: several in a row are more than
/// the reserve of a token of a minute can bear, and no promise is broken then.
fn trouble(step: usize, endpoint: &Endpoint, volume: &Volume, sidecar: &Sidecar, good: &mut usize) {
    let json = |status: &str, body: &str| {
        Answer::Bytes(answer(status, &[("Content-Type", "application/json")], body))
    };
    let mut bad = |answer| {
        if endpoint.queued() == 0 && endpoint.issued().len() > *good {
            *good = endpoint.issued().len();
            endpoint.next(answer);
        }
    };
    match step % 17 {
        2 => bad(json("401 Unauthorized", r#"{"error":"access_denied"}"#)),
        4 => volume.put(&format!("eyJh{step}.eyJi{}.canary", "x".repeat(1_000))),
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
