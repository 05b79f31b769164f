//! Measures the footprint of the shipped binary, compares it with its limits, and writes the table
//! in docs/footprint.md.
//!
//! The binary is the one that `SIDECAR_BIN` names. Memory is read from `/proc/PID/smaps_rollup`,
//! which for a process that is not dumpable takes root.

#![expect(clippy::print_stdout, reason = "the table is for the terminal")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dexsidecar_core::circuit_breaker::CircuitBreaker;
use dexsidecar_core::refresher::{Decision, Lifetime, Observation, Refresher};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::listener::Listening;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use rustix::fs::inotify;
use serde_json::json;

/// The number of timed starts.
const STARTS: usize = 40;
/// The number of refreshes before memory is measured.
const REFRESHES: usize = 250;
/// The number of tokens in one process.
const TOKENS: usize = 64;
const KB: f64 = 1_000.0;

/// One row of the table.
struct Row {
    what: &'static str,
    /// The largest value that passes, as text; `-` if there is none.
    limit: String,
    measured: String,
    within_limit: bool,
}

/// A fake Dex over TLS with its own CA, and a subject token as large as the kubelet's.
struct Scene {
    authority: Authority,
    endpoint: FakeDex,
    volume: ProjectedVolume,
}

impl Scene {
    fn new(lifetime: u64) -> Self {
        let authority = Authority::new();
        let endpoint = FakeDex::start_at("127.0.0.1:0", Some(authority.server(&[]).server_config()));
        endpoint.always(Answer::Token(lifetime));
        let volume = ProjectedVolume::with(&format!("eyJh.eyJi{}.canary", "x".repeat(1_000)));
        Self { authority, endpoint, volume }
    }

    fn setup(&self) -> Setup {
        let ca = self.authority.file();
        Setup::new()
            .subject(&self.volume)
            .at_fake(&self.endpoint)
            .set("DEXSIDECAR_CA_FILE", ca.to_str().expect("UTF-8"))
    }

    fn started(&self) -> Sidecar {
        let mut sidecar = self.setup().run();
        sidecar.process.until_logged("token_written", 1);
        let tasks = format!("/proc/{}/task", sidecar.process.pid());
        sidecar
            .process
            .until("one thread is left", |_| fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() == 1));
        sidecar
    }
}

fn main() {
    // Dirty pages of a file that was just written would count as private memory of the process.
    rustix::fs::sync();
    let mut rows = Vec::new();
    sizes(&mut rows);
    // Before other processes share the pages of the binary.
    ten_copies(&mut rows);
    // The longest measurement runs beside the others.
    let many = std::thread::spawn(after_many_refreshes);
    start_up(&mut rows);
    idle(&mut rows);
    scrapes(&mut rows);
    many_tokens(&mut rows);
    let a_day = simulated_day();
    rows.push(at_most("exchanges a day with 24-hour tokens, simulated", a_day as f64, 2.0, ""));
    println!("waiting for {REFRESHES} refreshes, one every four seconds");
    let dirty = many.join().expect("the measurement ends");
    rows.push(at_most("Private_Dirty after 250 refreshes", dirty, 300.0, "kB"));

    let table = table(&rows);
    println!("{table}");
    write(&table);
    assert!(rows.iter().all(|row| row.within_limit), "a limit is exceeded");
}

fn at_most(what: &'static str, measured: f64, limit: f64, unit: &str) -> Row {
    let show = |number: f64| {
        let text = if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.2}") };
        format!("{text} {unit}").trim().to_owned()
    };
    println!("{what}: {} (limit: {})", show(measured), show(limit));
    Row {
        what,
        limit: format!("<= {}", show(limit)),
        measured: show(measured),
        within_limit: measured <= limit,
    }
}

fn sizes(rows: &mut Vec<Row>) {
    let binary = program();
    let raw = fs::metadata(&binary).expect("it was built").len() as f64;
    let packed =
        Command::new("gzip").args(["-9", "-c"]).arg(&binary).output().expect("gzip is there").stdout.len()
            as f64;
    rows.push(at_most("binary", raw / KB, 2_400.0, "kB"));
    rows.push(at_most("binary, gzip -9", packed / KB, 1_250.0, "kB"));
}

/// A value of smaps_rollup, in kB.
fn memory(pid: u32, name: &str) -> f64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}; memory is measured as root"));
    let line = text.lines().find(|line| line.starts_with(name)).expect("smaps_rollup has this value");
    line.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Voluntary context switches of all threads.
fn wake_ups(pid: u32) -> u64 {
    let tasks =
        fs::read_dir(format!("/proc/{pid}/task")).expect("the sidecar is running").filter_map(Result::ok);
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?.to_owned();
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}

/// The wake-ups in a minute in which no key check was made: there is one each ten minutes.
fn idle_minute(scene: &Scene, pid: u32) -> f64 {
    loop {
        let before = (scene.endpoint.document_requests(), wake_ups(pid));
        std::thread::sleep(Duration::from_secs(60));
        if scene.endpoint.document_requests() == before.0 {
            return (wake_ups(pid) - before.1) as f64;
        }
    }
}

