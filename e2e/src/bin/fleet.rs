//! A thousand cores against a real Dex, over real TLS, with time compressed: when do their exchanges come, in calm and
//! while Dex is away for an hour? Drawn into docs/fleet.svg.

#![expect(clippy::print_stdout, reason = "the figures are for the terminal")]

use std::cell::RefCell;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use dexsidecar::edge::http_client::{HttpEndpoint, Proxies, Roots};
use dexsidecar::edge::random::jitter;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Field, Request, TokenEndpoint as _, basic_authorization, form};
use dexsidecar_core::refresher::{Action, Fingerprint, Lifetime, Refresher};
use dexsidecar_core::response::{self, RequestContext};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{BootTime, Now, UnixTime};
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::issuer::Issuer;
use plotters::prelude::*;

const CORES: usize = 1_000;
/// So many seconds of a core's life pass in one of ours.
const COMPRESSION: u32 = 20;
const HOUR: u64 = 3_600;
/// Seconds of a core's life: when Dex goes, when it is back, and the end.
const AWAY: u64 = 4_500;
const BACK: u64 = AWAY + HOUR;
const END: u64 = BACK + 4_500;

/// The cores' clock.
#[derive(Clone, Copy)]
struct Compressed(tokio::time::Instant);

impl Compressed {
    fn since_start(self) -> Duration {
        self.0.elapsed() * COMPRESSION
    }

    /// In our time.
    fn left_until(self, second: u64) -> Duration {
        Duration::from_secs(second).saturating_sub(self.since_start()) / COMPRESSION
    }

    fn now(self) -> Now {
        let passed = self.since_start();
        Now {
            boot: BootTime::from_start(Duration::from_secs(1_000) + passed),
            unix: UnixTime::since_epoch(Duration::from_secs(1_700_000_000) + passed),
        }
    }
}

/// What happened, by the second of the cores' clock.
#[derive(Default)]
struct Seen {
    asked: Vec<u64>,
    issued: usize,
    /// When a core's token had run out, and when it had another.
    without: Vec<(u64, u64)>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match tokio::task::LocalSet::new().block_on(&runtime, fleet()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn fleet() -> Result<(), Box<dyn Error>> {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "1h".to_owned(), ..DexSetup::default() });
    println!(
        "{CORES} cores, a real Dex with tokens of an hour over TLS, {COMPRESSION} seconds in one: {} minutes to go",
        END / u64::from(COMPRESSION) / 60
    );
    let endpoint =
        Rc::new(HttpEndpoint::new(Duration::from_secs(15), Roots::File(dex.ca_file()), Proxies::default()));
    let request = Rc::new(request(&dex.endpoint(), issuer.token(86_400)));
    let clock = Compressed(tokio::time::Instant::now());
    let seen = Rc::new(RefCell::new(Seen::default()));
    for _ in 0..CORES {
        let (endpoint, request, seen) = (Rc::clone(&endpoint), Rc::clone(&request), Rc::clone(&seen));
        tokio::task::spawn_local(async move {
            // Within a minute of each other.
            tokio::time::sleep(jitter().share_of(Duration::from_secs(60)) / COMPRESSION).await;
            core(clock, &endpoint, &request, &seen).await;
        });
    }
    // In a thread of its own: starting a Dex takes a while, which would stop all cores and then bring them in step. The
    // thread lives as long as the Dex that it starts, which would not outlive it.
    let dex = std::thread::spawn(move || {
        std::thread::sleep(clock.left_until(AWAY));
        dex.stop();
        std::thread::sleep(clock.left_until(BACK));
        dex.resume();
        let answers = clock.since_start().as_secs();
        std::thread::sleep(clock.left_until(END));
        drop(dex);
        answers
    });
    until(clock, AWAY).await;
    println!("Dex goes; until now: {}", told(&seen.borrow(), 0..AWAY));
    until(clock, BACK).await;
    println!("Dex comes back; while it was away: {}", told(&seen.borrow(), AWAY..BACK));
    until(clock, END).await;
    let answers = dex.join().map_err(|_| "Dex could not be stopped and started")?;
    let seen = seen.borrow();
    println!("and since: {}", told(&seen, BACK..END));
    let long = seen.without.iter().map(|(from, until)| until - from).max().unwrap_or_default();
    println!(
        "tokens issued: {}; cores that were without a good one for a time: {}, for {long} s at most",
        seen.issued,
        seen.without.len(),
    );
    let last = seen.without.iter().map(|(_, until)| until.saturating_sub(answers)).max().unwrap_or_default();
    println!(
        "the last had one again {last} s after Dex answered, which it did {} s after it was started",
        answers - BACK
    );
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleet.svg");
    draw(&picture, &seen.asked)?;
    println!("drawn into docs/fleet.svg");
    // P3, and as much again for a machine on which twenty seconds pass in one.
    let held = last <= 60 && seen.issued >= 3 * CORES && seen.without.iter().all(|(_, until)| *until >= AWAY);
    if held { Ok(()) } else { Err("the promises did not hold".into()) }
}

