//! Simulates a fleet: a thousand refreshers against a real Dex over TLS, in compressed time. It
//! measures when their exchanges happen, also during and after an outage of one hour, and draws
//! docs/fleet.svg.

#![expect(clippy::print_stdout, reason = "the figures are for the terminal")]

use std::cell::RefCell;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use dexsidecar_core::circuit_breaker::CircuitBreaker;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Field, Request, TokenEndpoint as _, basic_authorization, form};
use dexsidecar_core::refresher::{Decision, Fingerprint, Lifetime, Observation, Refresher};
use dexsidecar_core::response::{self, RequestContext};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{BootTime, Now, UnixTime};
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_edge::http_client::{HttpEndpoint, Proxies, Roots};
use dexsidecar_edge::random::jitter;
use plotters::prelude::*;

/// The number of simulated sidecars.
const SIDECARS: usize = 1_000;
/// The number of simulated seconds in one real second.
const COMPRESSION: u32 = 20;
const HOUR: u64 = 3_600;
/// The simulated second at which Dex is stopped.
const OUTAGE_START: u64 = 4_500;
/// The simulated second at which Dex is started again.
const OUTAGE_END: u64 = OUTAGE_START + HOUR;
/// The simulated second at which the simulation ends.
const END: u64 = OUTAGE_END + 4_500;

/// The simulated clock.
#[derive(Clone, Copy)]
struct Compressed(tokio::time::Instant);

impl Compressed {
    fn since_start(self) -> Duration {
        self.0.elapsed() * COMPRESSION
    }

    /// The real time until a simulated second.
    fn real_time_until(self, second: u64) -> Duration {
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

/// What happened, in simulated seconds.
#[derive(Default)]
struct Observed {
    /// The time of each exchange.
    exchanges: Vec<u64>,
    /// The number of issued tokens.
    issued: usize,
    /// From the expiry of a sidecar's token to its next token.
    without_token: Vec<(u64, u64)>,
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
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "1h".to_owned(), ..DexSetup::default() });
    println!(
        "{SIDECARS} sidecars, a real Dex with 1h tokens over TLS, time compressed {COMPRESSION} times: takes {} minutes",
        END / u64::from(COMPRESSION) / 60
    );
    let endpoint =
        Rc::new(HttpEndpoint::new(Duration::from_secs(15), Roots::File(dex.ca_file()), Proxies::default()));
    let request = Rc::new(request(&dex.endpoint(), issuer.token(86_400)));
    let clock = Compressed(tokio::time::Instant::now());
    let observed = Rc::new(RefCell::new(Observed::default()));
    for _ in 0..SIDECARS {
        let (endpoint, request, observed) = (Rc::clone(&endpoint), Rc::clone(&request), Rc::clone(&observed));
        tokio::task::spawn_local(async move {
            // The sidecars start within one minute.
            tokio::time::sleep(jitter().share_of(Duration::from_secs(60)) / COMPRESSION).await;
            sidecar(clock, &endpoint, &request, &observed).await;
        });
    }
    // In its own thread, since starting Dex takes time: that would stop all sidecars and
    // synchronise them. The thread runs as long as its Dex, which is killed with it.
    let dex = std::thread::spawn(move || {
        std::thread::sleep(clock.real_time_until(OUTAGE_START));
        dex.stop();
        std::thread::sleep(clock.real_time_until(OUTAGE_END));
        dex.resume();
        let ready_at = clock.since_start().as_secs();
        std::thread::sleep(clock.real_time_until(END));
        drop(dex);
        ready_at
    });
    until(clock, OUTAGE_START).await;
    println!("Dex is stopped; before the outage: {}", load(&observed.borrow(), 0..OUTAGE_START));
    until(clock, OUTAGE_END).await;
    println!("Dex is started; during the outage: {}", load(&observed.borrow(), OUTAGE_START..OUTAGE_END));
    until(clock, END).await;
    let ready_at = dex.join().map_err(|_| "Dex could not be stopped and started")?;
    let observed = observed.borrow();
    println!("after the outage: {}", load(&observed, OUTAGE_END..END));
    let gaps = observed.without_token.iter();
    let longest = gaps.clone().map(|(from, until)| until - from).max().unwrap_or_default();
    println!(
        "tokens issued: {}; sidecars without a valid token for some time: {}, for at most {longest} s",
        observed.issued,
        observed.without_token.len(),
    );
    let last = gaps.map(|(_, until)| until.saturating_sub(ready_at)).max().unwrap_or_default();
    println!(
        "Dex took {} s to start; the last sidecar had a valid token {last} s later",
        ready_at - OUTAGE_END
    );
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleet.svg");
    draw(&picture, &observed.exchanges)?;
    println!("written: docs/fleet.svg");
    // Promise P3 says 30 s. Compressed time makes each delay of this machine twenty times longer,
    // so up to 60 s are allowed.
    let before_the_outage = observed.without_token.iter().any(|(_, until)| *until < OUTAGE_START);
    let held = last <= 60 && observed.issued >= 3 * SIDECARS && !before_the_outage;
    if held { Ok(()) } else { Err("promise P3 did not hold".into()) }
}

