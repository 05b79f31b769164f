//! The bounds of everything that comes from outside: files, responses, tokens, variables. Without
//! them, a wrong path or a hostile server could fill the memory or the log.

use std::time::Duration;

/// The longest content of a subject token file, in bytes (F61). A ServiceAccount token has about
/// 1 kB; the bound keeps a wrong path, such as one to a log, from filling the memory.
pub const LARGEST_SUBJECT_TOKEN: usize = 64 * 1024;

/// The longest issued token, in bytes. A token with many groups grows; HTTP servers refuse headers
/// far below this length.
pub const LARGEST_ISSUED_TOKEN: usize = 256 * 1024;

/// The most audiences that are kept. Kubernetes and Dex issue a few; the bound keeps a hostile
/// token from filling the memory.
pub(crate) const MAX_AUDIENCES: usize = 64;

/// The end of the accepted range of a NumericDate, in seconds: the year 5138. A larger number is
/// most likely in milliseconds, and is ignored (F41).
pub(crate) const MAX_NUMERIC_DATE: f64 = 1e11;

/// The most keys or grant types in a list; no known issuer has as many. Without a bound, a response
/// with a million empty elements would exceed the memory limit of 8 MiB (docs/kubernetes.md).
pub(crate) const MAX_LIST_ELEMENTS: usize = 256;

/// The longest key id that is remembered, in bytes. The bound limits the memory that a hostile
/// server can fill. Dex's key ids have 40 characters (server/rotation.go).
pub(crate) const LONGEST_KEY_ID: usize = 256;

/// The longest lifetime that is accepted: ten years. A longer one is shortened to it (F38).
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The longest `Retry-After` that is honoured; a longer one is shortened to it (F24). It is the
/// longest delay after any failure (docs/how-it-works.md).
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The longest `issued_token_type` or `scope` that is kept, in bytes. A longer one is left out of
/// the token file.
pub(crate) const LONGEST_MEMBER: usize = 4 * 1024;

/// The longest word that is quoted, in characters. It is enough for OAuth error codes, content
/// types and server names.
pub(crate) const LONGEST_QUOTED_WORD: usize = 64;

/// The longest part of `error_description` that is quoted, in characters: one or two sentences.
pub(crate) const LONGEST_DESCRIPTION: usize = 256;

/// The longest part of a redirect's target that is quoted, in characters.
pub(crate) const LONGEST_REDIRECT_TARGET: usize = 200;

/// The longest name of a variable that is repeated in a warning, in bytes.
pub(crate) const LONGEST_VARIABLE_NAME: usize = 64;

/// The maximum number of references of one value that are named.
pub(crate) const MAX_REFERENCES: usize = 4;

/// The largest configuration file, in bytes. A ConfigMap holds as much.
pub const LARGEST_CONFIG: usize = 1024 * 1024;

/// The deepest nesting of a configuration file. Its own keys need seven.
pub(crate) const DEEPEST_CONFIG: usize = 16;

/// The most elements of a map or a list of a configuration file. Each key is compared with all
/// others of its map.
pub(crate) const MAX_CONFIG_ELEMENTS: usize = 256;

/// The most keys and values of a configuration file. 64 tokens with 16 outputs each, and four keys
/// for each output, need half of it.
pub(crate) const MAX_CONFIG_NODES: usize = 20_000;

/// The most problems of a configuration file that are reported.
pub(crate) const MAX_PROBLEMS: usize = 200;

/// The most tokens of a configuration.
pub const MAX_TOKENS: usize = 64;

/// The most outputs of a token.
pub(crate) const MAX_OUTPUTS: usize = 16;

/// The most actions of a token.
pub(crate) const MAX_ACTIONS: usize = 16;

/// The most audiences, and the most resources, of a token.
pub(crate) const MAX_FIELD_VALUES: usize = 16;

/// The most ranges of status codes that mean success.
pub(crate) const MAX_STATUS_RANGES: usize = 16;

/// The longest name of a token, in bytes: that of a DNS label (RFC 1123).
pub(crate) const LONGEST_TOKEN_NAME: usize = 63;
