//! `token`: prints a token for scripts: from a token file that is valid, else by an exchange whose
//! token is cached for the next call. Fifty calls at once make one exchange.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dexsidecar_agent::exchange::{Inputs, LastKnown};
use dexsidecar_agent::readiness;
use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::exchange::{Exchange, TokenEndpoint};
use dexsidecar_core::failure::{Code, Failure, Owner};
use dexsidecar_core::output::{Format, Output, WriteMode};
use dexsidecar_core::secret::Secret;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::output_file;
use ring::digest::{Context, SHA256};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The cache of tokens between calls, if there is a directory for it.
#[derive(Debug)]
struct Cache {
    output: Output,
    lock: PathBuf,
}

impl Cache {
    /// A file in the directory `runtime` (`XDG_RUNTIME_DIR`) for the token that these inputs bring.
    /// The directory must belong to this uid and be closed to others.
    fn open(runtime: &Path, exchange: &Exchange, inputs: &Inputs) -> Option<Self> {
        let directory = runtime.join("dexsidecar");
        // It may exist already.
        let _ = DirBuilder::new().mode(0o700).create(&directory);
        let found = std::fs::symlink_metadata(&directory).ok()?;
        let ours =
            found.is_dir() && found.mode() & 0o077 == 0 && found.uid() == rustix::process::geteuid().as_raw();
        let name = name(exchange, inputs);
        let path = directory.join(format!("{name}.token"));
        let output = Output {
            path,
            create_directories: false,
            format: Format::default(),
            mode: Some(0o600),
            group: None,
            write_mode: WriteMode::Atomic,
            remove_expired: false,
        };
        ours.then(|| Self { output, lock: directory.join(format!("{name}.lock")) })
    }

    /// Waits until no other call exchanges for the same token.
    async fn lock(&self) -> Option<File> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.lock).ok()?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(file),
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(Duration::from_millis(20)).await,
                // The file system does not support locks.
                Err(_) => return None,
            }
        }
    }
}

/// A file name that is the same for the same exchange by the same identity, and reveals nothing
/// about it.
fn name(exchange: &Exchange, inputs: &Inputs) -> String {
    let mut digest = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        digest.update(&bytes.len().to_le_bytes());
        digest.update(bytes);
    };
    add(exchange.endpoint.url.origin().as_bytes());
    add(exchange.endpoint.url.target().as_bytes());
    inputs.identify(&mut add);
    digest.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token with at least the remaining validity of `min_ttl`.
///
/// # Errors
/// Any code of an exchange; `token_expired` if the issued token has less remaining validity.
pub async fn token(
    config: &TokenConfig,
    min_ttl: Duration,
    runtime: Option<&Path>,
    endpoint: &impl TokenEndpoint,
    clock: &Clock,
) -> Result<Secret, Failure> {
    let valid = |output: &Output| {
        let stored = output_file::read(output)?;
        readiness::of_token(&output.path, &stored, min_ttl, clock).is_valid().then_some(stored.token)
    };
    if let Some(token) = config.outputs.iter().find_map(valid) {
        return Ok(token);
    }
    let exchange = &config.exchange;
    let inputs = Inputs::read(exchange, &mut LastKnown::default(), clock.now().unix, endpoint).await?;
    let cache = runtime.and_then(|runtime| Cache::open(runtime, exchange, &inputs));
    let lock = match &cache {
        Some(cache) => cache.lock().await,
        None => None,
    };
    if let Some(token) = cache.as_ref().and_then(|cache| valid(&cache.output)) {
        return Ok(token);
    }
    let (issued, _) = inputs.exchange(exchange, endpoint, clock, 0, None).await?;
    if issued.lifetime < min_ttl {
        let (lifetime, needed) = (HumanDuration(issued.lifetime), HumanDuration(min_ttl));
        let detail = format!("its lifetime is {lifetime}, but --min-ttl is {needed}");
        let fix = "use a shorter --min-ttl, or set a longer expiry.idTokens in Dex's configuration";
        return Err(Failure::new(Code::TokenExpired, detail).owned_by(Owner::Pod).with_fix(fix));
    }
    // Only a token with an expiry can be judged by the next call. One that cannot be cached is
    // printed all the same, and the next call exchanges again.
    if let Some(cache) =
        cache.filter(|_| issued.claims.as_ref().is_some_and(|claims| claims.expires.is_some()))
    {
        let _ = output_file::write(&cache.output, &issued.token);
    }
    drop(lock);
    Ok(issued.token)
}
