//! Reports what happens to one token: one log line for each change of state, and the last failure
//! for the termination message.

use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use dexsidecar_core::config::Level;
use dexsidecar_core::event::{Event, Value};
use dexsidecar_core::failure::{Code, Failure, Step};
use dexsidecar_core::refresher::Health;
use dexsidecar_core::settings::Dialect;
use dexsidecar_core::time::{BootTime, Now};
use dexsidecar_edge::log::Logger;
use dexsidecar_edge::output_file::{Method, Shortfall, Written};

use crate::termination_message::TerminationMessage;

/// The same failure of an attempt or of an action is logged again after this long.
pub(crate) const LOG_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// A failure that was logged. The cause of one code may change: a timeout at another step, a proxy
/// that now refuses.
#[derive(Debug)]
struct Logged {
    kind: (Code, Step, &'static str, Health),
    at: BootTime,
}

/// Reports failures and recoveries.
#[derive(Debug)]
pub(crate) struct Reporter {
    log: Logger,
    /// The name of the token, if messages have it.
    name: Option<String>,
    /// How the token's settings were given.
    dialect: Dialect,
    /// The termination message, and the number of the token in it.
    message: (Rc<RefCell<TerminationMessage>>, usize),
    /// The failures that were logged and are not over, with the health at that time. One entry
    /// each, so that two that alternate do not fill the log (F118).
    logged: Vec<Logged>,
    /// The failed attempts since the last success.
    attempts: u32,
    /// The last failure since the last success.
    last_failure: Option<Failure>,
    /// The names and files of the events that were logged, of those that are logged once.
    reported: Vec<(&'static str, String)>,
}

impl Reporter {
    /// Reports to this log, and to the termination message as the token with this number. Neither
    /// names the token.
    #[must_use]
    pub(crate) const fn new(log: Logger, message: Rc<RefCell<TerminationMessage>>, token: usize) -> Self {
        Self {
            log,
            name: None,
            dialect: Dialect::Environment,
            message: (message, token),
            logged: Vec::new(),
            attempts: 0,
            last_failure: None,
            reported: Vec::new(),
        }
    }

    /// Names the token in the log and in the termination message from now on, or does not.
    pub(crate) fn set_name(&mut self, name: Option<String>) {
        self.log = self.log.for_token(name.as_deref());
        let (message, token) = &self.message;
        message.borrow_mut().set_name(*token, name.as_deref());
        self.name = name;
    }

    /// The token is gone, and so is its failure.
    pub(crate) fn end(self) {
        self.set_message(None);
    }

    /// Messages name settings in this dialect from now on.
    pub(crate) const fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// The log.
    #[must_use]
    pub(crate) const fn log(&self) -> &Logger {
        &self.log
    }

    /// Logs an event. One that is to be logged once is left out the second time.
    pub(crate) fn emit(&mut self, event: &Event<'_>) {
        if event.is_once() {
            let mut key = (event.name(), String::new());
            event.fields(&mut |field, value| {
                if let ("file", Value::Text(file)) = (field, value) {
                    key.1 = file.to_string();
                }
            });
            if self.reported.contains(&key) {
                return;
            }
            self.reported.push(key);
        }
        self.log.emit(event);
    }

    /// Logs an event at another level than its own.
    pub(crate) fn emit_at(&self, level: Level, event: &Event<'_>) {
        self.log.emit_at(level, event);
    }

    /// Reports a failed attempt, what is known of its cause, and the delay before the next one. It
    /// is logged once, and again when health changes or after ten minutes.
    pub(crate) fn failed(
        &mut self,
        failure: &Failure,
        causes: &[String],
        health: Health,
        retry_in: Duration,
        now: Now,
    ) {
        self.attempts = self.attempts.saturating_add(1);
        self.last_failure = Some(failure.clone());
        self.logged.retain(|logged| now.boot.since(logged.at) < LOG_AGAIN_AFTER);
        let dialect = self.dialect;
        let causes: Vec<_> = causes.iter().map(|cause| dialect.render(cause).into_owned()).collect();
        let cause = causes.join("; ");
        let (error, fix) = (failure.to_string(), failure.fix_in(dialect));
        // The last failure is what the kubelet shows, logged or not.
        self.set_message(Some(termination_message(failure, (&error, &fix), &causes)));
        let kind = (failure.code, failure.step(), failure.fix(), health);
        let known = self.logged.iter().any(|logged| logged.kind == kind);
        let level = if known {
            Level::Debug
        } else if health == Health::Stale {
            // No reader notices while the token on disk is valid.
            Level::Warn
        } else {
            Level::Error
        };
        if !known {
            self.logged.push(Logged { kind, at: now.boot });
        }
        let event = Event::AttemptFailed {
            error: &error,
            code: &failure.code,
            step: &failure.step().label(),
            owner: &failure.owner().label(),
            health: &health.name(),
            attempts: self.attempts.into(),
            retry_in,
            fix: &fix,
            cause: Some(&cause as &dyn Display).filter(|_| !causes.is_empty()),
        };
        self.log.emit_at(level, &event);
    }

