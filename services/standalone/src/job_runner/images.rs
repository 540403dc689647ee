//! Which program on this machine stands for which container image.

use std::path::PathBuf;

/// A program with its leading arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Arguments before those of the container. 
    pub args: Vec<String>,
}

/// An ordered table: the first pattern that matches wins.
#[derive(Debug, Clone, Default)]
pub struct ImageMap {
    rules: Vec<(String, Program)>,
}

impl ImageMap {
    /// Adds a rule. `*` in the pattern stands for any text; the tag or digest of an image need not be named.
    #[must_use]
    pub fn with(mut self, pattern: impl Into<String>, program: Program) -> Self {
        self.rules.push((pattern.into(), program));
        self
    }
}
