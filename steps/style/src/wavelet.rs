//! The Haar wavelet as pooling and its inverse. Pure functions.

use tch::Tensor;

/// Haar wavelet pooling of `[batch, channels, height, width]` with even sides:
/// the low band LL and the high bands LH, HL, HH, each at half the size.
pub fn haar(x: &Tensor) -> (Tensor, [Tensor; 3]) {
    let (height, width) = (x.size()[2], x.size()[3]);
    let rows = |start: i64| x.slice(2, start, height, 2);
    let corner = |rows: &Tensor, start: i64| rows.slice(3, start, width, 2);
    let (upper, lower) = (rows(0), rows(1));
    let (a, b) = (corner(&upper, 0), corner(&upper, 1));
    let (c, d) = (corner(&lower, 0), corner(&lower, 1));
    let (ab, cd) = (&a + &b, &c + &d);
    let (ba, dc) = (&b - &a, &d - &c);
    (
        (&ab + &cd) * 0.5,
        [(&ba + &dc) * 0.5, (&cd - &ab) * 0.5, (&dc - &ba) * 0.5],
    )
}

/// The inverse of [`haar`].
pub fn unhaar(low: &Tensor, lh: &Tensor, hl: &Tensor, hh: &Tensor) -> Tensor {
    let (sum, difference) = (low + hh, low - hh);
    let (rise, fall) = (lh + hl, lh - hl);
    let a = &sum - &rise;
    let b = &difference + &fall;
    let c = &difference - &fall;
    let d = &sum + &rise;
    let upper = Tensor::stack(&[a, b], -1).flatten(-2, -1);
    let lower = Tensor::stack(&[c, d], -1).flatten(-2, -1);
    Tensor::stack(&[upper, lower], -2).flatten(-3, -2) * 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn noise(shape: &[i64]) -> Tensor {
        tch::manual_seed(1);
        Tensor::rand(shape, (Kind::Float, Device::Cpu))
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn haar_is_undone_exactly_and_keeps_energy() {
        let x = noise(&[2, 3, 8, 12]);
        let (low, [lh, hl, hh]) = haar(&x);
        assert_eq!(low.size(), [2, 3, 4, 6]);
        assert!(largest_difference(&unhaar(&low, &lh, &hl, &hh), &x) < 1e-6);
        let energy = |t: &Tensor| t.square().sum(Kind::Double).double_value(&[]);
        let parts = energy(&low) + energy(&lh) + energy(&hl) + energy(&hh);
        assert!((parts - energy(&x)).abs() < 1e-3);
    }

    #[test]
    fn haar_bands_see_what_they_are_named_after() {
        let columns = Tensor::from_slice(&[0f32, 1., 0., 1.]).view([1, 1, 2, 2]);
        let (low, [lh, hl, hh]) = haar(&columns);
        let value = |t: &Tensor| t.double_value(&[0, 0, 0, 0]);
        assert_eq!(
            (value(&low), value(&lh), value(&hl), value(&hh)),
            (1.0, 1.0, 0.0, 0.0)
        );
    }
}
