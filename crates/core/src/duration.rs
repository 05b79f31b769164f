//! Durations in Go's notation, such as `1h30m`, `1.5h` and `250ms`.
//!
//! The settings of the original (miscord-dev/dexsidecar) use this notation.

use std::fmt;
use std::time::Duration;

/// The longest duration that is accepted: the range of Go's `time.Duration`, about 292 years.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// The units of Go's `time.ParseDuration`, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),  // micro sign
    ("\u{3bc}s", 1_000), // Greek mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Why a text is not a duration. The `Display` text follows the name of the setting: "NAME is
/// empty".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotADuration {
    /// The text is empty.
    Empty,
    /// A number has no unit, as in `10`.
    NoUnit,
    /// The text begins with a minus sign.
    Negative,
    /// The duration exceeds 292 years.
    TooLong,
    /// Any other text that Go does not accept.
    Malformed,
}

impl fmt::Display for NotADuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::NoUnit => "has a number without a unit",
            Self::Negative => "is negative",
            Self::TooLong => "is longer than 292 years",
            Self::Malformed => "is not a duration",
        })
    }
}

/// Parses a duration as Go's `time.ParseDuration` does. Negative durations are refused, because no
/// setting has a use for one.
///
/// # Errors
/// [`NotADuration`], which never quotes the text: `Empty`, `NoUnit`, `Negative`, `TooLong` or
/// `Malformed`.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    if text.is_empty() {
        return Err(NotADuration::Empty);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned.starts_with('-') {
        return Err(NotADuration::Negative);
    }
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = unsigned;
    let mut total = Duration::ZERO;
    loop {
        let (nanos, after) = element(rest)?;
        total = total.checked_add(nanos).filter(|sum| *sum <= LONGEST).ok_or(NotADuration::TooLong)?;
        rest = after;
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// The first number with its unit, and the rest of the text.
fn element(text: &str) -> Result<(Duration, &str), NotADuration> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(NotADuration::Malformed);
    }
    let unit_end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    if unit.is_empty() {
        return Err(NotADuration::NoUnit);
    }
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NotADuration::Malformed)?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| NotADuration::TooLong)? };
    let whole = whole.checked_mul(*nanos).ok_or(NotADuration::TooLong)?;
    Ok((Duration::from_nanos(whole).saturating_add(fraction_of(fraction, *nanos)), rest))
}

/// The fraction `0.DIGITS` of a unit of this many nanoseconds, rounded down to a whole nanosecond.
fn fraction_of(digits: &str, unit: u64) -> Duration {
    let mut scale = 1_u128;
    let mut value = 0_u128;
    // An hour has 3.6e12 ns. Nineteen digits resolve less than a nanosecond of it, and the products
    // below fit into 128 bits.
    for digit in digits.bytes().take(19) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let nanos = value * u128::from(unit) / scale;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The digits at the start of the text, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Displays a duration with its two largest units, such as `15h36m`, `4m30s`, `12s` or `250ms`.
#[derive(Clone, Copy, Debug)]
pub struct HumanDuration(pub Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let (days, hours, minutes, seconds) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60, secs % 60);
        let (first, second) = match (days, hours, minutes, seconds) {
            (0, 0, 0, 0) if self.0.is_zero() => return f.write_str("0s"),
            (0, 0, 0, 0) => return write!(f, "{}ms", self.0.as_millis()),
            (0, 0, 0, s) => return write!(f, "{s}s"),
            (0, 0, m, s) => ((m, "m"), (s, "s")),
            (0, h, m, _) => ((h, "h"), (m, "m")),
            (d, h, _, _) => ((d, "d"), (h, "h")),
        };
        write!(f, "{}{}", first.0, first.1)?;
        if second.0 > 0 {
            write!(f, "{}{}", second.0, second.1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs and results are those of Go's `time.ParseDuration`.
    #[test]
    fn go_s_durations_have_the_same_value_here() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("250ms", 250_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("1us2ns", 1_002),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
            ("2562047h47m16s854ms775us807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text).map(|d| d.as_nanos()), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn texts_that_go_refuses_are_refused_with_the_reason() {
        for (text, why) in [
            ("", NotADuration::Empty),
            ("3600", NotADuration::NoUnit),
            ("1h30", NotADuration::NoUnit),
            ("1x", NotADuration::Malformed),
            ("1d", NotADuration::Malformed),
            ("s", NotADuration::Malformed),
            (".s", NotADuration::Malformed),
            ("1 h", NotADuration::Malformed),
            ("1H", NotADuration::Malformed),
            ("-5m", NotADuration::Negative),
            ("9223372036854775808ns", NotADuration::TooLong),
            ("99999999999999999999999h", NotADuration::TooLong),
            ("292y", NotADuration::Malformed),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_displayed_duration_has_its_two_largest_units() {
        for (secs, text) in
            [(0, "0s"), (12, "12s"), (60, "1m"), (270, "4m30s"), (56_160, "15h36m"), (90_000, "1d1h")]
        {
            assert_eq!(HumanDuration(Duration::from_secs(secs)).to_string(), text);
        }
        assert_eq!(HumanDuration(Duration::from_millis(250)).to_string(), "250ms");
    }
}