fn idle(rows: &mut Vec<Row>) {
    let scene = Scene::new(86_400);
    let sidecar = scene.started();
    let pid = sidecar.process.pid();
    println!("measuring an idle minute");
    rows.push(at_most("wake-ups in an idle minute", idle_minute(&scene, pid), 2.0, ""));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the sidecar is running").count();
    rows.push(at_most("threads, idle", threads as f64, 1.0, ""));
    rows.push(at_most("RSS after the first exchange over TLS, idle", memory(pid, "Rss:"), 2_200.0, "kB"));
    rows.push(at_most(
        "Private_Dirty after the first exchange over TLS, idle",
        memory(pid, "Private_Dirty:"),
        250.0,
        "kB",
    ));
}

/// The listener, after so many scrapes of one token.
fn scrapes(rows: &mut Vec<Row>) {
    const SCRAPES: u32 = 1_000;
    let scene = Scene::new(3_600);
    let mut listening = Listening::start(scene.setup());
    listening.sidecar.process.until_logged("token_written", 1);
    let cpu = || listening.sample("process_cpu_seconds_total").expect("a sample");
    let before = cpu();
    for _ in 0..SCRAPES {
        assert_eq!(listening.get("/metrics").status, 200);
    }
    let each = (cpu() - before) / f64::from(SCRAPES) * 1e6;
    rows.push(at_most("CPU time of a scrape", each.round(), 100.0, "us"));
    let dirty = memory(listening.sidecar.process.pid(), "Private_Dirty:");
    rows.push(at_most("Private_Dirty with a listener, after 1000 scrapes", dirty, 314.0, "kB"));
}

fn ten_copies(rows: &mut Vec<Row>) {
    let scene = Scene::new(86_400);
    let copies: Vec<_> = (0..10).map(|_| scene.started()).collect();
    let sum: f64 = copies.iter().map(|copy| memory(copy.process.pid(), "Pss:")).sum();
    rows.push(at_most("PSS of each of ten copies", sum / 10.0, 400.0, "kB"));
}

/// A configuration file with so many tokens of this scene, all of one client, and their outputs.
fn configure(scene: &Scene, directory: &Path, count: usize) -> (PathBuf, Vec<PathBuf>) {
    let outputs: Vec<_> = (0..count).map(|index| directory.join(format!("token.{index}"))).collect();
    let tokens = outputs.iter().enumerate().map(
        |(index, output)| json!({"name": format!("t{index}"), "client_id": "user", "outputs": [{"path": output}]}),
    );
    let config = json!({
        "version": "v1",
        "termination_log": "/dev/null",
        "defaults": {
            "token_endpoint": scene.endpoint.url(),
            "ca_file": scene.authority.file(),
            "connector_id": "k3s",
            "subject_token_file": scene.volume.token(),
        },
        "tokens": tokens.collect::<Vec<_>>(),
    });
    let file = directory.join("config.yaml");
    fs::write(&file, config.to_string()).expect("the configuration is written");
    (file, outputs)
}

/// Sixty-four tokens of one Dex in one process, beside one token, both from a configuration file.
fn many_tokens(rows: &mut Vec<Row>) {
    let scene = Scene::new(86_400);
    scene.endpoint.always(Answer::Late(Duration::from_millis(20), 86_400));
    let run = |count: usize| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (config, outputs) = configure(&scene, directory.path(), count);
        let mut command = Command::new(program());
        command.env_clear().arg("--config").arg(config);
        let start = Instant::now();
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        while !outputs.iter().all(|output| output.exists()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        (start.elapsed(), child, directory)
    };
    let (_, mut one, _one) = run(1);
    let (took, mut many, _many) = run(TOKENS);
    rows.push(at_most("64 tokens, 20 ms an exchange: all on disk", took.as_secs_f64(), 5.0, "s"));
    println!("measuring an idle minute with {TOKENS} tokens");
    let tasks = format!("/proc/{}/task", many.id());
    while fs::read_dir(&tasks).expect("it runs").count() > 1 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let woken = idle_minute(&scene, many.id());
    rows.push(at_most("64 tokens: wake-ups in an idle minute", woken, 2.0, ""));
    let [one_kb, many_kb] = [&one, &many].map(|child| memory(child.id(), "Private_Dirty:"));
    let each = (many_kb - one_kb) / (TOKENS - 1) as f64;
    rows.push(at_most("Private_Dirty of each further token", each, 16.0, "kB"));
    for child in [&mut one, &mut many] {
        child.kill().and_then(|()| child.wait()).expect("it can be killed");
    }
}

