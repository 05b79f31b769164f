//! `token`: prints a token for scripts: from a token file that is valid, else by an exchange whose
//! token is cached for the next call. Fifty calls at once make one exchange.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dexsidecar_agent::exchange::{Inputs, LastKnown};
use dexsidecar_agent::readiness;
use dexsidecar_core::adoption::may_be_from;
use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::diagnosis;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::exchange::{Exchange, TokenEndpoint};
use dexsidecar_core::failure::{Code, Failure, Owner};
use dexsidecar_core::output::{Format, Output, StoredToken, WriteMode};
use dexsidecar_core::secret::Secret;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::output_file;
use ring::digest::{Context, SHA256};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// The cache within `XDG_RUNTIME_DIR`.
const DIRECTORY: &str = "dexsidecar";
/// The extension of a cached token.
const EXTENSION: &str = "token";
/// The extension of the file that is locked while the token is exchanged.
const LOCK_EXTENSION: &str = "lock";

/// What kubectl and git need by default: they use the token for a request after this program ended.
pub const DEFAULT_TTL_FOR_CLIENTS: Duration = Duration::from_secs(60);

/// The remaining validity that a printed token must have.
#[derive(Clone, Copy, Debug)]
pub enum MinTtl {
    /// This one.
    Given(Duration),
    /// This one, but at most half of the token's lifetime, so that every new token has it.
    UpToHalf(Duration),
}

impl MinTtl {
    fn of(self, lifetime: Option<Duration>) -> Duration {
        match self {
            Self::Given(least) => least,
            Self::UpToHalf(least) => lifetime.map_or(least, |lifetime| least.min(lifetime / 2)),
        }
    }