    /// Reports what the volume did not allow when the token was written: each kind once.
    pub(crate) fn written(&mut self, path: &Path, written: &Written) {
        let file = &path.display();
        match written.method {
            Method::Replaced => {}
            Method::ReplacedSymlink => self.emit(&Event::SymlinkReplaced { file }),
            Method::InPlace => {
                let fix =
                    &"use write mode auto, and mount the directory instead of the file, without subPath";
                self.emit(&Event::OutputInPlace { file, error: None, fix });
            }
            Method::InPlaceWithoutRename(refused) => {
                let fix = &"the volume cannot rename files: use an emptyDir";
                self.emit(&Event::OutputInPlace { file, error: Some(&refused), fix });
            }
        }
        for shortfall in &written.shortfalls {
            match shortfall {
                Shortfall::Mode(error, mode) => {
                    let mode = &format!("{mode:04o}");
                    let fix = &"if readers need another mode, set it with the volume's mount options (file_mode, fmask)";
                    self.emit(&Event::OutputModeNotSet { file, mode, error, fix });
                }
                Shortfall::FileFlush(error) => self.emit(&Event::OutputNotFlushed { file, error }),
                Shortfall::DirectoryFlush(error) => {
                    self.emit(&Event::OutputDirectoryNotFlushed { file, error });
                }
            }
        }
    }

    /// Reports the end of the failures.
    pub(crate) fn recovered(&mut self) {
        if self.attempts > 0 {
            self.logged.clear();
            self.log.emit(&Event::Recovered { attempts: self.attempts.into() });
        }
        // Also later, if the file could not be written then.
        self.set_message(None);
        self.attempts = 0;
        self.last_failure = None;
    }

    /// The last failure since the last success.
    #[must_use]
    pub(crate) const fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }

    fn set_message(&self, text: Option<String>) {
        let (message, token) = &self.message;
        message.borrow_mut().set(*token, self.name.as_deref(), text);
    }

    /// Reports that the token file cannot be written or removed.
    pub(crate) fn output_not_writable(&mut self, failure: &Failure) {
        let (error, fix) = (&failure.to_string(), &failure.fix_in(self.dialect));
        self.emit(&Event::OutputNotWritable { error, code: &failure.code, fix });
    }

    /// Reports that an input cannot be read, and that its last known value is used.
    pub(crate) fn input_unreadable(&mut self, failure: &Failure) {
        let (error, fix) = (&failure.to_string(), &failure.fix_in(self.dialect));
        self.emit(&Event::InputUnreadable { error, code: &failure.code, fix });
    }

    /// Reports that `once` has not written this token in time, with the last failure.
    pub(crate) fn once_timed_out(&mut self, timeout: Duration) {
        let shown = self.last_failure.as_ref();
        let shown = shown.map(|failure| (failure.to_string(), failure.fix_in(self.dialect).into_owned()));
        self.emit(&Event::OnceTimedOut {
            timeout,
            error: shown.as_ref().map(|(error, _)| error as &dyn Display),
            fix: shown.as_ref().map(|(_, fix)| fix as &dyn Display),
        });
    }

    /// The token has another configuration: what was reported before is reported again.
    pub(crate) fn reconfigured(&mut self) {
        self.logged.clear();
        self.reported.clear();
    }
}

/// What `kubectl describe pod` shows of a failure.
fn termination_message(failure: &Failure, (error, fix): (&str, &str), causes: &[String]) -> String {
    let (code, owner) = (failure.code, failure.owner().title());
    let mut text = format!("{error}\ncode: {code}\nowner: {owner}\nfix: {fix}\n");
    for cause in causes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "cause: {cause}");
    }
    text
}

#[cfg(test)]
mod tests {
    use dexsidecar_edge::clock::Clock;

    use super::*;

    #[test]
    fn f118_failures_that_alternate_are_logged_once_each_and_the_last_is_the_termination_message() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, "").unwrap();
        let mut reporter =
            Reporter::new(Logger::silent(Clock::System), TerminationMessage::shared(Some(file.clone())), 0);
        let at = |secs| Now { boot: BootTime::from_start(Duration::from_secs(secs)), ..Now::default() };
        let text = || std::fs::read_to_string(&file).unwrap();
        let failed = |reporter: &mut Reporter, code, detail, causes: &[String], second| {
            let failure = Failure::new(code, detail);
            reporter.failed(&failure, causes, Health::Stale, Duration::from_secs(1), at(second));
        };
        for second in 0..101 {
            let code = if second % 2 == 0 { Code::TimedOut } else { Code::ConnectRefused };
            failed(&mut reporter, code, "", &[], second);
        }
        assert_eq!(reporter.logged.len(), 2);
        // Another cause of the same code is logged at once.
        let elsewhere = Failure::new(Code::TimedOut, "").at(Step::Dns).with_fix("check the name servers");
        reporter.failed(&elsewhere, &[], Health::Stale, Duration::from_secs(1), at(102));
        assert_eq!(reporter.logged.len(), 3);
        failed(&mut reporter, Code::TimedOut, "", &[], 103);
        let lines = "the attempt timed out\ncode: timed_out\nowner: Dex operator\nfix: ";
        assert!(text().starts_with(lines), "the last one: {}", text());
        failed(&mut reporter, Code::TimedOut, "again", &["why it is".to_owned()], 700);
        assert!(text().starts_with("the attempt timed out: again\n"), "after ten minutes it is logged again");
        assert!(text().ends_with("\ncause: why it is\n"), "{}", text());
        reporter.recovered();
        assert_eq!((text().as_str(), reporter.logged.len()), ("", 0));
    }

    #[test]
    fn with_several_tokens_the_termination_message_names_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log");
        std::fs::write(&file, "").unwrap();
        let message = TerminationMessage::shared(Some(file.clone()));
        let mut reporter = Reporter::new(Logger::silent(Clock::System), message, 0);
        reporter.set_name(Some("cluster-b".to_owned()));
        let failure = Failure::new(Code::ConnectRefused, "");
        reporter.failed(&failure, &[], Health::Stale, Duration::from_secs(1), Now::default());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("token cluster-b: connection refused\ncode: connect_refused\n"), "{text}");
    }
}
