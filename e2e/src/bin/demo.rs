//! The main job, to be watched: a token being kept fresh by a real Dex. Ctrl-C ends it and leaves nothing behind.

#![expect(clippy::print_stdout, reason = "the demo is what it prints")]

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_fetch::counterparts::DEX;
use dexsidecar_fetch::go;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Short, so that something is to be seen.
const LIFETIME: u64 = 20;
/// How many tokens `--once-around` waits for.
const ROUNDS: usize = 3;

/// Whoever issues the tokens; ends when it is dropped.
#[expect(dead_code, reason = "held, not read")]
enum Issuing {
    Dex(Box<Dex>),
    StandIn(Box<(Endpoint, Authority)>),
}

fn main() -> ExitCode {
    let once_around = std::env::args().any(|argument| argument == "--once-around");
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("signals can be heard");
    }
    println!("\n1. the program: {}", program().display());
    let issuer = Issuer::start();
    println!("2. a test issuer, as a Kubernetes API server: {}", issuer.url());
    let volume = Volume::with(&issuer.token(600));
    println!("3. a projected ServiceAccount token: {}", volume.token().display());
    let (issuing, setup) = issuing(&issuer);
    let setup = setup.subject(&volume);
    println!("\n   the environment, to repeat it in another terminal while this runs:\n");
    for line in setup.environment() {
        println!("   export {line}");
    }
    println!("   {} check\n", program().display());
    println!("5. dexsidecar run: what it logs, and after each exchange what became of it\n");
    let sidecar = setup.run();
    let good = watch(sidecar, &volume, &issuer, &stop, if once_around { ROUNDS } else { usize::MAX });
    drop(issuing);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A real Dex where Go can build it, else the stand-in, plainly said.
fn issuing(issuer: &Issuer) -> (Issuing, Setup) {
    let buildable = if DEX.is_cached() { Ok(()) } else { DEX.required_go().and_then(go::look) };
    match buildable {
        Ok(()) => {
            println!(
                "4. a real Dex, with tokens of {LIFETIME} seconds (built from its Go module the first time)"
            );
            let dex =
                Dex::start(issuer, &DexSetup { lifetime: format!("{LIFETIME}s"), ..DexSetup::default() });
            println!("   {}", dex.endpoint());
            let setup = Setup::new().at(&dex);
            (Issuing::Dex(Box::new(dex)), setup)
        }
        Err(missing) => {
            println!("4. NOT a real Dex, but a stand-in with the same answers: {missing}");
            let authority = Authority::new();
            let endpoint = Endpoint::start("127.0.0.1:0", Some(authority.server(&[]).server_config()));
            endpoint.always(Answer::Token(LIFETIME));
            let ca = authority.file().to_str().expect("UTF-8").to_owned();
            let setup = Setup::new().at_stand_in(&endpoint).set("DEXSIDECAR_CA_FILE", ca);
            (Issuing::StandIn(Box::new((endpoint, authority))), setup)
        }
    }
}

impl Drop for Issuing {
    fn drop(&mut self) {
        let what = match self {
            Self::Dex(_) => "Dex",
            Self::StandIn(_) => "the stand-in",
        };
        println!("   {what} and the issuer have ended, their files are removed");
    }
}

/// Shows what the sidecar says as it says it. Gives whether all went well.
fn watch(mut sidecar: Sidecar, volume: &Volume, issuer: &Issuer, stop: &AtomicBool, rounds: usize) -> bool {
    let start = Instant::now();
    let (mut shown, mut written, mut last) = (0, 0, String::new());
    while !stop.load(Ordering::SeqCst) && written < rounds {
        let output = sidecar.process.output();
        for line in output.lines().skip(shown) {
            println!("   {line}");
            shown += 1;
            if line.contains("token written") {
                written += 1;
                aftermath(&sidecar, start, &mut last);
                // The kubelet replaces the subject token in good time, and so does this.
                volume.put(&issuer.token(600));
            }
        }
        if !sidecar.process.runs() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let code = sidecar.terminate();
    println!("\n6. SIGTERM: dexsidecar ended with {}", spelt(code));
    code == Some(0) && (written >= rounds || rounds == usize::MAX)
}

fn aftermath(sidecar: &Sidecar, start: Instant, last: &mut String) {
    let Some(token) = sidecar.token() else { return };
    let claims = claims(&token);
    let left = claims["exp"].as_u64().unwrap_or_default().saturating_sub(now());
    let fresh = if *last == token { "the same" } else { "another" };
    println!(
        "      {:>3} s  the file holds {fresh} token: {} bytes, for {}, name {}, good for {left} s",
        start.elapsed().as_secs(),
        token.len(),
        claims["aud"],
        claims["name"],
    );
    *last = token;
    let ready = sidecar.setup().done(&["ready"]);
    let code = spelt(ready.code);
    println!("             dexsidecar ready says {code}: {}", ready.stdout.trim_end());
    // The thread that wrote the file goes a moment later.
    std::thread::sleep(Duration::from_millis(100));
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap_or_default();
    let figure = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned()
    };
    println!(
        "             it costs {} of memory ({} of its own), threads: {}\n",
        figure("VmRSS"),
        figure("RssAnon"),
        figure("Threads"),
    );
}

fn spelt(code: Option<i32>) -> String {
    code.map_or_else(|| "a signal".to_owned(), |code| code.to_string())
}
