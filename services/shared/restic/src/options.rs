//! What callers choose when they open, initialise or write a repository.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Utc};

use crate::config::Version;
use crate::error::{Error, Result};
use crate::identity::Instance;
use crate::key::Kdf;
use crate::resources::Resources;

/// How a repository is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The name of this machine or pod, for our lock files. A suffix makes it unique per process.
    pub host: String,
    /// The user name in our lock files.
    pub username: String,
    /// A name that outlives this process and that no other living process bears, where there is one.
    pub instance: Option<Instance>,
    /// How long an operation waits for a conflicting lock before it fails with
    /// [`Kind::Locked`](crate::Kind::Locked).
    pub lock_wait: Duration,
    /// Whether reading operations take a shared lock. Without it a read-only store can be read, and
    /// a prune running meanwhile can make a read fail (never lie). Writes always lock.
    pub lock_reads: bool,
    /// The processors and the memory to share.
    pub resources: Resources,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            host: "coffer".into(),
            username: "coffer".into(),
            instance: None,
            lock_wait: Duration::from_secs(60),
            lock_reads: true,
            resources: Resources::default(),
        }
    }
}

/// How a repository is made.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// The format version; 2 unless a very old reader must open it.
    pub version: Version,
    /// The cost of the password derivation.
    pub kdf: Kdf,
}

/// How hard data blobs are compressed (format version 2; version 1 has no compression).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Data blobs are stored as they are. Trees and documents are compressed all the same, as restic
    /// does.
    Off,
    /// A zstd level, 1 to 22. Level 1 is as small as higher ones on Redis dumps, and the fastest.
    Level(i32),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Level(1)
    }
}

impl FromStr for Compression {
    type Err = Error;

    /// Reads `off`, or a level.
    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            _ if text == "off" => Ok(Self::Off),
            Ok(level @ 1..=22) => Ok(Self::Level(level)),
            _ => {
                let problem = "is neither \"off\" nor a level from 1 to 22";
                Err(Error::invalid(format!("compression {text:?}"), problem))
            }
        }
    }
}

/// What a new snapshot says about itself, and how it is written.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The host the data came from.
    pub host: String,
    /// The snapshot's tags.
    pub tags: Vec<String>,
    /// The paths the snapshot is listed and grouped under; empty: the paths of its files.
    pub paths: Vec<String>,
    /// The moment the snapshot stands for; its offset decides the day it counts for in `forget`.
    pub time: DateTime<FixedOffset>,
    /// The user name in the snapshot.
    pub username: String,
    /// The program and version in the snapshot.
    pub program_version: String,
    /// Compression of data blobs.
    pub compression: Compression,
    /// Decode every new blob again and compare before it is written, as restic does: this catches
    /// bad memory and codec faults for about a fifth of the processor time.
    pub verify: bool,
    /// Packs being uploaded at a time, at most; fewer while many streams share the memory.
    pub uploads: usize,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            host: "host-0".into(),
            tags: Vec::new(),
            paths: Vec::new(),
            time: Utc::now().fixed_offset(),
            username: "coffer".into(),
            program_version: concat!("coffer ", env!("CARGO_PKG_VERSION")).into(),
            compression: Compression::default(),
            verify: true,
            uploads: 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_off_or_a_level() {
        assert_eq!("off".parse::<Compression>().unwrap(), Compression::Off);
        assert_eq!("3".parse::<Compression>().unwrap(), Compression::Level(3));
        for text in ["", "0", "23", "-1", "fast", "OFF"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
