//! Which dialect of RDB a file or a server speaks. The number alone is not enough: Valkey left the
//! Redis line after 11 and counts from 80, and the two give some type codes different meanings.

use std::fmt;

/// Who defined the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Vendor {
    /// `REDIS` magic: Redis, and Valkey up to 8.
    Redis,
    /// `VALKEY` magic: Valkey from 9 on.
    Valkey,
}

/// A dialect of RDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Who defined it.
    pub vendor: Vendor,
    /// The number in the magic, and in the footer of a payload.
    pub number: u16,
}

impl Version {
    /// A version of the Redis line.
    #[must_use]
    pub const fn redis(number: u16) -> Self {
        Self { vendor: Vendor::Redis, number }
    }

    /// A version of the Valkey line.
    #[must_use]
    pub const fn valkey(number: u16) -> Self {
        Self { vendor: Vendor::Valkey, number }
    }

    /// Reads the nine bytes that open a file.
    pub(crate) fn from_magic(magic: &[u8]) -> Option<Self> {
        let digits = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u16>().ok();
        if let Some(number) = magic.strip_prefix(b"REDIS") {
            return (number.len() == 4).then(|| digits(number).map(Self::redis)).flatten();
        }
        let number = magic.strip_prefix(b"VALKEY")?;
        (number.len() == 3).then(|| digits(number).map(Self::valkey)).flatten()
    }

    /// The version that follows from the number in a payload's footer, which names no vendor. Valkey
    /// counts from 80 and reserves everything from 12 to 79 for others.
    #[must_use]
    pub fn from_footer(number: u16) -> Self {
        if number >= 80 { Self::valkey(number) } else { Self::redis(number) }
    }

    /// The newest dialect that a server is known to read, from what its `INFO` says.
    ///
    /// A server newer than this table reads all that its predecessors wrote, so it is given the newest
    /// dialect known here and never one that is only hearsay.
    #[must_use]
    pub fn read_by(redis_version: &str, valkey_version: Option<&str>) -> Self {
        if let Some(valkey) = valkey_version {
            return if numbers(valkey).0 >= 9 { Self::valkey(80) } else { Self::redis(11) };
        }
        Self::redis(match numbers(redis_version) {
            (0..=2, _) | (3, 0..=1) => 6,
            (3, _) => 7,
            (4, _) => 8,
            (5 | 6, _) => 9,
            (7, 0..=1) => 10,
            (7, 2..=3) => 11,
            (7, _) | (8, 0..=5) => 12,
            _ => 13,
        })
    }
}

/// Major and minor number of a dotted version; what is not a number counts as zero.
fn numbers(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vendor {
            Vendor::Redis => write!(f, "RDB version {}", self.number),
            Vendor::Valkey => write!(f, "RDB version {} (Valkey)", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_magics_and_nothing_else() {
        assert_eq!(Version::from_magic(b"REDIS0010"), Some(Version::redis(10)));
        assert_eq!(Version::from_magic(b"VALKEY080"), Some(Version::valkey(80)));
        for wrong in [b"REDIS001x", b"redis0010", b"VALKEY8  ", b"\x89PNG\r\n\x1a\n\0"] {
            assert_eq!(Version::from_magic(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn knows_what_servers_read() {
        for (redis, valkey, want) in [
            ("3.0.7", None, Version::redis(6)),
            ("3.2.1", None, Version::redis(7)),
            ("5.0.14", None, Version::redis(9)),
            ("6.2.5", None, Version::redis(9)),
            ("7.0.15", None, Version::redis(10)),
            ("7.2.4", None, Version::redis(11)),
            ("7.4.0", None, Version::redis(12)),
            ("8.0.6", None, Version::redis(12)),
            ("8.4.0", None, Version::redis(12)),
            ("8.6.2", None, Version::redis(13)),
            ("9.0.0", None, Version::redis(13)),
            ("7.2.4", Some("8.0.1"), Version::redis(11)),
            ("7.2.4", Some("9.1.2"), Version::valkey(80)),
        ] {
            assert_eq!(Version::read_by(redis, valkey), want, "{redis} {valkey:?}");
        }
    }
}
