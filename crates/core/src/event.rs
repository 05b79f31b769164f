//! What happened, once: the one table of events, which the log and its documentation read.
//!
//! An event has a stable name for programs, a message for people, and typed fields. It decides
//! nothing and writes nothing: the sinks do. Names and fields are stable; messages may change.

use std::fmt::Display;
use std::time::Duration;

use crate::config::Level;

/// The value of a field.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Text: a path, a URL, an error.
    Text(&'a dyn Display),
    /// A short stable name: a code, a step, an owner, a health. It is never shortened.
    Label(&'a dyn Display),
    /// A span of time. Text logs show it as `1h30m`, JSON logs as seconds.
    Duration(Duration),
    /// A number.
    Count(u64),
}

/// One row of the table, for documentation and tests.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Stable name in lower-case with underscores.
    pub name: &'static str,
    /// The level at which it is logged, unless the emitter knows better.
    pub level: Level,
    /// It is logged once for each token, however often it happens.
    pub once: bool,
    /// What happened, for people.
    pub message: &'static str,
    /// When it is emitted and what its fields mean.
    pub meaning: &'static str,
    /// The names of its fields, in order.
    pub fields: &'static [&'static str],
}

/// Turns the kind of a field into its type and its value.
macro_rules! field {
    (type $a:lifetime Text) => { &$a dyn Display };
    (type $a:lifetime Label) => { &$a dyn Display };
    (type $a:lifetime Option) => { Option<&$a dyn Display> };
    (type $a:lifetime Duration) => { Duration };
    (type $a:lifetime Count) => { u64 };
    (value $emit:ident $field:ident Text) => { $emit(stringify!($field), Value::Text(*$field)) };
    (value $emit:ident $field:ident Label) => { $emit(stringify!($field), Value::Label(*$field)) };
    (value $emit:ident $field:ident Option) => {
        if let Some(text) = $field { $emit(stringify!($field), Value::Text(*text)) }
    };
    (value $emit:ident $field:ident Duration) => { $emit(stringify!($field), Value::Duration(*$field)) };
    (value $emit:ident $field:ident Count) => { $emit(stringify!($field), Value::Count(*$field)) };
}

/// A value for a field of a sample.
macro_rules! sample {
    ($field:ident Text) => {
        &concat!("<", stringify!($field), ">")
    };
    ($field:ident Label) => {
        &concat!("<", stringify!($field), ">")
    };
    ($field:ident Option) => {
        Some(&concat!("<", stringify!($field), ">"))
    };
    ($field:ident Duration) => {
        Duration::from_millis(90_500)
    };
    ($field:ident Count) => {
        3
    };
}

/// Whether a row says `once`.
macro_rules! is_once {
    () => {
        false
    };
    (once) => {
        true
    };
}

macro_rules! events {
    ($($variant:ident = $name:literal, $level:ident $($once:ident)?, $message:literal, { $($field:ident: $kind:ident),* }, $meaning:literal;)*) => {
        /// Something that happened.
        #[derive(Clone, Copy)]
        #[expect(missing_docs, reason = "each variant's meaning and fields are documented by its row of the table")]
        pub enum Event<'a> {
            $(#[doc = $meaning] $variant { $($field: field!(type 'a $kind)),* },)*
        }

        impl Event<'_> {
            /// Every row, in the order of the table.
            pub const TABLE: &'static [Entry] = &[$(Entry {
                name: $name,
                level: Level::$level,
                once: is_once!($($once)?),
                message: $message,
                meaning: $meaning,
                fields: &[$(stringify!($field)),*],
            },)*];

            /// One event of each kind with placeholders for values, for documentation and tests.
            #[must_use]
            pub fn samples() -> Vec<Self> {
                vec![$(Self::$variant { $($field: sample!($field $kind)),* },)*]
            }

            /// Its stable name.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }

            /// The level at which it is logged.
            #[must_use]
            pub const fn level(&self) -> Level {
                match self { $(Self::$variant { .. } => Level::$level,)* }
            }

            /// True if it is logged once for each token, however often it happens.
            #[must_use]
            pub const fn is_once(&self) -> bool {
                match self { $(Self::$variant { .. } => is_once!($($once)?),)* }
            }

            /// What happened, for people.
            #[must_use]
            pub const fn message(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $message,)* }
            }

            /// Hands each field to `emit`, in order; an optional one that is absent is left out.
            ///
            /// `emit` is no type parameter: every caller would pay for a copy of the table.
            pub fn fields<'b>(&'b self, emit: &mut dyn FnMut(&'static str, Value<'b>)) {
                let _ = &emit;
                match self { $(Self::$variant { $($field),* } => { $(field!(value emit $field $kind);)* })* }
            }
        }
    };
}

