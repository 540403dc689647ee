//! Snapshot → byte stream.
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use chrono::{DateTime, FixedOffset};
use futures::Stream;

use crate::error::Result;

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its absolute path.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last modified.
    pub mtime: DateTime<FixedOffset>,
}

/// Which part of a file to read, and how far ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The first byte to read.
    pub offset: u64,
    /// How many bytes; `None`: to the end.
    pub length: Option<u64>,
    /// Ranged reads in flight, each of up to 8 MiB of content.
    pub ahead: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { offset: 0, length: None, ahead: 4 }
    }
}

/// The content of a file, in order; every blob is verified before its bytes are given out.
#[derive(Debug)]
pub struct FileReader {}

#[allow(clippy::todo, missing_docs, reason = "skeleton")]
impl FileReader {
    /// Bytes the stream will yield in total.
    pub fn len(&self) -> u64 { todo!() }
    /// Whether it yields nothing.
    pub fn is_empty(&self) -> bool { todo!() }
}

impl Stream for FileReader {
    type Item = Result<Bytes>;
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> { todo!() }
}
