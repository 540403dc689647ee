//! A stream of commands, each an array of bulk strings. Inline commands are not read: no dump has them.

use super::Error;
use super::frame::Frames;
use bytes::Bytes;

/// No dump writes more elements into one command: redis-dump-go's batch is 1000 by default.
const MOST_ARGUMENTS: u64 = 1024 * 1024;

/// Reads commands from input that arrives in pieces, one in memory at a time.
#[derive(Debug)]
pub struct CommandReader {
    frames: Frames,
    largest: u64,
    missing: usize,
    arguments: Vec<Bytes>,
    held: u64,
    bulk: Option<usize>,
}

impl CommandReader {
    /// A reader for commands whose arguments take at most `largest` bytes together.
    #[must_use]
    pub fn new(largest: u64) -> Self {
        Self {
            frames: Frames::default(),
            largest,
            missing: 0,
            arguments: Vec::new(),
            held: 0,
            bulk: None,
        }
    }

    /// Adds input.
    pub fn feed(&mut self, input: &[u8]) {
        self.frames.buffer.extend_from_slice(input);
    }

    /// The next command, never empty; `None` when more input is needed.
    ///
    /// # Errors
    /// When the input is not such a stream, or a command is too large.
    #[expect(clippy::should_implement_trait, reason = "None means hungry, not over")]
    pub fn next(&mut self) -> Result<Option<Vec<Bytes>>, Error> {
        loop {
            if let Some(len) = self.bulk {
                let Some(bulk) = self.frames.bulk(len)? else { return Ok(None) };
                self.bulk = None;
                self.missing -= 1;
                self.arguments.push(bulk);
                if self.missing == 0 {
                    self.held = 0;
                    return Ok(Some(std::mem::take(&mut self.arguments)));
                }
                continue;
            }
            let Some(line) = self.frames.line()? else { return Ok(None) };
            if self.missing > 0 {
                let digits = line
                    .strip_prefix(b"$")
                    .ok_or_else(|| self.frames.unexpected("an argument ($)", &line))?;
                let room = self.largest - self.held;
                let len = self
                    .frames
                    .length(digits, "an argument", room)
                    .map_err(|error| self.with_whole_limit(error))?
                    .ok_or_else(|| self.frames.unexpected("an argument", &line))?;
                self.held += len as u64;
                self.bulk = Some(len);
            } else {
                let digits = line
                    .strip_prefix(b"*")
                    .ok_or_else(|| self.frames.unexpected("a command (*)", &line))?;
                self.missing = self
                    .frames
                    .length(digits, "the number of arguments", MOST_ARGUMENTS)?
                    .filter(|count| *count > 0)
                    .ok_or_else(|| self.frames.unexpected("a command", &line))?;
            }
        }
    }

    /// Names the limit of the command where only the room left in it was exceeded.
    fn with_whole_limit(&self, error: Error) -> Error {
        match error {
            Error::TooLarge { at, .. } => {
                Error::TooLarge { what: "a command", limit: self.largest, at }
            }
            other => other,
        }
    }

    /// Offset behind the last whole piece read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.frames.at()
    }

    /// Confirms that the stream ended between two commands.
    ///
    /// # Errors
    /// When it did not.
    pub fn finish(self) -> Result<(), Error> {
        if self.missing == 0 && self.frames.buffer.is_empty() {
            Ok(())
        } else {
            Err(Error::Truncated { at: self.frames.received() })
        }
    }
}
