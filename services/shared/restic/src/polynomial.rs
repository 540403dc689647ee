//! The irreducible polynomial over GF(2) that decides where a repository cuts its chunks.

use crate::crypto;
use crate::error::Result;

/// An irreducible polynomial of degree 53; bit *i* is the coefficient of x^*i*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Polynomial(u64);

impl Polynomial {
    /// The degree restic chooses: products of a byte shift still fit into 64 bits.
    pub(crate) const DEGREE: u32 = 53;

    /// `bits` as a polynomial, if it is one that chunks can be cut with.
    pub(crate) fn checked(bits: u64) -> Option<Self> {
        (degree(bits) == Some(Self::DEGREE) && is_irreducible(bits)).then_some(Self(bits))
    }

    /// A random one. About one candidate in 27 (odd ones of this degree) is irreducible.
    pub(crate) fn random() -> Result<Self> {
        loop {
            let mut bytes = [0; 8];
            crypto::random(&mut bytes)?;
            let bits =
                u64::from_le_bytes(bytes) & ((1 << Self::DEGREE) - 1) | (1 << Self::DEGREE) | 1;
            if let Some(polynomial) = Self::checked(bits) {
                return Ok(polynomial);
            }
        }
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The remainder of `x` divided by this polynomial.
    pub(crate) fn reduce(self, x: u64) -> u64 {
        reduce(x, self.0)
    }
}

fn degree(x: u64) -> Option<u32> {
    x.checked_ilog2()
}

fn reduce(mut x: u64, modulus: u64) -> u64 {
    let Some(modulus_degree) = degree(modulus) else { return x };
    while let Some(d) = degree(x).filter(|d| *d >= modulus_degree) {
        x ^= modulus << (d - modulus_degree);
    }
    x
}

/// a·b mod `modulus`, reducing at each step so that nothing leaves 64 bits.
fn multiply(mut a: u64, mut b: u64, modulus: u64) -> u64 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        b >>= 1;
        a = reduce(a << 1, modulus);
    }
    product
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, reduce(a, b));
    }
    a
}

/// Ben-Or's test: f is irreducible iff gcd(f, x^(2^i) - x) = 1 for every i up to deg(f) / 2.
fn is_irreducible(f: u64) -> bool {
    let Some(d) = degree(f).filter(|d| *d >= 1) else { return false };
    let x = 2;
    let mut power = reduce(x, f);
    for _ in 0..d / 2 {
        power = multiply(power, power, f);
        if gcd(f, power ^ reduce(x, f)) != 1 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_polynomials_are_judged_as_in_the_tables() {
        let irreducible: Vec<u64> = (2..32).filter(|f| is_irreducible(*f)).collect();
        assert_eq!(irreducible, [2, 3, 7, 11, 13, 19, 25, 31]);
    }

    #[test]
    fn known_and_random_polynomials() {
        assert!(Polynomial::checked(0x3da3358b4dc173).is_some());
        assert!(Polynomial::checked(0x3da3358b4dc175).is_none());
        let (a, b) = (Polynomial::random().unwrap(), Polynomial::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.bits().ilog2(), 53);
    }
}