/// One core's life: what `agent.rs` does, without a file.
async fn core(clock: Compressed, endpoint: &HttpEndpoint, request: &Request, seen: &RefCell<Seen>) {
    let mut refresher = Refresher::new(Schedule::default(), None, clock.now());
    let mut ran_out = None;
    loop {
        let now = clock.now();
        match refresher.step(now, jitter()) {
            Action::Exchange => {
                seen.borrow_mut().asked.push(clock.since_start().as_secs());
                let answer = endpoint.send(request, refresher.failures() as usize).await;
                let (endpoint_url, secrets) = (&request.url, &[]);
                let asked =
                    RequestContext { endpoint: endpoint_url, now: now.unix, requested_type: None, secrets };
                match answer.and_then(|answer| response::read(&answer, asked)) {
                    Ok(token) => {
                        // By its length alone: what it says of the hour is not of these cores' time.
                        refresher.obtained(Lifetime::starting(now.boot, token.lifetime), clock.now());
                        seen.borrow_mut().issued += 1;
                    }
                    Err(failure) => {
                        let _ = refresher.failed(&failure, Fingerprint(0), clock.now(), jitter());
                    }
                }
            }
            Action::Publish => {
                refresher.published(clock.now(), jitter());
                if let Some(from) = ran_out.take() {
                    seen.borrow_mut().without.push((from, clock.since_start().as_secs()));
                }
            }
            Action::Expire => ran_out = Some(clock.since_start().as_secs()),
            Action::CheckKeys => {}
            Action::Wait(until) => tokio::time::sleep(now.boot.until(until) / COMPRESSION).await,
        }
    }
}

fn request(endpoint: &str, subject: String) -> Request {
    let field = |name: &str, value: String| Field { name: name.to_owned(), value: Secret::new(value) };
    let fields = [
        field("connector_id", "k3s".to_owned()),
        field("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".to_owned()),
        field("scope", "openid profile federated:id".to_owned()),
        field("subject_token", subject),
        field("subject_token_type", "urn:ietf:params:oauth:token-type:id_token".to_owned()),
    ];
    Request {
        url: EndpointUrl::parse(endpoint).expect("Dex's own endpoint").0,
        authorization: basic_authorization(&Secret::new("user:".to_owned())),
        form: Some(form(&fields)),
    }
}

async fn until(clock: Compressed, second: u64) {
    tokio::time::sleep(clock.left_until(second)).await;
}

/// How many there were in all, and in the worst second.
fn told(seen: &Seen, seconds: std::ops::Range<u64>) -> String {
    let mut asked: Vec<u64> = seen.asked.iter().copied().filter(|second| seconds.contains(second)).collect();
    asked.sort_unstable();
    let worst = |asked: &[u64]| asked.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or_default();
    let after_a_minute = asked.partition_point(|second| *second < seconds.start + 60);
    format!(
        "{} exchanges, {} in the worst second, {} in the worst after the first minute",
        asked.len(),
        worst(&asked),
        worst(&asked[after_a_minute..])
    )
}

/// A bar for each ten seconds.
fn draw(path: &Path, asked: &[u64]) -> Result<(), Box<dyn Error>> {
    const WIDTH: u64 = 10;
    let mut bars = vec![0_u32; usize::try_from(END / WIDTH)?];
    for second in asked {
        if let Some(bar) = bars.get_mut(usize::try_from(second / WIDTH)?) {
            *bar += 1;
        }
    }
    let highest = bars.iter().copied().max().unwrap_or_default();
    let area = SVGBackend::new(path, (1_000, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let caption = format!("{CORES} sidecars, tokens of an hour: exchanges in each ten seconds");
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0..END, 0..highest + highest / 10)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(10)
        .x_label_formatter(&|second| format!("{} min", second / 60))
        .x_desc("grey: Dex is away")
        .y_desc("exchanges")
        .draw()?;
    let away = RGBColor(225, 225, 225).filled();
    chart.draw_series([Rectangle::new([(AWAY, 0), (BACK, highest + highest / 10)], away)])?;
    chart.draw_series((0_u64..).zip(&bars).filter(|(_, height)| **height > 0).map(|(nth, height)| {
        Rectangle::new([(nth * WIDTH, 0), ((nth + 1) * WIDTH, *height)], RGBColor(30, 90, 160).filled())
    }))?;
    area.present()?;
    Ok(())
}