fn after_many_refreshes() -> f64 {
    // A token with a lifetime of 1 s is refreshed as fast as the token bucket allows: every 4 s.
    let scene = Scene::new(1);
    let sidecar = scene.setup().run();
    while scene.endpoint.issued().len() < REFRESHES {
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    memory(sidecar.process.pid(), "Private_Dirty:")
}

/// The time from before the start to the rename, observed by inotify, in turn with the same
/// exchange by curl.
fn start_up(rows: &mut Vec<Row>) {
    let scene = Scene::new(86_400);
    let (mut ours, mut curls) = (vec![], vec![]);
    println!("measuring {STARTS} starts, in turn with curl");
    for round in 0..=STARTS {
        let (a, b) = (one_start(&scene), one_curl(&scene));
        // The first of each fills caches and does not count.
        if round > 0 {
            ours.push(a);
            curls.push(b);
        }
    }
    let [ours, curls] = [ours, curls].map(median);
    rows.push(at_most("exec to token on disk, median", ours, 3.0, "ms"));
    let ratio = ours / curls;
    println!("curl for the same exchange: {curls:.2} ms; ratio {ratio:.2}");
    rows.push(Row {
        what: "curl for the same exchange, median",
        limit: "-".to_owned(),
        measured: format!("{curls:.2} ms, ratio {ratio:.2}"),
        within_limit: true,
    });
}

fn one_start(scene: &Scene) -> f64 {
    let setup = scene.setup();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).expect("inotify");
    inotify::add_watch(&watch, setup.directory(), inotify::WatchFlags::MOVED_TO)
        .expect("the directory exists");
    let mut command = Command::new(program());
    command.env_clear().envs(variables(&setup)).stdin(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().expect("dexsidecar can be started");
    let mut events = [0; 4096];
    rustix::io::read(&watch, &mut events).expect("the rename is observed");
    let took = start.elapsed();
    child.kill().and_then(|()| child.wait()).expect("dexsidecar can be killed");
    took.as_secs_f64() * 1_000.0
}

fn one_curl(scene: &Scene) -> f64 {
    let setup = scene.setup();
    let form = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&connector_id=k3s&scope=openid+profile";
    let subject = format!("subject_token@{}", scene.volume.token().display());
    let start = Instant::now();
    let done = Command::new("curl")
        .args(["--silent", "--fail", "--cacert"])
        .arg(scene.authority.file())
        .args(["--user", "user:", "--data", form, "--data-urlencode", &subject, "--output"])
        .arg(setup.output())
        .arg(scene.endpoint.url())
        .status()
        .expect("curl is there");
    assert!(done.success(), "curl completes the exchange");
    start.elapsed().as_secs_f64() * 1_000.0
}

fn variables(setup: &Setup) -> Vec<(String, String)> {
    let split = |line: String| {
        let (name, value) = line.split_once('=').expect("NAME='value'");
        (name.to_owned(), value.trim_matches('\'').to_owned())
    };
    setup.environment().into_iter().map(split).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Exchanges a day in ten simulated days of the real refresher, rounded up.
fn simulated_day() -> usize {
    let at = |seconds: f64| Now {
        boot: BootTime::from_start(Duration::from_secs_f64(seconds)),
        unix: UnixTime::since_epoch(Duration::from_secs_f64(1.7e9 + seconds)),
    };
    let (mut now, mut exchanges) = (0.0, 0);
    let mut refresher = Refresher::new(Schedule::default(), None, 1, at(0.0));
    let mut dex = CircuitBreaker::default();
    while now < 864_000.0 {
        // Jitter makes refreshes earlier, so the largest jitter gives the largest number.
        match refresher.step(at(now), Jitter::new(1.0), &mut dex.member(0)) {
            Decision::Exchange => {
                exchanges += 1;
                let lifetime = Lifetime::starting(at(now).boot, Duration::from_secs(86_400));
                refresher.on(Observation::Issued(lifetime), at(now), Jitter::new(1.0));
            }
            Decision::Publish(output) => {
                refresher.on(Observation::Written(output), at(now), Jitter::new(1.0));
            }
            Decision::Wait(until) => now += at(now).boot.until(until).as_secs_f64(),
            Decision::CheckKeys | Decision::Expire(_) => {}
        }
    }
    usize::div_ceil(exchanges, 10)
}

fn table(rows: &[Row]) -> String {
    let mut text = "| figure | measured | limit | within limit |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let within = if row.within_limit { "yes" } else { "**no**" };
        text += &format!("| {} | {} | {} | {within} |\n", row.what, row.measured, row.limit);
    }
    format!("{text}\nMeasured on: {}\n", machine())
}

/// The kind of this machine, without anything that identifies it.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel: Vec<_> = kernel.trim().split(['.', '-']).take(2).collect();
    format!("{count} x {}, Linux {}", model.trim_start_matches(['\t', ':', ' ']), kernel.join("."))
}

/// Between the markers of docs/footprint.md.
fn write(table: &str) {
    const MARKS: [&str; 2] =
        ["<!-- measured by cargo xtask bench -->\n", "<!-- end of what was measured -->\n"];
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/footprint.md");
    let Ok(text) = fs::read_to_string(&path) else { return };
    let (Some(begin), Some(end)) = (text.find(MARKS[0]), text.find(MARKS[1])) else { return };
    let text = format!("{}{}\n{table}\n{}", &text[..begin], MARKS[0], &text[end..]);
    let mut file = fs::File::create(&path).expect("docs/footprint.md can be written");
    file.write_all(text.as_bytes()).expect("docs/footprint.md can be written");
}
