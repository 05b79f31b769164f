//! The termination message: the last failure, where `kubectl describe pod` shows it.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dexsidecar_core::config::{DEFAULT_TERMINATION_LOG, Problem};
use dexsidecar_edge::input_file;
use rustix::fs::OFlags;

/// The kubelet reads no more than this many bytes of a termination message.
const MAX_TERMINATION_MESSAGE: usize = 4096;

/// The last failures of all tokens.
#[derive(Debug)]
pub(crate) struct TerminationMessage {
    file: PathBuf,
    /// The tokens that fail, the last one that began to first.
    failing: Vec<Failing>,
    /// The message that the file holds. `None`: unknown, since a write has failed.
    written: Option<String>,
}

/// A token that fails.
#[derive(Debug)]
struct Failing {
    token: usize,
    /// Its name, if the message names it.
    name: Option<String>,
    text: String,
}

impl TerminationMessage {
    /// A message in this file or the kubelet's, if that can be written.
    pub(crate) fn shared(file: Option<PathBuf>) -> Rc<RefCell<Self>> {
        let file = file.unwrap_or_else(|| DEFAULT_TERMINATION_LOG.into());
        Rc::new(RefCell::new(Self { file, failing: vec![], written: Some(String::new()) }))
    }

    /// The last failure of this token, or none. The message names the token, if it has a name.
    pub(crate) fn set(&mut self, token: usize, name: Option<&str>, text: Option<String>) {
        let known = self.failing.iter().position(|failing| failing.token == token);
        match (known, text) {
            (Some(known), Some(text)) => self.failing[known].text = text,
            (Some(known), None) => drop(self.failing.remove(known)),
            (None, Some(text)) => self.failing.insert(0, Failing { token, name: None, text }),
            (None, None) => {}
        }
        self.set_name(token, name);
    }

    /// The message names this token from now on, or does not.
    pub(crate) fn set_name(&mut self, token: usize, name: Option<&str>) {
        if let Some(failing) = self.failing.iter_mut().find(|failing| failing.token == token) {
            failing.name = name.map(str::to_owned);
        }
        let text = joined(&self.failing);
        // Without a free descriptor the next failure or success writes it.
        if self.written.as_ref() != Some(&text) {
            self.written = write(&self.file, &text).is_ok().then_some(text);
        }
    }
}

/// As many of the messages as the kubelet reads, and the number of the others.
fn joined(failing: &[Failing]) -> String {
    let (mut text, count) = (String::new(), failing.len());
    for (index, Failing { name, text: message, .. }) in failing.iter().enumerate() {
        let name = name.as_ref().map(|name| format!("token {name}: ")).unwrap_or_default();
        let message = name + message;
        let others = format!("\n{} more failing: see the log\n", count - index);
        if index > 0 && text.len() + 1 + message.len() + others.len() > MAX_TERMINATION_MESSAGE {
            return text + &others;
        }
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&message);
    }
    text
}

/// Writes the errors in the settings to where the kubelet finds them.
pub fn report_problems(file: Option<&Path>, problems: &[Problem]) {
    let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    // Outside Kubernetes there is no such file.
    let _ = write(file.unwrap_or_else(|| Path::new(DEFAULT_TERMINATION_LOG)), &text);
}

/// The termination message that another process of this program wrote to this file, or where the
/// kubelet finds it. Empty if nothing fails, or if there is no such file.
#[must_use]
pub fn read_termination_message(file: Option<&Path>) -> String {
    let content =
        input_file::read(file.unwrap_or_else(|| Path::new(DEFAULT_TERMINATION_LOG)), MAX_TERMINATION_MESSAGE);
    String::from_utf8_lossy(&content.unwrap_or_default()).into_owned()
}

/// Writes a termination message, if there is such a file: it is created by the kubelet only.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file =
        OpenOptions::new().write(true).truncate(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    file.write_all(&text.as_bytes()[..text.floor_char_boundary(MAX_TERMINATION_MESSAGE)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_s_recovery_erases_no_other_s_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, "").unwrap();
        let text = || std::fs::read_to_string(&file).unwrap();
        let message = TerminationMessage::shared(Some(file.clone()));
        let set =
            |token, failure: Option<&str>| message.borrow_mut().set(token, None, failure.map(str::to_owned));
        set(0, Some("a\n"));
        set(7, Some("b\n"));
        assert_eq!(text(), "b\n\na\n");
        assert_eq!(
            (read_termination_message(Some(&file)), read_termination_message(Some(dir.path()))),
            (text(), String::new())
        );
        set(0, Some("c\n"));
        assert_eq!(text(), "b\n\nc\n", "the order does not change with each failure");
        set(0, None);
        assert_eq!(text(), "b\n");
        set(7, None);
        assert_eq!(text(), "");
    }

    #[test]
    fn a_message_that_could_not_be_written_is_written_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, "").unwrap();
        let message = TerminationMessage::shared(Some(file.clone()));
        message.borrow_mut().set(0, None, Some("a\n".to_owned()));
        std::fs::rename(&file, dir.path().join("away")).unwrap();
        message.borrow_mut().set(0, None, None);
        std::fs::rename(dir.path().join("away"), &file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a\n");
        message.borrow_mut().set(0, None, None);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    }

    /// Such as on a full disk: the file is empty then.
    #[test]
    fn a_message_that_a_failed_write_has_erased_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (file, away) = (dir.path().join("log"), dir.path().join("away"));
        std::fs::write(&file, "").unwrap();
        let message = TerminationMessage::shared(Some(file.clone()));
        let set =
            |token, failure: Option<&str>| message.borrow_mut().set(token, None, failure.map(str::to_owned));
        set(0, Some("a\n"));
        std::fs::rename(&file, &away).unwrap();
        set(1, Some("b\n"));
        std::fs::write(&away, "").unwrap();
        std::fs::rename(&away, &file).unwrap();
        set(1, None);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a\n");
    }

    #[test]
    fn a_failure_gets_the_name_that_its_token_gets() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, "").unwrap();
        let text = || std::fs::read_to_string(&file).unwrap();
        let message = TerminationMessage::shared(Some(file.clone()));
        message.borrow_mut().set(0, None, Some("a\n".to_owned()));
        message.borrow_mut().set_name(1, Some("other"));
        assert_eq!(text(), "a\n");
        message.borrow_mut().set_name(0, Some("first"));
        assert_eq!(text(), "token first: a\n");
        message.borrow_mut().set_name(0, None);
        assert_eq!(text(), "a\n");
    }

    #[test]
    fn the_kubelet_reads_whole_messages_and_how_many_are_missing() {
        let of = |token| Failing { token, name: None, text: "0123456789".repeat(30) + "\n" };
        let text = |count: usize| joined(&(0..count).map(of).collect::<Vec<_>>());
        let (thirteen, fourteen) = (text(13), text(14));
        assert_eq!((thirteen.matches('\n').count(), thirteen.contains("more")), (25, false));
        assert!(fourteen.len() <= MAX_TERMINATION_MESSAGE, "{}", fourteen.len());
        assert!(fourteen.ends_with("9\n\n1 more failing: see the log\n"), "{fourteen}");
        assert!(text(64).ends_with("9\n\n51 more failing: see the log\n"));
    }
}
