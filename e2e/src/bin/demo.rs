//! A demo: dexsidecar keeps a token of a real Dex fresh. Ctrl-C stops it and leaves nothing behind.
//!
//! `--once-around` exits after three tokens. `--prefetch-error WHY` is why `cargo xtask demo` could
//! not prefetch everything; it is printed if there is no real Dex.

#![expect(clippy::print_stdout, reason = "the demo is what it prints")]

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_fetch::counterparts::DEX;
use signal_hook::consts::{SIGINT, SIGTERM};

/// In seconds; short, so that the token is refreshed while somebody watches.
const LIFETIME: u64 = 20;
/// The number of tokens that `--once-around` waits for.
const ROUNDS: usize = 3;

/// What issues the tokens. It stops when this is dropped.
#[expect(dead_code, reason = "it is held until the end, and not read")]
enum TokenEndpoint {
    Dex(Box<Dex>),
    Fake(Box<(FakeDex, Authority)>),
}

fn main() -> ExitCode {
    let once_around = std::env::args().any(|argument| argument == "--once-around");
    let prefetch_error = std::env::args().skip_while(|argument| argument != "--prefetch-error").nth(1);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("signal handlers can be installed");
    }
    println!("\n1. program: {}", program().display());
    let issuer = FakeApiServer::start();
    println!("2. issuer, in place of a Kubernetes API server: {}", issuer.url());
    let volume = ProjectedVolume::with(&issuer.token(600));
    println!("3. subject token, in place of a projected ServiceAccount token: {}", volume.token().display());
    let (token_endpoint, setup) = token_endpoint(&issuer, prefetch_error.as_deref());
    // The log as users see it by default.
    let setup = setup.subject(&volume).unset("DEXSIDECAR_LOG").unset("DEXSIDECAR_LOG_FORMAT");
    println!("\n   To run commands yourself while the demo runs, paste this into another terminal:\n");
    for line in setup.environment() {
        println!("   export {line}");
    }
    println!("   {} check\n", program().display());
    println!("5. dexsidecar run: its log, and the token file after each exchange\n");
    let sidecar = setup.run();
    let passed = watch(sidecar, &volume, &issuer, &stop, if once_around { ROUNDS } else { usize::MAX });
    drop(token_endpoint);
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A real Dex if it is in the cache, otherwise a fake one.
fn token_endpoint(issuer: &FakeApiServer, prefetch_error: Option<&str>) -> (TokenEndpoint, Setup) {
    if DEX.is_cached() {
        println!("4. Dex, which issues {LIFETIME} s tokens");
        let dex = Dex::start(issuer, &DexSetup { lifetime: format!("{LIFETIME}s"), ..DexSetup::default() });
        println!("   {}", dex.endpoint());
        let setup = Setup::new().at(&dex);
        return (TokenEndpoint::Dex(Box::new(dex)), setup);
    }
    let why = prefetch_error.map_or_else(
        || "cargo xtask prefetch builds it".to_owned(),
        |error| format!("prefetch: {}", error.trim_end_matches(':')),
    );
    println!("4. a FAKE Dex with the same responses, since the real one is not in the cache ({why})");
    let authority = Authority::new();
    let endpoint = FakeDex::start_at("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    endpoint.always(Answer::Token(LIFETIME));
    let ca = authority.file().to_str().expect("UTF-8").to_owned();
    let setup = Setup::new().at_fake(&endpoint).set("DEXSIDECAR_CA_FILE", ca);
    (TokenEndpoint::Fake(Box::new((endpoint, authority))), setup)
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        let what = match self {
            Self::Dex(_) => "Dex",
            Self::Fake(_) => "the fake Dex",
        };
        println!("   {what} and the issuer are stopped, and their files are removed");
    }
}

/// Prints the sidecar's log as it grows, and the token file after each exchange. Gives whether all
/// went well.
fn watch(
    mut sidecar: Sidecar,
    volume: &ProjectedVolume,
    issuer: &FakeApiServer,
    stop: &AtomicBool,
    rounds: usize,
) -> bool {
    let start = Instant::now();
    let (mut shown, mut written, mut last) = (0, 0, String::new());
    while !stop.load(Ordering::SeqCst) && written < rounds {
        let output = sidecar.process.output();
        for line in output.lines().skip(shown) {
            println!("   {line}");
            shown += 1;
            if line.contains("token written") {
                written += 1;
                print_token(&sidecar, start, &mut last);
                // As the kubelet does, long before the subject token expires.
                volume.replace_token(&issuer.token(600));
            }
        }
        if !sidecar.process.is_running() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let code = sidecar.terminate();
    println!("\n6. SIGTERM: dexsidecar exited with code {}", exit_code(code));
    code == Some(0) && (written >= rounds || rounds == usize::MAX)
}

fn print_token(sidecar: &Sidecar, start: Instant, last: &mut String) {
    let Some(token) = sidecar.token() else { return };
    let claims = claims(&token);
    let expires_in = claims["exp"].as_u64().unwrap_or_default().saturating_sub(now());
    let which = if *last == token { "the same" } else { "a new" };
    println!(
        "      {:>3} s  token file: {which} token of {} bytes, aud {}, name {}, expires in {expires_in} s",
        start.elapsed().as_secs(),
        token.len(),
        claims["aud"],
        claims["name"],
    );
    *last = token;
    let ready = sidecar.setup().execute(&["ready"]);
    println!(
        "             dexsidecar ready: exit code {}: {}",
        exit_code(ready.code),
        ready.stdout.trim_end()
    );
    // The thread that wrote the file ends a moment later.
    std::thread::sleep(Duration::from_millis(100));
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap_or_default();
    let figure = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned()
    };
    println!(
        "             memory: {} resident, {} of it private; threads: {}\n",
        figure("VmRSS"),
        figure("RssAnon"),
        figure("Threads"),
    );
}

fn exit_code(code: Option<i32>) -> String {
    code.map_or_else(|| "none (killed by a signal)".to_owned(), |code| code.to_string())
}