    /// What is needed of this token. One without an expiry has no remaining validity to judge.
    fn of_stored(self, stored: &StoredToken) -> Duration {
        match (self, stored.expires) {
            (Self::UpToHalf(_), None) => Duration::ZERO,
            _ => self.of(stored.lifetime),
        }
    }
}

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
        // It may exist already.
        let _ = DirBuilder::new().mode(0o700).create(runtime.join(DIRECTORY));
        let directory = own_directory(runtime)?;
        let name = name(exchange, inputs);
        let output = cached(directory.join(format!("{name}.{EXTENSION}")));
        let lock = output.path.with_extension(LOCK_EXTENSION);
        Some(Self { output, lock })
    }

    /// Waits until no other call exchanges for the same token.
    async fn lock(&self) -> Option<File> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A FIFO would block.
            .custom_flags((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed())
            .open(&self.lock)
            .ok()?;
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

/// The directory of the cache, if it belongs to this uid and is closed to others.
fn own_directory(runtime: &Path) -> Option<PathBuf> {
    let directory = runtime.join(DIRECTORY);
    let found = std::fs::symlink_metadata(&directory).ok()?;
    let is_closed = found.is_dir() && found.mode() & 0o077 == 0;
    (is_closed && found.uid() == rustix::process::geteuid().as_raw()).then_some(directory)
}

/// The file of a cached token.
fn cached(path: PathBuf) -> Output {
    Output {
        path,
        create_directories: false,
        format: Format::default(),
        mode: Some(0o600),
        group: None,
        write_mode: WriteMode::Atomic,
        remove_expired: false,
    }
}

/// Removes the tokens that have expired, and their lock files. Each new subject token has a
/// name of its own in the cache, which would grow with every rotation.
fn remove_expired(directory: &Path, clock: &Clock) {
    for lock in std::fs::read_dir(directory).into_iter().flatten().filter_map(|file| Some(file.ok()?.path()))
    {
        if lock.extension().is_none_or(|extension| extension != LOCK_EXTENSION) {
            continue;
        }
        // A call that exchanges for it holds the lock.
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
        let Ok(held) = OpenOptions::new().read(true).custom_flags(flags).open(&lock) else { continue };
        if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let token = cached(lock.with_extension(EXTENSION));
        let is_valid = output_file::read(&token).is_some_and(|stored| {
            readiness::of_token(&token.path, &stored, Duration::ZERO, clock).is_valid()
        });
        if !is_valid {
            let _ = std::fs::remove_file(&token.path);
            // A call that has opened it meanwhile makes an exchange of its own.
            let _ = std::fs::remove_file(&lock);
        }
    }
}

/// Removes this token from the cache in the directory `runtime`: a server has rejected it, so the
/// next call exchanges again. A token file keeps it, since other programs read that file.
pub fn forget(runtime: &Path, rejected: &Secret) {
    let files = own_directory(runtime).and_then(|directory| std::fs::read_dir(directory).ok());
    for path in files.into_iter().flatten().filter_map(|file| Some(file.ok()?.path())) {
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let output = cached(path);
        // A token that another call writes meanwhile may be removed too. It costs an exchange.
        if output_file::read(&output).is_some_and(|stored| stored.token == *rejected) {
            let _ = std::fs::remove_file(&output.path);
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
    add(exchange.issuer.as_deref().unwrap_or_default().as_bytes());
    inputs.identify(&mut add);
    digest.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token with at least the remaining validity of `min_ttl`.
///
/// # Errors
/// Any code of an exchange; `token_expired` if the issued token has less remaining validity.
pub async fn token(
    config: &TokenConfig,
    min_ttl: MinTtl,
    runtime: Option<&Path>,
    endpoint: &impl TokenEndpoint,
    clock: &Clock,
) -> Result<Secret, Failure> {
    let valid = |output: &Output| {
        let stored = output_file::read(output)?;
        // A token of another issuer is none that this configuration asks for.
        may_be_from(&stored.token, config.exchange.issuer.as_deref()).then_some(())?;
        let least = min_ttl.of_stored(&stored);
        readiness::of_token(&output.path, &stored, least, clock).is_valid().then_some(stored.token)
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
    let exchanged = inputs.exchange(exchange, endpoint, clock, 0, None).await;
    let (issued, _) = exchanged.map_err(|failure| {
        diagnosis::with_cause(failure, exchange, inputs.subject.as_ref(), clock.now().unix)
    })?;
    let needed = min_ttl.of(Some(issued.lifetime));
    if issued.lifetime < needed {
        let (lifetime, needed) = (HumanDuration(issued.lifetime), HumanDuration(needed));
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
        if let Some(directory) = cache.output.path.parent() {
            remove_expired(directory, clock);
        }
    }
    drop(lock);
    Ok(issued.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn the_default_is_a_minute_but_at_most_half_of_the_lifetime() {
        let secs = Duration::from_secs;
        let needed = |min_ttl: MinTtl, lifetime, expires: Option<u64>| {
            let expires = expires.map(dexsidecar_core::time::UnixTime::from_secs);
            min_ttl.of_stored(&StoredToken { expires, lifetime, ..StoredToken::of(secret("t")) }).as_secs()
        };
        let default = MinTtl::UpToHalf(DEFAULT_TTL_FOR_CLIENTS);
        for (lifetime, expected) in
            [(Some(3_600), 60), (Some(120), 60), (Some(60), 30), (Some(0), 0), (None, 60)]
        {
            assert_eq!(needed(default, lifetime.map(secs), Some(1_000)), expected, "{lifetime:?}");
            assert_eq!(needed(MinTtl::Given(secs(90)), lifetime.map(secs), Some(1_000)), 90);
        }
        assert_eq!((needed(default, None, None), needed(MinTtl::Given(secs(9)), None, None)), (0, 9));
    }

    #[test]
    fn a_rejected_token_is_removed_from_the_cache_and_no_other_file_is() {
        let runtime = tempfile::tempdir().unwrap();
        let directory = runtime.path().join(DIRECTORY);
        forget(runtime.path(), &secret("a.b.c"));
        DirBuilder::new().mode(0o700).create(&directory).unwrap();
        for (name, content) in
            [("1.token", "a.b.c"), ("2.token", "d.e.f"), ("1.lock", ""), ("3.other", "a.b.c")]
        {
            std::fs::write(directory.join(name), content).unwrap();
        }
        let names = || {
            let mut names: Vec<_> =
                std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        forget(runtime.path(), &secret("a.b"));
        assert_eq!(names(), ["1.lock", "1.token", "2.token", "3.other"]);
        let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
        std::fs::set_permissions(&directory, mode(0o755)).unwrap();
        forget(runtime.path(), &secret("a.b.c"));
        assert_eq!(names().len(), 4, "a directory that others may read is not the cache");
        std::fs::set_permissions(&directory, mode(0o700)).unwrap();
        forget(runtime.path(), &secret("a.b.c"));
        assert_eq!(names(), ["1.lock", "2.token", "3.other"]);
    }

    #[test]
    fn expired_tokens_leave_the_cache_with_their_locks_unless_a_call_holds_one() {
        /// `{"exp":1700000000}`.
        const EXPIRED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.c2ln";
        /// `{"iat":1000,"exp":1900000000}`.
        const VALID: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpYXQiOjEwMDAsImV4cCI6MTkwMDAwMDAwMH0.c2ln";
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, token) in
            [("valid", Some(VALID)), ("old", Some(EXPIRED)), ("failed", None), ("held", None)]
        {
            std::fs::write(path(&format!("{name}.lock")), "").unwrap();
            if let Some(token) = token {
                std::fs::write(path(&format!("{name}.token")), token).unwrap();
            }
        }
        std::fs::write(path("other"), EXPIRED).unwrap();
        let held = File::open(path("held.lock")).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        remove_expired(directory.path(), &Clock::System);
        let mut left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["held.lock", "other", "valid.lock", "valid.token"]);
    }
}
