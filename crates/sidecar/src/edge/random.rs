//! Where chance comes from: the kernel, so that no two pods ever draw the same (F116).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use dexsidecar_core::time::Jitter;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

/// A fresh draw.
#[must_use]
pub fn jitter() -> Jitter {
    // 2^53 steps fill an f64's mantissa.
    let steps = u64::from_le_bytes(bytes()) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    Jitter::new(steps as f64 / (1_u64 << 53) as f64)
}

/// A name nobody can guess: 128 bits in hexadecimal.
#[must_use]
pub fn hex_u128() -> String {
    format!("{:032x}", u128::from_le_bytes(bytes()))
}

/// A number nobody can guess: 16 bits. Without the kernel's randomness it is made of the clock, which is better than none.
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

/// Random bytes. Without the kernel's randomness (a seccomp filter might refuse it) they are all zero: no jitter,
/// and names that `O_EXCL` keeps apart. No secret is made of them.
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
    fn f116_no_two_draws_are_the_same() {
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
