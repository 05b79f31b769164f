//! A token that gets another configuration while the program runs.

use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::refresher::{Observation, RateLimit};
use dexsidecar_core::time::{Jitter, Now};

use super::Token;
use super::token_file::TokenFile;

impl Token {
    /// What limits the exchanges to come.
    pub(crate) fn rate_limit(&self, now: Now) -> RateLimit {
        self.refresher.rate_limit(now)
    }

    /// This token in the place of one that was removed: the attempts of both count.
    pub(crate) fn in_place_of(mut self, removed: RateLimit) -> Self {
        self.refresher = self.refresher.with_rate_limit(removed);
        self
    }

    /// True if its actions go on with this configuration: pending ones stay so, and one that runs
    /// is not given up.
    pub(crate) fn keeps_actions(&self, config: &TokenConfig) -> bool {
        self.config.exchange == config.exchange && self.config.actions == config.actions
    }

    /// This token with another configuration of the same name. Its jobs are given up by the caller.
    ///
    /// With the same exchange it keeps the current token, and new outputs get that at once. With
    /// another one, it starts as after a restart: a token in its outputs is adopted, and the first
    /// exchange follows within 30 s.
    pub(crate) fn reconfigured(self, config: TokenConfig, now: Now, jitter: Jitter) -> Self {
        self.revoke_jobs();
        let was_requested = self.refresher.is_requested();
        let is_same = self.config.exchange == config.exchange;
        let keeps_actions = self.keeps_actions(&config);
        let mut reporter = self.reporter;
        reporter.reconfigured();
        let mut new = Self::new(self.id, config, reporter, now);
        new.counts = self.counts;
        if keeps_actions {
            new.actions = self.actions;
        } else {
            let actions = (&new.config.actions[..], &self.config.actions[..]);
            new.actions = new.actions.counting_from(&self.actions, actions);
        }
        if !is_same {
            new.refresher = new.refresher.with_rate_limit(self.refresher.rate_limit(now));
            new.adopt_alone(now, jitter);
            if was_requested {
                new.refresher.on(Observation::RefreshRequested, now, jitter);
            }
            return new;
        }
        let mut former = self.files;
        let at = |former: &[TokenFile], output| former.iter().position(|file| file.output() == output);
        let kept: Vec<_> = new.config.outputs.iter().map(|output| at(&former, output)).collect();
        new.refresher =
            self.refresher.reconfigured(new.config.schedule, new.config.key_check, &kept, now, jitter);
        let mut files = Vec::with_capacity(kept.len());
        for output in &new.config.outputs {
            let same_path = former.iter().position(|file| file.output().path == output.path);
            files.push(match same_path {
                Some(index) if former[index].output() == output => former.swap_remove(index).kept(),
                Some(index) => {
                    let current = self.current.as_ref().map(|current| &current.stored);
                    TokenFile::new(output).after(former.swap_remove(index), current)
                }
                None => TokenFile::new(output),
            });
        }
        new.files = files;
        new.current = self.current;
        // The readers of a new output have not heard of the token.
        if kept.contains(&None) || !keeps_actions {
            new.announce_again(now.boot);
        }
        new.overdue_since = self.overdue_since;
        new.last_known = self.last_known;
        new.key_check = self.key_check;
        new.rotation = self.rotation;
        new.outputs_tried = self.outputs_tried;
        new
    }
}
