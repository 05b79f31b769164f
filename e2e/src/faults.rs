//! The catalogue of faults: what can go wrong around the program, and which promises hold then.
//!
//! Tests have the number of a fault in their name (`f042_…`). docs/faults.md is generated from the
//! catalogue and from those tests.

mod catalogue;

pub use catalogue::FAULTS;

/// A fault: something that happens to the program.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The number in its id: 42 for F42. Numbers are never changed and never used again.
    pub number: usize,
    /// The section of docs/faults.md.
    pub part: Part,
    /// The promises that hold all the same.
    pub promises: &'static [Promise],
    /// What happens, in one sentence without a full stop.
    pub what: &'static str,
    /// Why there is no test, if there is none.
    pub untested: Option<&'static str>,
}

impl Fault {
    /// The id as docs and comments write it: `F07`, `F124`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("F{:02}", self.number)
    }
}

/// The fault with this number.
#[must_use]
pub fn fault(number: usize) -> Option<&'static Fault> {
    FAULTS.iter().find(|fault| fault.number == number)
}

macro_rules! parts {
    ($($part:ident = $title:literal;)*) => {
        /// The part of the program's surroundings in which a fault happens.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Part {
            $(#[doc = $title] $part,)*
        }

        impl Part {
            /// Every part, in the order of the page.
            pub const ALL: &'static [Self] = &[$(Self::$part,)*];

            /// The title of its section.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$part => $title,)*
                }
            }
        }
    };
}

parts! {
    Reaching = "Reaching Dex";
    Dns = "DNS";
    Tls = "TLS and certificates";
    Proxies = "Proxies";
    Answers = "Answers of the endpoint";
    Dex = "Dex and the identity provider";
    Subject = "The subject token";
    Output = "The token file";
    Time = "Time";
    Process = "The process";
    Operations = "Pods, fleets and operations";
    Settings = "Settings";
}

macro_rules! promises {
    ($($promise:ident = $text:literal;)*) => {
        /// What the program promises, whatever happens around it.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Promise {
            $(#[doc = $text] $promise,)*
        }

        impl Promise {
            /// Every promise, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$promise,)*];

            /// The name: `P1`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$promise => stringify!($promise),)*
                }
            }

            /// The promise itself.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$promise => $text,)*
                }
            }
        }
    };
}

promises! {
    P1 = "A reader sees no file (before the first success) or one complete token that Dex issued.";
    P2 = "While Dex can be reached once within each refresh margin, for as long as the maximum delay \
          between two attempts, the token on disk is never expired.";
    P3 = "After Dex returns, there is a new token: within 30 s if there was none or an expired one, \
          otherwise within a tenth of the remaining validity (30 s to 5 min). If Dex had refused, the \
          maximum delay of that refusal counts ([failures.md](failures.md)).";
    P4 = "No input makes the program panic, exit, hang, loop without a delay, or grow.";
    P5 = "At most one attempt is in flight. At most 20 attempts start in any 60 s, and 3 a minute while \
          attempts keep failing.";
    P6 = "An attempt ends within its time-out (15 s by default).";
    P7 = "SIGTERM ends the program with exit code 0 within 1 s, from any state, also as PID 1.";
    P8 = "SIGKILL at any instruction leaves the old or the new token, and the next start cleans up.";
    P9 = "No byte of a secret stands in logs, errors, arguments, core files or a peer's view of /proc.";
    P10 = "Credentials leave only to the configured endpoint: over verified TLS, to an address that is not \
           public, or where plain http is explicitly allowed.";
    P11 = "Every failure is visible: one log line for each change of state, the termination message, \
           readiness.";
    P12 = "A wrong, stepped, suspended or frozen clock never makes an expired token trusted for more than \
           30 s longer.";
    P13 = "After Dex lost its signing keys, a token that its present keys verify is on disk within the key \
           check's period and a minute.";
    P14 = "Trouble with one token, output or action delays no other. Today there is one token with one \
           output, and no fault names this promise.";
}

/// The number of an id such as `F42`. An id of another form does not compile.
const fn number(id: &str) -> usize {
    let bytes = id.as_bytes();
    assert!(bytes.len() > 1 && bytes[0] == b'F', "an id is F and a number");
    let mut number = 0;
    let mut at = 1;
    while at < bytes.len() {
        assert!(bytes[at].is_ascii_digit(), "an id is F and a number");
        number = number * 10 + (bytes[at] - b'0') as usize;
        at += 1;
    }
    number
}

/// Builds the catalogue. One entry is `ID, PART, [PROMISES], "what happens";`, and `untested:
/// "why"` after the text where there is no test.
macro_rules! faults {
    ($($id:ident, $part:ident, [$($promise:ident),*], $what:literal $(, untested: $why:literal)?;)*) => {
        /// Every fault. The order does not matter: the page sorts by part and number.
        pub const FAULTS: &[Fault] = &[$(Fault {
            number: number(stringify!($id)),
            part: Part::$part,
            promises: &[$(Promise::$promise),*],
            what: $what,
            untested: faults!(@why $($why)?),
        }),*];
    };
    (@why) => { None };
    (@why $why:literal) => { Some($why) };
}
use faults;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_is_used_once() {
        let numbers: BTreeSet<usize> = FAULTS.iter().map(|fault| fault.number).collect();
        let twice: Vec<usize> = FAULTS
            .iter()
            .map(|fault| fault.number)
            .filter(|number| FAULTS.iter().filter(|fault| fault.number == *number).count() > 1)
            .collect();
        assert_eq!(twice, [0; 0]);
        assert!(!numbers.contains(&0));
    }

    #[test]
    fn every_fault_is_described_and_names_its_promises_once_and_in_order() {
        for fault in FAULTS {
            let id = fault.id();
            assert!(fault.what.starts_with(|c: char| c.is_uppercase() || c == '`'), "{id}");
            assert!(!fault.what.ends_with('.') && !fault.what.contains('|'), "{id}: {}", fault.what);
            assert!(fault.promises.is_sorted_by(|one, next| one < next), "{id}: {:?}", fault.promises);
        }
    }

    #[test]
    fn only_a_fault_without_a_test_has_no_promise() {
        for fault in FAULTS {
            assert_eq!(fault.promises.is_empty(), fault.untested.is_some(), "{}", fault.id());
        }
    }

    #[test]
    fn every_part_has_a_fault() {
        for part in Part::ALL {
            assert!(FAULTS.iter().any(|fault| fault.part == *part), "{part:?}");
        }
    }

    #[test]
    fn an_id_is_read_as_its_number() {
        assert_eq!((number("F1"), number("F07"), number("F159")), (1, 7, 159));
        assert_eq!(fault(7).map(Fault::id).as_deref(), Some("F07"));
        assert!(fault(100_000).is_none());
    }
}