/// Runs one sidecar: what `agent.rs` does, without a file.
async fn sidecar(
    clock: Compressed,
    endpoint: &HttpEndpoint,
    request: &Request,
    observed: &RefCell<Observed>,
) {
    let mut refresher = Refresher::new(Schedule::default(), None, 1, clock.now());
    // Each sidecar is a process of its own, so they share nothing.
    let mut dex = CircuitBreaker::default();
    let mut expired_at = None;
    loop {
        let now = clock.now();
        match refresher.step(now, jitter(), &mut dex.member(0)) {
            Decision::Exchange => {
                observed.borrow_mut().exchanges.push(clock.since_start().as_secs());
                let answer = endpoint.send(request, refresher.failures() as usize).await;
                let (endpoint_url, secrets) = (&request.url, &[]);
                let asked =
                    RequestContext { endpoint: endpoint_url, now: now.unix, requested_type: None, secrets };
                match answer.and_then(|answer| response::read(&answer, asked)) {
                    Ok(token) => {
                        // Only its lifetime counts: its timestamps are in real time.
                        let lifetime = Lifetime::starting(now.boot, token.lifetime);
                        dex.member(0).issued();
                        refresher.on(Observation::Issued(lifetime), clock.now(), jitter());
                        observed.borrow_mut().issued += 1;
                    }
                    Err(failure) => {
                        let (code, retry_after) = (failure.code, failure.retry_after);
                        let (ended, jitter, inputs) = (clock.now(), jitter(), Fingerprint(0));
                        dex.member(0).failed(code, retry_after, ended.boot, jitter);
                        let failed = Observation::ExchangeFailed { code, retry_after, inputs };
                        refresher.on(failed, ended, jitter);
                    }
                }
            }
            Decision::Publish(output) => {
                refresher.on(Observation::Written(output), clock.now(), jitter());
                if let Some(from) = expired_at.take() {
                    observed.borrow_mut().without_token.push((from, clock.since_start().as_secs()));
                }
            }
            Decision::Expire(_) => expired_at = Some(clock.since_start().as_secs()),
            Decision::CheckKeys => {}
            Decision::Wait(until) => tokio::time::sleep(now.boot.until(until) / COMPRESSION).await,
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
        url: EndpointUrl::parse(endpoint).expect("the endpoint of Dex is valid").0,
        authorization: basic_authorization(&Secret::new("user:".to_owned())),
        form: Some(form(&fields)),
    }
}

async fn until(clock: Compressed, second: u64) {
    tokio::time::sleep(clock.real_time_until(second)).await;
}

/// The number of exchanges in a span of time, and in its busiest second.
fn load(observed: &Observed, seconds: std::ops::Range<u64>) -> String {
    let mut exchanges = observed.exchanges.clone();
    exchanges.retain(|second| seconds.contains(second));
    exchanges.sort_unstable();
    let busiest = |all: &[u64]| all.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or_default();
    let after_a_minute = exchanges.partition_point(|second| *second < seconds.start + 60);
    format!(
        "{} exchanges, {} in the busiest second, {} in the busiest second after the first minute",
        exchanges.len(),
        busiest(&exchanges),
        busiest(&exchanges[after_a_minute..])
    )
}

/// Draws a bar for each ten seconds.
fn draw(path: &Path, exchanges: &[u64]) -> Result<(), Box<dyn Error>> {
    const WIDTH: u64 = 10;
    let mut bars = vec![0_u32; usize::try_from(END / WIDTH)?];
    for second in exchanges {
        if let Some(bar) = bars.get_mut(usize::try_from(second / WIDTH)?) {
            *bar += 1;
        }
    }
    let highest = bars.iter().copied().max().unwrap_or_default();
    let area = SVGBackend::new(path, (1_000, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let caption = format!("{SIDECARS} sidecars with 1h tokens: exchanges in each ten seconds");
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
        .x_desc("grey: Dex is down")
        .y_desc("exchanges")
        .draw()?;
    let outage = RGBColor(225, 225, 225).filled();
    chart.draw_series([Rectangle::new([(OUTAGE_START, 0), (OUTAGE_END, highest + highest / 10)], outage)])?;
    chart.draw_series((0_u64..).zip(&bars).filter(|(_, height)| **height > 0).map(|(nth, height)| {
        Rectangle::new([(nth * WIDTH, 0), ((nth + 1) * WIDTH, *height)], RGBColor(30, 90, 160).filled())
    }))?;
    area.present()?;
    Ok(())
}
