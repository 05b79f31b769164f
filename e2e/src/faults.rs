//! The catalogue of faults: what happens to a program like this one in its worst hours, and which of its promises hold then.
//! Tests bear the numbers in their names (`f042_…`); docs/faults.md is made of both.

/// A fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What happens.
    pub what: &'static str,
    /// The promises that hold all the same, as docs/faults.md spells them out.
    pub promises: &'static str,
    /// Why there is no test, if there is none.
    pub untested: Option<&'static str>,
}

/// The promises.
pub const PROMISES: [&str; 13] = [
    "a reader sees no file (before the first success) or one whole token that Dex issued, never anything else",
    "while Dex can be reached once in each failure budget, for as long as the longest pause between two tries, the token on disk is never expired",
    "after Dex returns, a new token within 30 s if there is none or an expired one, within 5 min or a tenth of what is left if it is still good; where it had refused, within the pause of that refusal (docs/how-it-works.md)",
    "no input makes it panic, exit, hang, spin or grow",
    "at most one attempt at once, 20 in any 60 s, 3 a minute sustained in failure",
    "an attempt ends within 15 s",
    "SIGTERM ends it with 0 within 1 s from any state, also as PID 1",
    "SIGKILL at any instruction leaves the old or the new token, and the next start heals by itself",
    "no secret byte in logs, errors, arguments, core files or a peer's /proc",
    "credentials leave only to the configured endpoint, over verified TLS, or loopback, or where asked for",
    "every failure is visible: a line for each change of state, the termination message, readiness",
    "a wrong, stepped, suspended or frozen clock never makes a stale token trusted more than 30 s longer",
    "after Dex lost its keys, a token that its present keys verify is on disk within the key check's period and a minute",
];

const fn fault(what: &'static str, promises: &'static str) -> Fault {
    Fault { what, promises, untested: None }
}

const fn untested(what: &'static str, promises: &'static str, why: &'static str) -> Fault {
    Fault { what, promises, untested: Some(why) }
}

/// Its parts, by the number of the first fault of each.
pub const PARTS: [(usize, &str); 7] = [
    (1, "Reaching Dex"),
    (22, "What the endpoint says"),
    (45, "Dex and the identity provider"),
    (56, "The subject token"),
    (71, "The output file"),
    (92, "Time"),
    (100, "The process, the fleet, operations"),
];

/// The part that a fault belongs to.
#[must_use]
pub fn part(number: usize) -> &'static str {
    PARTS.iter().rfind(|(first, _)| *first <= number).map_or("", |(_, part)| part)
}