events! {
    Starting = "starting", Info, "starting",
        { version: Text, command: Text, file: Text, endpoint: Text },
        "`run` or `once` has read its settings and begins";
    SettingWarning = "setting_warning", Warn, "suspicious setting",
        { warning: Text },
        "a setting is accepted, but is probably a mistake";
    SettingInvalid = "setting_invalid", Error, "invalid setting",
        { place: Option, setting: Text, error: Text, fix: Text },
        "a setting is missing or invalid. At startup the command exits with code 78; at a reload the file changes nothing";
    ShuttingDown = "shutting_down", Info, "shutting down",
        { signal: Text },
        "a signal ends `run`, which exits with code 0";
    OnceInterrupted = "once_interrupted", Error, "stopped before a token was written",
        { signal: Text },
        "a signal ends `once`, which exits with code 1";
    OnceTimedOut = "once_timed_out", Error, "no token was written within the timeout",
        { timeout: Duration, error: Option, fix: Option },
        "`once` exits with code 1; `error` and `fix` are those of the last failed attempt, and absent if none has ended";

    TokenWritten = "token_written", Info, "token written",
        { file: Text, expires_in: Duration, refresh_in: Duration },
        "a newly issued token is in the token file";
    TokenAdopted = "token_adopted", Info, "adopted existing token",
        { file: Text, expires_in: Duration, refresh_in: Duration },
        "the token file held a valid token at startup, or when a reload added the token or changed its exchange: readers have a token before the first exchange";
    TokenExpired = "token_expired", Error, "token on disk has expired",
        { file: Text },
        "the token on disk expired before an exchange succeeded";
    ExpiredTokenRemoved = "expired_token_removed", Info, "removed the file of the expired token",
        { file: Text },
        "`on-expiry` is `remove`";
    RefreshRequested = "refresh_requested", Info, "refresh requested by signal",
        { signal: Text, refresh_in: Duration },
        "SIGHUP or SIGUSR1 arrived; `refresh_in` is not zero while the rate limit holds the attempt back";

    ConfigReloaded = "config_reloaded", Info, "configuration reloaded",
        { added: Count, changed: Count, removed: Count },
        "the configuration file has changed, or SIGHUP arrived; the fields count tokens. The others keep their state";
    ConfigRefused = "config_refused", Error, "configuration not reloaded; the last valid one stays in use",
        { problems: Count },
        "the changed configuration file is invalid; a line `setting_invalid` before names each problem";

    AttemptFailed = "attempt_failed", Error, "attempt failed",
        { error: Text, code: Label, step: Label, owner: Label, health: Label, attempts: Count, retry_in: Duration,
          fix: Text, cause: Option },
        "an exchange or a write failed. It is logged when the failure is new, when health changes and every ten minutes, at \
         level `warn` while the token on disk is valid; at level `debug` otherwise. `attempts` counts the failed ones in a \
         row; `cause` says what is known here of the cause";
    Recovered = "recovered", Info, "recovered",
        { attempts: Count },
        "an attempt succeeded after failures; `attempts` counts the failed ones";
    OutputNotWritable = "output_not_writable", Warn, "the token file is not writable",
        { error: Text, code: Label, fix: Text },
        "the token file was tested after the first failed exchange, or the file of an expired token could not be removed";
    InputUnreadable = "input_unreadable", Warn, "input unreadable; using its last known value",
        { error: Text, code: Label, fix: Text },
        "a file that an exchange reads cannot be read; it is tried again at each attempt";

    SymlinkReplaced = "symlink_replaced", Warn, "replaced a symbolic link at the output path",
        { file: Text },
        "the token file is never written through a symbolic link";
    OutputInPlace = "output_in_place", Warn once, "overwriting the token file in place; readers may see a partial token",
        { file: Text, error: Option, fix: Text },
        "the token file is a mount point (subPath), or its volume cannot rename files, or the write mode is `in-place`. Once for each configuration of the token";
    OutputModeNotSet = "output_mode_not_set", Warn once, "the mode of the token file stays as the volume gives it",
        { file: Text, mode: Text, error: Text, fix: Text },
        "the volume does not allow to set a mode";
    OutputNotFlushed = "output_not_flushed", Warn once, "the token file is not flushed to disk; a power failure may lose it",
        { file: Text, error: Text },
        "the volume does not support fsync of files";
    OutputDirectoryNotFlushed = "output_directory_not_flushed", Debug once,
        "the directory is not flushed to disk; a power failure may bring the old token back",
        { file: Text, error: Text },
        "the volume does not support fsync of directories";
    WriteSlow = "write_slow", Warn, "writing the token takes longer than 15s",
        { file: Text },
        "a system call on the token file's volume has not returned for 15 s; the write continues";
    OutputRestored = "output_restored", Warn, "output was modified by another process; restoring it",
        { file: Text },
        "the token file held something else than the token that was written. Further ones for the same file are at level `debug` for ten minutes";
    OutputReplacedByNewerToken = "output_replaced_by_newer_token", Warn,
        "output was replaced by another process with a token that expires later; keeping it",
        { file: Text },
        "the token in the file becomes the current token. Further ones for the same file are at level `debug` for ten minutes";

    ActionDone = "action_done", Info, "action done",
        { action: Label, attempts: Count },
        "an action of `on_update` worked for the token that all outputs hold; `attempts` counts its attempts";
    ActionFailed = "action_failed", Warn, "action failed",
        { action: Label, error: Text, fix: Text, attempts: Count, retry_in: Duration },
        "an action of `on_update` failed; it is repeated until it works. It is logged when the error is new and every ten \
         minutes, at level `debug` otherwise. The token stays ready";
    ActionOutput = "action_output", Info, "output of an action",
        { action: Label, line: Text },
        "a line that a command of `on_update` wrote to standard output or standard error";
    ActionOutputDropped = "action_output_dropped", Warn, "output of an action was dropped",
        { action: Label, lines: Count },
        "a command of `on_update` wrote more than 100 lines, or lines that hold a token";

    SubjectTokenWarning = "subject_token_warning", Warn once, "suspicious subject token",
        { warning: Text },
        "the audience of the subject token is the API server: a server that gets it can use it there";
    SubjectTokenMountedWithSubPath = "subject_token_mounted_with_sub_path", Warn once,
        "subject token is mounted with subPath; the kubelet's new tokens will not arrive",
        { file: Text, fix: Text },
        "the mount shows one version of a projected volume. It is logged before the first exchange";
    SubjectTokenRotationInvisible = "subject_token_rotation_invisible", Warn once,
        "subject token was rotated, but the rotation is invisible here",
        { file: Text, fix: Text },
        "the subject token's file is mounted with subPath";
    IssuedTokenTypeDiffers = "issued_token_type_differs", Warn once, "issued_token_type differs from the requested type",
        { issued_token_type: Text },
        "Dex issued another type of token than was requested";
    IssuedTokenExpired = "issued_token_expired", Warn once, "issued token has already expired by this node's clock",
        { expired: Duration, fix: Text },
        "the clock of this node or of Dex is wrong, or a cache answers in place of Dex. The token is written: only its \
         duration counts. But `ready` and every reader with this clock refuse it";
    ExpiresInDiffers = "expires_in_differs", Warn once, "expires_in of the response differs from exp of the token; using the shorter",
        { response: Duration, token: Duration },
        "`response` and `token` are the two lifetimes";

    SigningKeyNotPublished = "signing_key_not_published", Warn, "signing key no longer published; refreshing",
        { key: Text, refresh_in: Duration },
        "Dex lost its signing keys: consumers will reject the token on disk";
    NewSigningKeyNotPublished = "new_signing_key_not_published", Warn,
        "signing key of a new token is not published either; not refreshing because of it",
        { key: Text, cause: Text },
        "the published keys prove nothing, for example behind a cache";
    KeyCheckSuspended = "key_check_suspended", Info, "key check suspended until the next exchange",
        { cause: Text },
        "a Dex that loses its signing keys will not be noticed";
    PublishedKeysUnreadable = "published_keys_unreadable", Debug, "published keys unreadable",
        { error: Text },
        "the key check tries again later";

    Listening = "listening", Info, "listening for probes and metrics",
        { address: Text },
        "the listener is configured, and its address is bound";
    ListenerFailed = "listener_failed", Error, "cannot listen for probes and metrics; tokens are kept fresh without them",
        { address: Text, error: Text, fix: Text },
        "the address of the listener cannot be bound";

    LogLinesDropped = "log_lines_dropped", Warn, "log lines were dropped because nobody read them",
        { lines: Count },
        "standard error was not read for a while; work goes on";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_in_snake_case() {
        let names: BTreeSet<_> = Event::TABLE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), Event::TABLE.len());
        for name in names.into_iter().chain(Event::TABLE.iter().flat_map(|entry| entry.fields).copied()) {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }

    #[test]
    fn messages_are_lower_case_half_sentences() {
        for entry in Event::TABLE {
            assert!(!entry.message.ends_with('.') && !entry.meaning.ends_with('.'), "{}", entry.name);
            assert!(entry.message.starts_with(|c: char| c.is_ascii_lowercase()), "{}", entry.name);
        }
    }

    #[test]
    fn fields_are_emitted_in_the_order_of_the_table_and_absent_ones_left_out() {
        let error = "no";
        for (event, expected) in [
            (
                Event::OutputInPlace { file: &"/t", error: Some(&error), fix: &"x" },
                &["file", "error", "fix"][..],
            ),
            (Event::OutputInPlace { file: &"/t", error: None, fix: &"x" }, &["file", "fix"]),
            (Event::Recovered { attempts: 3 }, &["attempts"]),
        ] {
            let mut names = vec![];
            event.fields(&mut |name, _| names.push(name));
            assert_eq!(names, expected);
        }
    }
}
