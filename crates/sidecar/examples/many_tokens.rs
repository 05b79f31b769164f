//! Keeps many tokens of one Dex fresh in one process: the token of the environment, as often as the
//! argument says, each in a file of its own beside `dex_access_token_file`. The benchmark measures
//! what a further token costs. The configuration file will replace this example.

use std::process::ExitCode;

use dexsidecar_agent::Scheduler;
use dexsidecar_core::config::{Config, RawSettings};
use dexsidecar_core::exchange::Endpoint;
use dexsidecar_core::needs::Needs;
use dexsidecar_core::secret::Secret;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::hardening;
use dexsidecar_edge::http_client::{HttpEndpoint, Proxies, Roots};
use dexsidecar_edge::log::Logger;
use dexsidecar_edge::signal::RefreshSignal;

#[expect(clippy::print_stderr, clippy::disallowed_methods, reason = "it is a program of its own")]
fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|count| count.parse::<usize>().ok());
    let variables =
        std::env::vars().filter(|(name, _)| name.starts_with("dex_") || name.starts_with("DEXSIDECAR_"));
    let variables = variables.map(|(name, value)| (name, Secret::new(value))).collect::<Vec<_>>();
    let config = Config::read(&RawSettings::of_variables(variables), true);
    let (Some(count), Ok(config)) = (count, config) else {
        eprintln!("usage: many_tokens COUNT, with the settings of dexsidecar in the environment");
        return ExitCode::from(64);
    };
    hardening::harden();
    hardening::confine(&Needs::of(&config));
    let tokens = (0..count).map(|index| {
        let mut token = config.tokens[0].clone();
        token.name = format!("{}-{index}", token.name);
        for output in &mut token.outputs {
            output.path.as_mut_os_string().push(format!(".{index}"));
        }
        token
    });
    let connect = |endpoint: &Endpoint| {
        let roots = endpoint.ca_file.clone().map_or_else(|| Roots::system(None, None), Roots::File);
        HttpEndpoint::new(endpoint.attempt_timeout, roots, Proxies::read(|_| None))
    };
    let log = Logger::new(config.log, Clock::System);
    let tokens = tokens.collect();
    let mut scheduler = Scheduler::new(tokens, connect, Clock::System, log, config.termination_log.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let kept = runtime.map(|runtime| {
        runtime.block_on(async {
            let mut refresh_signal = RefreshSignal::install()?;
            scheduler.run(&mut refresh_signal, None).await;
            Ok::<_, std::io::Error>(())
        })
    });
    match kept {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) | Err(error) => {
            eprintln!("many_tokens: {error}");
            ExitCode::FAILURE
        }
    }
}