/// The catalogue: the first is F01.
pub const FAULTS: [Fault; 123] = [
    // Reaching Dex.
    fault("Dex is down when the pod starts", "P3 P5"),
    fault("Dex is killed and comes back, after seconds or hours", "P2 P3"),
    fault("the endpoint accepts and never answers", "P6"),
    fault("the answer comes a byte a second", "P6"),
    fault("the connection is reset or closed at any byte of the answer", "P1 P4"),
    fault("an established connection is silently dead", "P4 P6"),
    fault("DNS says that there is no such name, or fails, or has no address", "P4 P5"),
    fault("the resolver hangs", "P6 P7"),
    fault("search domains, ndots, answers over TCP", "P4"),
    fault("the name's address, or the resolver, changes while it runs", "P3"),
    fault("one address family leads nowhere", "P6"),
    fault("the CA is rotated on disk", "P3 P10"),
    fault("the CA file is empty or cut off", "P10 P11"),
    fault("a removed CA lives on in resumed TLS sessions", "P10"),
    fault("Dex's certificate is expired, not yet valid, for another name, or unknown", "P10 P11"),
    fault("the same, because the clock of this node is wrong", "P10 P11"),
    fault("plain http on the TLS port, TLS 1.1, a client certificate demanded", "P4 P11"),
    fault("a proxy is set: it is down, refuses, or answers with a page", "P10 P11"),
    fault("a redirect", "P10 P11"),
    fault("packets vanish in the middle of a handshake", "P6"),
    fault("all pods come back at once when Dex returns", "P5"),
    // What the endpoint says.
    fault("429 with Retry-After in seconds", "P5"),
    fault("Retry-After as a date, of a server whose clock is wrong", "P5"),
    fault("Retry-After is negative, huge or no number", "P4 P5"),
    fault("500, 502, 503, 504, with or without a body", "P1 P4"),
    fault("200 with a page, with nothing, 204", "P1 P11"),
    fault("200 with an error inside", "P1 P11"),
    fault("JSON cut off, with a tail, a byte order mark, doubled names, deep nesting", "P1 P4"),
    fault("a body or chunks without end", "P4"),
    fault("a compressed bomb that nobody asked for", "P4"),
    fault("access_token is missing, null, empty or a number", "P1 P11"),
    fault("the token has characters that no header may carry", "P1 P9"),
    fault("another token_type", "P1 P11"),
    fault("another issued_token_type than asked for", "P11"),
    fault("no expires_in, and the token tells nothing", "P2"),
    fault("expires_in as a string, with a fraction, with an exponent", "P2"),
    fault("expires_in is nought, negative, a word, null", "P1 P2"),
    fault("expires_in is larger than any number", "P4"),
    fault("tokens arrive expired or nearly so, again and again", "P1 P5"),
    fault("the same token is issued again", "P5 P11"),
    fault("exp is missing, in milliseconds, a string, before iat, or disagrees with expires_in", "P2"),
    fault("what looks like a JSON Web Token is none: five parts, no signature, a huge header", "P4"),
    fault("a good token of a wrong identity", "P11"),
    fault("interim answers, HTTP/1.0, folded or huge headers, HTTP/2", "P4"),
    // Dex and the identity provider.
    fault("Dex cannot reach the cluster's keys: 401 access_denied", "P3 P5"),
    fault("Dex's connector did not open: 400 invalid_request", "P3 P5"),
    fault("the client does not exist yet, or its secret was changed", "P3 P11"),
    fault("a configuration stays wrong for a month", "P4 P5 P11"),
    fault("Dex rotates its keys", "P1"),
    fault("Dex loses its keys", "P13"),
    fault("another Dex answers with other codes", "P4 P5"),
    fault("the lifetime of tokens is changed", "P2"),
    fault("groups change upstream", "P2"),
    fault("Dex does not check the audience of the subject token", "P11"),
    untested(
        "the pod is deleted and its token lives on",
        "",
        "nothing that a program in that pod could do: docs/security.md says so, and recommends short lifetimes",
    ),
    // The subject token.
    fault("its file is not there at the start", "P3 P4"),
    fault("it vanishes", "P2"),
    fault("it is empty", "P1 P11"),
    fault("it is written bit by bit", "P1 P4"),
    fault("it is swapped between two steps of reading it", "P4"),
    fault("it is huge, binary, in another encoding", "P4 P9"),
    fault("it has a newline, a byte order mark, blanks", "P4 P11"),
    fault("a FIFO, a socket, a folder, a device stands in its place", "P4"),
    fault("this uid may not read it", "P11"),
    fault("it expired, since the kubelet does not replace it", "P3 P11"),
    fault("it is replaced between two attempts", "P2 P3"),
    fault("it is not valid yet", "P4 P11"),
    fault("it is mounted by subPath and never replaced", "P11"),
    fault("the kernel has no more watches for files", "P4"),
    fault("its ServiceAccount is deleted", "P4 P5"),
    // The output file.
    fault("its folder is not there at the start", "P3 P5"),
    fault("its folder is removed and made anew", "P1 P3"),
    fault("its volume becomes read-only, or refuses this uid", "P1 P11"),
    fault("its volume is full, or out of inodes", "P1 P8"),
    fault("the temporary folder is on another file system", "P1"),
    fault("a peer has put a symbolic link in its place", "P1 P10"),
    fault("it is a folder", "P4 P11"),
    fault("it is a FIFO or a socket", "P4"),
    fault("the temporary file's name is guessed or taken", "P1 P4"),
    fault("it is a mount point itself", "P1 P11"),
    fault("a reader mounts the file and not its folder", "P1"),
    fault("umask, mode and owner drift", "P1"),
    fault("SIGKILL at any step of writing it", "P1 P8"),
    fault("the power fails while it is written", "P1 P8"),
    fault("fsync or close fails", "P1 P8"),
    fault("the disk stalls", "P4 P7"),
    fault("two sidecars write one file", "P1 P5"),
    fault("somebody edits, cuts or removes it", "P1 P3"),
    fault("readers read it all the time", "P1"),
    fault("a network file system's errors", "P1 P3"),
    fault("the kernel's security modules refuse a system call", "P4"),
    // Time.
    fault("the wall clock steps forward", "P12"),
    fault("the wall clock steps backward", "P12"),
    fault("the machine boots in 1970 and learns the time later", "P3 P12"),
    fault("the machine sleeps", "P12"),
    fault("the process is stopped past the expiry", "P5 P12"),
    fault("the server's clock is ahead or behind", "P2 P12"),
    fault("numbers of time overflow", "P4"),
    fault("the processor is taken away", "P4 P5"),
    // Process, fleet, operations.
    fault("it is PID 1", "P7"),
    fault("SIGTERM in the middle of anything", "P1 P7"),
    fault("SIGHUP, SIGUSR1, SIGPIPE, two SIGTERMs", "P4 P7"),
    fault("children that nobody waits for", "P4"),
    fault("a panic leaves a process that does nothing", "P4"),
    fault("it is killed for its memory", "P4 P8"),
    fault("there are no more file descriptors", "P4"),
    fault("no thread can be made", "P4"),
    fault("nobody reads its log, or it is closed", "P4"),
    fault("it is restarted in a loop", "P5"),
    fault("health does not tell the truth", "P11"),
    fault("the app starts before there is a token", "P1"),
    fault("a token is needed while the pod ends", "P1 P2"),
    fault("an outage lasts longer than the token", "P3 P4"),
    fault("an error path without a pause", "P5"),
    fault("a fleet in step", "P5"),
    fault("chance that is the same in every pod", "P5"),
    fault("pauses that shrink to nothing", "P5"),
    fault("an outage fills the log", "P11"),
    fault("wrong settings", "P11"),
    fault("a file of the form is changed while it runs", "P3"),
    fault("a read-only root, any uid, no /tmp, no /proc, no passwd, no IPv6", "P4"),
    fault("what an endpoint says forges log lines", "P9 P11"),
    fault("a peer of the same uid looks into the process", "P9"),
];
