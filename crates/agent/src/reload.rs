//! The configuration file while the program runs: it is read again when it has changed, and at
//! SIGHUP. One that is invalid changes nothing.

use std::fmt::Display;

use dexsidecar_core::config::{Config, Problem, TokenConfig};
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::Endpoint;
use dexsidecar_core::metrics;
use dexsidecar_core::reload::ReloadLimits;
use dexsidecar_core::time::UnixTime;
use dexsidecar_edge::log::Logger;

/// Where the configuration comes from. `E` is the client of a Dex.
pub trait ConfigSource<E> {
    /// A number that changes when the file changes, without reading it.
    fn fingerprint(&self) -> u64;

    /// Reads the configuration.
    ///
    /// # Errors
    /// Every problem; at least one.
    fn read(&self) -> Result<Config, Vec<Problem>>;

    /// A client for this endpoint.
    fn connect(&self, endpoint: &Endpoint) -> E;
}

/// Logs every problem.
pub fn log_problems(log: &Logger, problems: &[Problem]) {
    for problem in problems {
        let Problem { setting, what, fix, .. } = problem;
        let place = problem.shown_place();
        let place = place.as_ref().map(|place| place as &dyn Display);
        log.emit(&Event::SettingInvalid { place, setting, error: what, fix });
    }
}

/// Reads the configuration file again.
pub struct Reload<'a, E> {
    source: &'a dyn ConfigSource<E>,
    limits: ReloadLimits,
    /// The fingerprint of the file before it was read last.
    read_at: u64,
    status: metrics::Reload,
    /// The problems that were logged last, until the file is accepted.
    logged_problems: Vec<Problem>,
}

impl<'a, E> Reload<'a, E> {
    /// Reloads of a program that has read its configuration at `now`, when the file had this
    /// fingerprint.
    #[must_use]
    pub fn new(
        source: &'a dyn ConfigSource<E>,
        limits: ReloadLimits,
        fingerprint: u64,
        now: UnixTime,
    ) -> Self {
        let status = metrics::Reload { is_successful: true, last_success: now };
        Self { source, limits, read_at: fingerprint, status, logged_problems: vec![] }
    }

    /// Whether the file has changed since it was read. One that was refused is read again: it may
    /// have been unreadable for a moment.
    pub(crate) fn is_due(&self) -> bool {
        !self.logged_problems.is_empty() || self.source.fingerprint() != self.read_at
    }

    /// Reads the file. Logs the problems, unless the same ones were logged before and no signal
    /// requested the reload. `None` if there are problems.
    pub(crate) fn read(&mut self, by_signal: bool, log: &Logger, now: UnixTime) -> Option<Vec<TokenConfig>> {
        self.read_at = self.source.fingerprint();
        let read = self.source.read().and_then(|config| {
            let later = self.limits.check(&config)?;
            Ok((config, later))
        });
        self.status.is_successful = read.is_ok();
        match read {
            Ok((config, later)) => {
                self.status.last_success = now;
                self.logged_problems.clear();
                for warning in config.warnings.iter().chain(&later) {
                    log.emit(&Event::SettingWarning { warning });
                }
                Some(config.tokens)
            }
            Err(problems) => {
                if by_signal || problems != self.logged_problems {
                    log_problems(log, &problems);
                    let count = problems.len().try_into().unwrap_or(u64::MAX);
                    log.emit(&Event::ConfigRefused { problems: count });
                    self.logged_problems = problems;
                }
                None
            }
        }
    }

    /// A client for this endpoint.
    pub(crate) fn connect(&self, endpoint: &Endpoint) -> E {
        self.source.connect(endpoint)
    }

    /// What came of the last reload.
    pub(crate) const fn status(&self) -> metrics::Reload {
        self.status
    }
}

impl<E> std::fmt::Debug for Reload<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("status", &self.status).finish_non_exhaustive()
    }
}
