//! The termination message: the last failure, where `kubectl describe pod` shows it.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write as _;
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
    /// The tokens that fail, the last one that began to first, each with its message.
    failing: Vec<(usize, String)>,
    /// The message as it was written last.
    written: String,
}

impl TerminationMessage {
    /// A message in this file or the kubelet's, if that can be written.
    pub(crate) fn shared(file: Option<PathBuf>) -> Rc<RefCell<Self>> {
        let file = file.unwrap_or_else(|| DEFAULT_TERMINATION_LOG.into());
        Rc::new(RefCell::new(Self { file, failing: vec![], written: String::new() }))
    }

    /// The last failure of this token, or none.
    pub(crate) fn set(&mut self, token: usize, message: Option<String>) {
        let known = self.failing.iter().position(|(failing, _)| *failing == token);
        match (known, message) {
            (Some(known), Some(message)) => self.failing[known].1 = message,
            (Some(known), None) => drop(self.failing.remove(known)),
            (None, Some(message)) => self.failing.insert(0, (token, message)),
            (None, None) => {}
        }
        let text = joined(self.failing.iter().map(|(_, message)| message.as_str()));
        if self.written != text {
            write(&self.file, &text);
            self.written = text;
        }
    }
}

/// As many of the messages as the kubelet reads, and the number of the others.
fn joined<'a>(messages: impl ExactSizeIterator<Item = &'a str>) -> String {
    let (mut text, count) = (String::new(), messages.len());
    for (index, message) in messages.enumerate() {
        let others = format!("\n{} more failing: see the log\n", count - index);
        if index > 0 && text.len() + 1 + message.len() + others.len() > MAX_TERMINATION_MESSAGE {
            return text + &others;
        }
        if index > 0 {
            text.push('\n');
        }
        text.push_str(message);
    }
    text
}

/// Writes the errors in the settings to where the kubelet finds them.
pub fn report_problems(file: Option<&Path>, problems: &[Problem]) {
    let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    write(file.unwrap_or_else(|| Path::new(DEFAULT_TERMINATION_LOG)), &text);
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
fn write(path: &Path, text: &str) {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        OpenOptions::new().write(true).truncate(true).custom_flags(flags.bits().cast_signed()).open(path);
    if let Ok(mut file) = file {
        let end = text.floor_char_boundary(MAX_TERMINATION_MESSAGE);
        let _ = file.write_all(&text.as_bytes()[..end]);
    }
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
        let set = |token, failure: Option<&str>| message.borrow_mut().set(token, failure.map(str::to_owned));
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
    fn the_kubelet_reads_whole_messages_and_how_many_are_missing() {
        let of = |count| (0..count).map(|_| "0123456789".repeat(30) + "\n").collect::<Vec<_>>();
        let text = |count: usize| joined(of(count).iter().map(String::as_str));
        let (thirteen, fourteen) = (text(13), text(14));
        assert_eq!((thirteen.matches('\n').count(), thirteen.contains("more")), (25, false));
        assert!(fourteen.len() <= MAX_TERMINATION_MESSAGE, "{}", fourteen.len());
        assert!(fourteen.ends_with("9\n\n1 more failing: see the log\n"), "{fourteen}");
        assert!(text(64).ends_with("9\n\n51 more failing: see the log\n"));
    }
}
