//! Check.
/// How deep to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Also read, decrypt and hash every blob of every pack.
    pub read_data: bool,
}

/// What was looked at and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots seen.
    pub snapshots: u64,
    /// Packs seen.
    pub packs: u64,
    /// Blobs seen in the index.
    pub blobs: u64,
    /// Bytes of pack data read (with `read_data`).
    pub bytes_read: u64,
    /// Damage: data is or may be lost.
    pub problems: Vec<Problem>,
    /// Oddities that lose nothing, such as packs no index lists (an interrupted backup's).
    pub notes: Vec<Problem>,
}

impl Report {
    /// Whether the repository is sound.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object it is about.
    pub file: String,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}
