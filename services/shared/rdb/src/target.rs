//! The server that values are to go to: what it is, what it reads, what it can do.

use crate::version::{Vendor, Version};
use std::collections::BTreeSet;
use std::fmt;

/// What servers take in one argument unless they are told otherwise.
pub const DEFAULT_LARGEST_ARGUMENT: u64 = 512 * 1024 * 1024;

/// The latest time at which Redis lets a field expire, in milliseconds since 1970: 46 bits, in the year 4199.
pub(crate) const LATEST_FIELD_TIME_OF_REDIS: i64 = (1 << 46) - 1;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Software {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

/// Which modules a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modules {
    /// It could not be asked.
    Unknown,
    /// The names that `MODULE LIST` gives; a server without modules gives none.
    Known(BTreeSet<String>),
}

/// A server to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose server it is.
    pub software: Software,
    /// Major and minor number of its own version.
    pub release: (u32, u32),
    /// The dialect it reads, which is what a payload's footer must name.
    pub reads: Version,
    /// Whether it allows `RESTORE`. If not, all but module values can go as typed commands.
    pub restore: bool,
    /// How many bytes it takes in one argument: its `proto-max-bulk-len`.
    pub largest_argument: u64,
    /// Its modules.
    pub modules: Modules,
}

/// Something that servers can do from some version on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Streams and consumer groups.
    Streams,
    /// `RESTORE` with `ABSTTL`, `IDLETIME` and `FREQ`.
    AbsoluteRestore,
    /// `SET` with `PXAT`.
    AbsoluteSet,
    /// `XGROUP CREATECONSUMER`.
    CreateConsumer,
    /// The figures of a stream: `ENTRIESREAD`, `ENTRIESADDED`, `MAXDELETEDID`.
    StreamFigures,
    /// Function libraries.
    Functions,
    /// Times to live of single fields of a hash.
    FieldTtls,
}

impl Target {
    /// What `INFO` tells, and a server that allows `RESTORE` and was not asked for its modules and its limit.
    #[must_use]
    pub fn from_info(redis_version: &str, valkey_version: Option<&str>) -> Self {
        let mut parts = valkey_version
            .unwrap_or(redis_version)
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        Self {
            software: if valkey_version.is_some() { Software::Valkey } else { Software::Redis },
            release: (parts.next().unwrap_or(0), parts.next().unwrap_or(0)),
            reads: Version::read_by(redis_version, valkey_version),
            restore: true,
            largest_argument: DEFAULT_LARGEST_ARGUMENT,
            modules: Modules::Unknown,
        }
    }

    /// Whether it can do that.
    #[must_use]
    pub fn can(&self, feature: Feature) -> bool {
        // Valkey began with 7.2, which has all that Redis 7.2 has.
        let (redis, valkey) = match feature {
            Feature::Streams | Feature::AbsoluteRestore => ((5, 0), (7, 2)),
            Feature::AbsoluteSet | Feature::CreateConsumer => ((6, 2), (7, 2)),
            Feature::StreamFigures | Feature::Functions => ((7, 0), (7, 2)),
            Feature::FieldTtls => ((7, 4), (9, 0)),
        };
        self.release
            >= match self.software {
                Software::Redis => redis,
                Software::Valkey => valkey,
            }
    }

    /// The latest time at which a field of a hash may expire, in milliseconds since 1970; `None` if no field may.
    #[must_use]
    pub fn latest_field_time(&self) -> Option<i64> {
        self.can(Feature::FieldTtls).then_some(match self.software {
            Software::Redis => LATEST_FIELD_TIME_OF_REDIS,
            Software::Valkey => i64::MAX,
        })
    }

    /// Whether it reads what came with that number of the Redis line.
    pub(crate) fn reads_since(&self, number: u16) -> bool {
        self.reads.vendor == Vendor::Redis && self.reads.number >= number
    }

    /// Whether it can take a value of a module's type; `None` if that cannot be told before it is tried.
    #[must_use]
    pub fn has_module_for(&self, type_name: &str) -> Option<bool> {
        let Modules::Known(names) = &self.modules else { return None };
        if names.is_empty() {
            return Some(false);
        }
        let module = module_of(type_name)?;
        Some(names.iter().any(|name| module.iter().any(|one| name.eq_ignore_ascii_case(one))))
    }
}

/// The names in `MODULE LIST` under which a type of values is known. Nothing in a file connects the two,
/// so this is a list of the modules that are widely used.
fn module_of(type_name: &str) -> Option<&'static [&'static str]> {
    Some(match type_name {
        "ReJSON-RL" => &["ReJSON", "json"],
        "MBbloom--" | "MBbloomCF" | "CMSk-TYPE" | "TopK-TYPE" | "TDIS-TYPE" => &["bf"],
        "TSDB-TYPE" => &["timeseries"],
        "vectorset" => &["vectorset"],
        "graphdata" | "graphmeta" => &["graph"],
        "bloomfltr" => &["bf"],
        _ => return None,
    })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.software {
            Software::Redis => "Redis",
            Software::Valkey => "Valkey",
        };
        let (major, minor) = self.release;
        write!(f, "{name} {major}.{minor}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_servers_can_do() {
        let redis = |version| Target::from_info(version, None);
        let valkey = |version| Target::from_info("7.2.4", Some(version));
        assert!(!redis("4.0.14").can(Feature::Streams));
        assert!(redis("5.0.6").can(Feature::Streams));
        assert!(!redis("6.0.16").can(Feature::CreateConsumer));
        assert!(redis("6.2.5").can(Feature::CreateConsumer));
        assert!(redis("7.0.15").can(Feature::StreamFigures));
        assert!(!redis("7.2.4").can(Feature::FieldTtls));
        assert!(redis("8.2.3").can(Feature::FieldTtls));
        assert!(!valkey("8.1.8").can(Feature::FieldTtls));
        assert!(valkey("9.1.2").can(Feature::FieldTtls));
        assert!(valkey("7.2.5").can(Feature::StreamFigures));
        assert_eq!(valkey("9.1.2").to_string(), "Valkey 9.1");
    }

    #[test]
    fn says_only_what_it_knows_about_modules() {
        let mut target = Target::from_info("8.2.3", None);
        assert_eq!(target.has_module_for("ReJSON-RL"), None);
        target.modules = Modules::Known(BTreeSet::new());
        assert_eq!(target.has_module_for("ReJSON-RL"), Some(false));
        assert_eq!(target.has_module_for("own--type"), Some(false));
        target.modules = Modules::Known(BTreeSet::from(["ReJSON".to_owned()]));
        assert_eq!(target.has_module_for("ReJSON-RL"), Some(true));
        assert_eq!(target.has_module_for("MBbloom--"), Some(false));
        assert_eq!(target.has_module_for("own--type"), None);
    }
}
