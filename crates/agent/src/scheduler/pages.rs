//! Answers the requests to the listener. Nothing is kept ready for them: a page is rendered when it
//! is requested.

use dexsidecar_core::exchange::{Seen, TokenEndpoint};
use dexsidecar_core::metrics::{self, Process, Snapshot};
use dexsidecar_core::pages::{Page, Response, TokenReadiness};
use dexsidecar_edge::listener::{Listener, Request};
use dexsidecar_edge::process_figures;

use super::Scheduler;

impl<E: TokenEndpoint + 'static> Scheduler<E> {
    /// Serves probes and metrics from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    /// Answers a request.
    pub(super) fn answer(&self, request: Request) {
        let response = self.response(&request.page);
        request.reply(response);
    }

    fn response(&self, page: &Page) -> Response {
        let now = self.clock.now();
        match page {
            // This is the loop.
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

    fn snapshot(&self) -> Snapshot<'_> {
        let now = self.clock.now();
        let mut all = Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            tokens: self.tokens.iter().map(|each| each.token.figures(now)).collect(),
            reload: self.reload_status.map(|reload| metrics::Reload {
                is_successful: reload.successful,
                last_success: reload.last_success,
            }),
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
        for upstream in &self.upstreams {
            let (count, took) = upstream.exchanges_ended;
            all.exchanges_ended.0 += count;
            all.exchanges_ended.1 = all.exchanges_ended.1.saturating_add(took);
        }
        for each in &self.tokens {
            let Seen { clock_skew, certificate_expires } = each.client.seen();
            let skew = clock_skew.unwrap_or_default();
            if skew.unsigned_abs() > all.clock_skew.unsigned_abs() {
                all.clock_skew = skew;
            }
            // `None` is less than any instant.
            if let Some(expires) = certificate_expires
                && all.certificate_expires.is_none_or(|first| expires < first)
            {
                all.certificate_expires = Some(expires);
            }
        }
        all
    }
}
