//! Applies a configuration that was read again: tokens are compared by name. Those that did not
//! change keep their state.

use std::rc::Rc;
use std::time::Duration;

use dexsidecar_core::action::Notify;
use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::{Endpoint, TokenEndpoint};
use dexsidecar_core::limits::MAX_TOKENS;
use dexsidecar_edge::random;

use super::{Scheduled, Scheduler};
use crate::job::Ended;
use crate::reload::Reload;
use crate::token::Token;
use crate::upstream::Upstream;

/// How long the rate limit of a removed token is kept: a full bucket comes back in 20 s, and P5
/// counts the attempts of a minute.
const LIMITS_ARE_KEPT: Duration = Duration::from_secs(60);

/// What a reload has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    added: u64,
    changed: u64,
    removed: u64,
}

impl<E: TokenEndpoint + Notify + 'static> Scheduler<E> {
    /// Reads the configuration file if it has changed, or in any case if a signal asks for it.
    pub(super) fn reload(&mut self, reload: Option<&mut Reload<'_, E>>, by_signal: bool) {
        let Some(reload) = reload.filter(|reload| by_signal || reload.is_due()) else { return };
        if let Some(tokens) = reload.read(by_signal, &self.log, self.clock.now().unix) {
            let Changes { added, changed, removed } =
                self.apply(tokens, &|endpoint| reload.connect(endpoint));
            self.log.emit(&Event::ConfigReloaded { added, changed, removed });
        }
        self.reload_status = Some(reload.status());
    }

    pub(super) fn apply(&mut self, tokens: Vec<TokenConfig>, connect: &dyn Fn(&Endpoint) -> E) -> Changes {
        let mut former = std::mem::take(&mut self.tokens);
        // The clients of endpoints that stay are kept, and so is what is known of each Dex.
        let mut known: Vec<(Endpoint, Rc<E>, usize)> = former
            .iter()
            .map(|each| (each.token.endpoint().clone(), Rc::clone(&each.client), each.upstream))
            .collect();
        self.keep_limits_of_removed(&former, &tokens);
        let several = tokens.len() > 1;
        let mut changes = Changes::default();
        // The tokens that end or start again, each with its number, its former Dex, and whether its
        // actions go on.
        let mut ended: Vec<(usize, usize, bool)> = vec![];
        for config in tokens {
            let same = former.iter().position(|each| each.token.name() == config.name);
            let same = same.map(|index| former.remove(index));
            let mut scheduled = match same {
                Some(same) if same.token.has_config(&config) => same,
                same => {
                    let (client, upstream) = self.client_for(&config.exchange.endpoint, &mut known, connect);
                    let now = self.clock.now();
                    let token = if let Some(same) = same {
                        changes.changed += 1;
                        let keeps_actions = same.token.keeps_actions(&config);
                        ended.push((same.token.id(), same.upstream, keeps_actions));
                        same.token.reconfigured(config, now, random::jitter())
                    } else {
                        changes.added += 1;
                        let id = free_id(&[&self.tokens, &former]);
                        let mut token = Token::new(id, config, self.reporter(id), now);
                        if let Some((_, limit)) = self.removed_limits.pop() {
                            token = token.in_place_of(limit);
                        }
                        token.set_named(several);
                        token.adopt_alone(now, random::jitter());
                        token
                    };
                    Scheduled { token, client, upstream, wait: None }
                }
            };
            scheduled.token.set_named(several);
            scheduled.wait = None;
            self.tokens.push(scheduled);
        }
        for each in former {
            changes.removed += 1;
            ended.push((each.token.id(), each.upstream, false));
            each.token.end();
        }
        let mut forgotten = vec![];
        for (token, upstream, keeps_action) in ended {
            let successor =
                self.tokens.iter().find(|each| each.upstream == upstream).map(|each| each.token.id());
            forgotten.push(Ended { token, successor, keeps_action });
            self.upstreams[upstream].breaker.remove(token);
        }
        self.jobs.forget(&forgotten);
        self.drop_unused_upstreams();
        changes
    }

    /// Keeps the rate limits of the tokens that are not in the new configuration.
    fn keep_limits_of_removed(&mut self, former: &[Scheduled<E>], tokens: &[TokenConfig]) {
        let now = self.clock.now();
        self.removed_limits.retain(|(at, _)| at.until(now.boot) < LIMITS_ARE_KEPT);
        let stays = |each: &Scheduled<E>| tokens.iter().any(|config| config.name == each.token.name());
        let removed = former.iter().filter(|each| !stays(each));
        self.removed_limits.extend(removed.map(|each| (now.boot, each.token.rate_limit(now))));
        let surplus = self.removed_limits.len().saturating_sub(MAX_TOKENS);
        self.removed_limits.drain(..surplus);
    }

    /// The client for an endpoint, and the index of its Dex.
    pub(super) fn client_for(
        &mut self,
        endpoint: &Endpoint,
        known: &mut Vec<(Endpoint, Rc<E>, usize)>,
        connect: &dyn Fn(&Endpoint) -> E,
    ) -> (Rc<E>, usize) {
        if let Some((_, client, upstream)) = known.iter().find(|(other, ..)| other == endpoint) {
            return (Rc::clone(client), *upstream);
        }
        let same = known.iter().find(|(other, ..)| other.url == endpoint.url);
        let upstream = same.map(|(.., upstream)| *upstream).unwrap_or_else(|| {
            self.upstreams.push(Upstream::default());
            self.upstreams.len() - 1
        });
        let client = Rc::new(connect(endpoint));
        known.push((endpoint.clone(), Rc::clone(&client), upstream));
        (client, upstream)
    }

    fn drop_unused_upstreams(&mut self) {
        for index in (0..self.upstreams.len()).rev() {
            if self.tokens.iter().all(|each| each.upstream != index) {
                let (count, took) = self.upstreams.remove(index).exchanges_ended;
                self.removed_exchanges.0 += count;
                self.removed_exchanges.1 = self.removed_exchanges.1.saturating_add(took);
                for each in self.tokens.iter_mut().filter(|each| each.upstream > index) {
                    each.upstream -= 1;
                }
            }
        }
    }
}

/// The lowest number that none of these tokens has: numbers are indexes of lists.
fn free_id<E>(tokens: &[&Vec<Scheduled<E>>]) -> usize {
    let is_taken = |id| tokens.iter().copied().flatten().any(|each| each.token.id() == id);
    (0..).find(|id| !is_taken(*id)).unwrap_or_default()
}
