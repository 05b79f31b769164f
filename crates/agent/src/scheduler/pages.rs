//! Answers the requests to the listener. A page is rendered when it is requested.

use dexsidecar_core::exchange::TokenEndpoint;
use dexsidecar_core::metrics::{Process, Snapshot};
use dexsidecar_core::pages::{Page, Response, TokenReadiness};
use dexsidecar_edge::listener::{Listener, Request};
use dexsidecar_edge::process_figures;

use super::Scheduler;

/// The next request; without a listener it waits forever. Nothing is lost when the future is
/// dropped.
pub(super) async fn next(listener: &mut Option<Listener>) -> Request {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

impl<E: TokenEndpoint + 'static> Scheduler<E> {
    /// Serves probes and metrics from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, request: Request) {
        let is_shown = |name: &str| match &request.page {
            Page::Live => false,
            Page::ReadyToken(one) => one == name,
            Page::Ready { .. } | Page::Metrics => true,
        };
        for each in self.tokens.iter_mut().filter(|each| is_shown(each.token.name())) {
            each.token.read_files();
        }
        let response = self.response(&request.page);
        request.reply(response);
    }

    fn response(&self, page: &Page) -> Response {
        let now = self.clock.now();
        match page {
            Page::Live => Response::line(200, "ok"),
            Page::Ready { verbose } => {
                let tokens: Vec<TokenReadiness<'_>> =
                    self.tokens.iter().map(|each| each.token.readiness(now)).collect();
                Response::ready(&tokens, *verbose)
            }
            Page::ReadyToken(name) => {
                let token = self.tokens.iter().find(|each| each.token.name() == name);
                Response::ready_token(token.map(|each| each.token.readiness(now)).as_ref())
            }
            Page::Metrics => Response::metrics(&self.snapshot()),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        let now = self.clock.now();
        let mut all = Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            tokens: self.tokens.iter().map(|each| each.token.figures(now)).collect(),
            reload: self.reload_status,
            process: Process {
                // The clock may have been wrong at the start, and stepped since.
                started: match now.is_stepped_since(self.started) {
                    true => now.unix_at(self.started.boot),
                    false => self.started.unix,
                },
                cpu: process_figures::cpu_time(),
                resident: process_figures::resident_bytes().unwrap_or_default(),
            },
            exchanges_ended: self.removed_exchanges,
            ..Snapshot::default()
        };
        for (index, upstream) in self.upstreams.iter().enumerate() {
            let (count, took) = upstream.exchanges_ended;
            all.exchanges_ended.0 += count;
            all.exchanges_ended.1 = all.exchanges_ended.1.saturating_add(took);
            // Tokens of one Dex may have different clients: the last response of any counts.
            let seen =
                self.tokens.iter().filter(|each| each.upstream == index).map(|each| each.client.seen());
            let Some(seen) = seen.max_by_key(|seen| seen.at.boot) else { continue };
            let skew = seen.clock_skew_at(now).unwrap_or_default();
            if skew.unsigned_abs() > all.clock_skew.unsigned_abs() {
                all.clock_skew = skew;
            }
            // `None` is less than any instant.
            if let Some(expires) = seen.certificate_expires
                && all.certificate_expires.is_none_or(|first| expires < first)
            {
                all.certificate_expires = Some(expires);
            }
        }
        all
    }
}
