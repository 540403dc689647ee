//! Which packs a check with `read_data` reads: all, or restic's kinds of a part.

use std::str::FromStr;

use rand::seq::SliceRandom;

use crate::catalog::ListedPack;
use crate::error::{Error, Result};
use crate::size;

/// The part of the packs that is read: `restic check --read-data-subset`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Subset {
    /// All of them.
    #[default]
    All,
    /// The *n*-th of *m* parts, 1 to 255: *m* checks read everything once. The parts are restic's.
    Part {
        /// Which, from 1.
        n: u8,
        /// Of how many.
        m: u8,
    },
    /// About this many percent of the packs, chosen anew each time; at least one.
    Percent(f64),
    /// Packs of about this many bytes together, chosen anew each time; at least one.
    Bytes(u64),
}

impl FromStr for Subset {
    type Err = Error;

    /// `1/5`, `2.5%` or `500M`; empty for all.
    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let problem = "is neither n/m (1/5), nor a percentage (2.5%), nor a size (500M)";
            Error::invalid(format!("subset of the data {text:?}"), problem)
        };
        if text.is_empty() {
            return Ok(Self::All);
        }
        if let Some((n, m)) = text.split_once('/') {
            let n: u8 = n.trim().parse().map_err(|_| refused())?;
            let m: u8 = m.trim().parse().map_err(|_| refused())?;
            return if 0 < n && n <= m { Ok(Self::Part { n, m }) } else { Err(refused()) };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| refused())?;
            let sound = percent > 0.0 && percent <= 100.0;
            return if sound { Ok(Self::Percent(percent)) } else { Err(refused()) };
        }
        match size::parse(text) {
            Some(bytes) if bytes > 0 => Ok(Self::Bytes(bytes)),
            _ => Err(refused()),
        }
    }
}

impl Subset {
    /// The chosen ones of these packs.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a number needs no exact unit"
    )]
    pub(super) fn choose(self, mut packs: Vec<ListedPack>) -> Vec<ListedPack> {
        match self {
            Self::All => {}
            Self::Part { n, m } => packs.retain(|pack| pack.id.as_bytes()[0] % m == n - 1),
            Self::Percent(percent) => {
                packs.shuffle(&mut rand::rng());
                packs.truncate(((packs.len() as f64 * percent / 100.0) as usize).max(1));
            }
            Self::Bytes(bytes) => {
                packs.shuffle(&mut rand::rng());
                let mut sum = 0;
                let enough = packs.iter().position(|pack| {
                    sum += pack.size;
                    sum >= bytes
                });
                packs.truncate(enough.map_or(packs.len(), |at| at + 1));
            }
        }
        packs
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::id::Id;

    #[test]
    fn subsets_are_read_as_restic_reads_them() {
        let parse = |text: &str| text.parse::<Subset>().ok();
        assert_eq!(parse(""), Some(Subset::All));
        assert_eq!(parse("1/5"), Some(Subset::Part { n: 1, m: 5 }));
        assert_eq!(parse("2.5%"), Some(Subset::Percent(2.5)));
        assert_eq!(parse("10M"), Some(Subset::Bytes(10 << 20)));
        for junk in ["0/5", "6/5", "1/256", "0%", "101%", "0", "x", "-1/5", "1/", "%"] {
            assert_eq!(parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn the_parts_together_are_everything_once() {
        let packs: Vec<ListedPack> = (0..300_u32)
            .map(|i| ListedPack { id: Id::of(&i.to_le_bytes()), size: 36, blobs: 0 })
            .collect();
        let parts = (1..=7).flat_map(|n| Subset::Part { n, m: 7 }.choose(packs.clone()));
        let parts: Vec<Id> = parts.map(|pack| pack.id).collect();
        assert_eq!(parts.len(), 300);
        assert_eq!(parts.iter().collect::<BTreeSet<_>>().len(), 300);
        assert_eq!(Subset::Percent(10.0).choose(packs.clone()).len(), 30);
        assert_eq!(Subset::Percent(0.001).choose(packs.clone()).len(), 1);
        assert_eq!(Subset::Bytes(100).choose(packs.clone()).len(), 3);
        assert_eq!(Subset::Bytes(u64::MAX).choose(packs.clone()).len(), 300);
        assert!(Subset::Percent(50.0).choose(Vec::new()).is_empty());
    }
}
