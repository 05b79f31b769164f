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
    ($($promise:ident),*) => {
        /// What the program promises. docs/promises.md says what each of them means.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Promise {
            $(#[doc = concat!("**", stringify!($promise), "** of docs/promises.md.")] $promise,)*
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
        }
    };
}

promises! { P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14 }

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
