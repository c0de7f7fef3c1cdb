//! What this crate and those above it take from outside of any store: the clock and
//! chance. A simulation puts its own in their place, for its thread; no other build
//! can.

use auria_core::Timestamp;

/// The time of this machine's clock. For people and for age limits; correctness
/// never rests on it.
#[must_use]
pub fn now() -> Timestamp {
    #[cfg(feature = "simulation")]
    if let Some(now) = simulated::now() {
        return now;
    }
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A random number.
#[must_use]
pub fn random() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(number) = simulated::random() {
        return number;
    }
    rand::random()
}

/// A random number from 0 up to 1, and not 1 itself.
#[must_use]
pub fn random_fraction() -> f64 {
    // As many bits as an f64 holds exactly.
    (random() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The simulation's clock and dice, each thread's own.
#[cfg(feature = "simulation")]
pub mod simulated {
    use auria_core::Timestamp;
    use std::cell::Cell;

    /// The clock, and where the dice stand.
    #[derive(Clone, Copy)]
    struct Outside {
        began: tokio::time::Instant,
        at: Timestamp,
        dice: u64,
    }

    thread_local! {
        static OUTSIDE: Cell<Option<Outside>> = const { Cell::new(None) };
    }

    /// From now on this thread's clock is tokio's, which is `at` at this moment, and its
    /// random numbers follow from `seed`. To be called in a runtime whose time is paused.
    pub fn enter(at: Timestamp, seed: u64) {
        OUTSIDE.set(Some(Outside {
            began: tokio::time::Instant::now(),
            at,
            dice: seed,
        }));
    }

    /// This thread's clock and random numbers are the machine's again.
    pub fn leave() {
        OUTSIDE.set(None);
    }

    pub(super) fn now() -> Option<Timestamp> {
        let outside = OUTSIDE.get()?;
        let passed = outside.began.elapsed().as_millis();
        Some(
            outside
                .at
                .plus_millis(u64::try_from(passed).unwrap_or(u64::MAX)),
        )
    }

    /// The next of splitmix64's numbers.
    pub(super) fn random() -> Option<u64> {
        let mut outside = OUTSIDE.get()?;
        outside.dice = outside.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        OUTSIDE.set(Some(outside));
        let mut z = outside.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ (z >> 31))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fractions_stay_below_one() {
        for _ in 0..1000 {
            let fraction = super::random_fraction();
            assert!((0.0..1.0).contains(&fraction), "{fraction}");
        }
    }
}
