//! Value noise on a hashed lattice: the grain of clouds, ridges and water.
//!
//! Pure functions of place and seed; never touches a random generator, so the
//! same scene gives the same picture everywhere.

use std::sync::OnceLock;

/// Points on a side of the table of lattice values; the lattice repeats beyond it.
const PERIOD: usize = 128;

/// Mixes a word into 32 well-spread bits (the finaliser of MurmurHash3).
fn hash(word: u32) -> u32 {
    let mut h = word.wrapping_mul(0x9e37_79b9) ^ 0x85eb_ca6b;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// Values of the lattice, made once: scenes ask for millions of them.
fn table() -> &'static [f32] {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let value = |i: usize| (hash(i as u32) >> 8) as f32 / (1u32 << 24) as f32;
        (0..PERIOD * PERIOD).map(value).collect()
    })
}

/// Where a seed's lattice begins in the table.
fn origin(seed: u32) -> (i32, i32) {
    let h = hash(seed);
    ((h & 0xffff) as i32, (h >> 16) as i32)
}

fn look_up(table: &[f32], x: i32, y: i32) -> f32 {
    let wrap = |v: i32| v as usize & (PERIOD - 1);
    table[wrap(y) * PERIOD + wrap(x)]
}

/// A value in `[0, 1)` that belongs to a lattice point.
pub fn lattice(x: i32, y: i32, seed: u32) -> f32 {
    let (left, top) = origin(seed);
    look_up(table(), x.wrapping_add(left), y.wrapping_add(top))
}

/// Smooth noise in `[0, 1)`, one bump to a lattice cell.
pub fn value(x: f32, y: f32, seed: u32) -> f32 {
    let (x0, y0) = (x.floor(), y.floor());
    let (i, j) = (x0 as i32, y0 as i32);
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x - x0), ease(y - y0));
    let (left, above) = origin(seed);
    let (i, j, table) = (i.wrapping_add(left), j.wrapping_add(above), table());
    let top = look_up(table, i, j) * (1.0 - u) + look_up(table, i.wrapping_add(1), j) * u;
    let bottom = look_up(table, i, j.wrapping_add(1)) * (1.0 - u)
        + look_up(table, i.wrapping_add(1), j.wrapping_add(1)) * u;
    top * (1.0 - v) + bottom * v
}

/// Fractal sum of `octaves` noises, in `[0, 1)`, mean near one half.
pub fn fractal(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut weight, mut total, mut scale) = (0.0, 0.5, 0.0, 1.0);
    for octave in 0..octaves {
        sum += weight * value(x * scale, y * scale, seed.wrapping_add(octave));
        total += weight;
        weight *= 0.5;
        scale *= 2.03;
    }
    sum / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_stays_in_range_and_is_continuous() {
        for step in 0..2000 {
            let x = step as f32 * 0.037 - 30.0;
            let here = fractal(x, 0.7 * x, 4, 9);
            let near = fractal(x + 1e-3, 0.7 * x, 4, 9);
            assert!((0.0..1.0).contains(&here));
            assert!(
                (here - near).abs() < 0.02,
                "a jump at {x}: {here} to {near}"
            );
        }
    }

    #[test]
    fn seeds_give_different_noise() {
        let differing = (0..100)
            .filter(|&i| (lattice(i, 3, 1) - lattice(i, 3, 2)).abs() > 0.05)
            .count();
        assert!(differing > 70);
    }
}
