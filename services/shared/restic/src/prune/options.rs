//! How prune weighs work against waste: restic's options.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::options::Compression;
use crate::progress::Observer;
use crate::size;

/// What to prune, and how thoroughly.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Unused bytes that may stay in packs.
    pub max_unused: MaxUnused,
    /// Bytes of packs that are rewritten at most; `None`: as many as it takes.
    pub max_repack_bytes: Option<u64>,
    /// Rewrite packs below four fifths of the usual size, instead of the tiny ones only.
    pub repack_small: bool,
    /// Leave packs of data alone: rewrite those of trees only.
    pub repack_cacheable_only: bool,
    /// Rewrite packs with data that is not compressed, whatever may stay unused; in format 2 only. Packs of trees that
    /// are not compressed are rewritten anyway, as restic does.
    pub repack_uncompressed: bool,
    /// How what is copied to new packs is compressed, unless it is already or does not shrink.
    pub compression: Compression,
    /// Only plan; change nothing.
    pub dry_run: bool,
    /// Is told how far it is.
    pub observer: Observer,
}

/// How much of a repository may stay unused: `restic prune --max-unused`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxUnused {
    /// Percent of what the repository takes afterwards, 0 to 100.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
    /// Rewrite nothing that holds used data.
    Unlimited,
}

impl Default for MaxUnused {
    fn default() -> Self {
        Self::Percent(5.0)
    }
}

impl MaxUnused {
    /// The bytes that may stay unused beside this many used ones.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a size needs no exact byte; the cast saturates"
    )]
    pub(super) fn bytes(self, used: u64) -> u64 {
        match self {
            Self::Percent(percent) if percent >= 100.0 => u64::MAX,
            Self::Percent(percent) => {
                let percent = percent.max(0.0);
                (percent / (100.0 - percent) * used as f64) as u64
            }
            Self::Bytes(bytes) => bytes,
            Self::Unlimited => u64::MAX,
        }
    }
}

impl FromStr for MaxUnused {
    type Err = Error;

    /// `5%`, `200M` or `unlimited`.
    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let problem = "is neither a percentage (5%), a size (200M) nor \"unlimited\"";
            Error::invalid(format!("limit of unused space {text:?}"), problem)
        };
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.trim().parse().map_err(|_| refused())?;
            let sound = (0.0..=100.0).contains(&percent);
            return if sound { Ok(Self::Percent(percent)) } else { Err(refused()) };
        }
        size::parse(text).map(Self::Bytes).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_restic_reads_them() {
        let parse = |text: &str| text.parse::<MaxUnused>().ok();
        assert_eq!(parse("5%"), Some(MaxUnused::Percent(5.0)));
        assert_eq!(parse("2.5 %"), Some(MaxUnused::Percent(2.5)));
        assert_eq!(parse("1g"), Some(MaxUnused::Bytes(1 << 30)));
        assert_eq!(parse("0"), Some(MaxUnused::Bytes(0)));
        assert_eq!(parse("unlimited"), Some(MaxUnused::Unlimited));
        for junk in ["", "%", "-1%", "101%", "NaN%", "5x", "lots"] {
            assert_eq!(parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn percent_are_of_all_that_stays() {
        // A tenth unused, nine tenths used.
        assert_eq!(MaxUnused::Percent(10.0).bytes(900), 100);
        assert_eq!(MaxUnused::Percent(0.0).bytes(900), 0);
        assert_eq!(MaxUnused::Percent(100.0).bytes(900), u64::MAX);
    }
}
