//! Random numbers from the kernel, so that no two pods have the same jitter (F116).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use dexsidecar_core::time::Jitter;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

/// A new random jitter.
#[must_use]
pub fn jitter() -> Jitter {
    // An f64 has 53 bits of precision.
    let steps = u64::from_le_bytes(bytes()) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    Jitter::new(steps as f64 / (1_u64 << 53) as f64)
}

/// A random number of 128 bits in hexadecimal, for the names of temporary files.
#[must_use]
pub fn hex_u128() -> String {
    format!("{:032x}", u128::from_le_bytes(bytes()))
}

/// A random number of 16 bits, for the ids of DNS queries. If the kernel refuses `getrandom`, it is
/// derived from the clock, which is better than a constant.
#[must_use]
pub fn u16() -> u16 {
    match bytes() {
        [0, 0] => {
            let mut hasher = DefaultHasher::new();
            (clock_gettime(ClockId::Monotonic).tv_nsec, std::process::id()).hash(&mut hasher);
            let [low, high, ..] = hasher.finish().to_le_bytes();
            u16::from_le_bytes([low, high])
        }
        bytes => u16::from_le_bytes(bytes),
    }
}

/// Random bytes. All zero if the kernel refuses `getrandom`, as a seccomp filter may make it: then
/// there is no jitter, and only `O_EXCL` prevents two temporary files of one name. No secret is
/// derived from them.
fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(_) | Err(_) => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f116_random_names_and_jitters_differ() {
        let names: std::collections::BTreeSet<_> = (0..1_000).map(|_| hex_u128()).collect();
        assert_eq!(names.len(), 1_000);
        let hour = std::time::Duration::from_secs(3_600);
        let jitters: std::collections::BTreeSet<_> = (0..1_000).map(|_| jitter().share_of(hour)).collect();
        assert!(jitters.len() > 990, "{}", jitters.len());
        assert!(
            jitters.iter().any(|share| *share < hour / 10)
                && jitters.iter().any(|share| *share > hour / 10 * 9)
        );
    }
}
