//! Writes an RDB file: what a server loads from its disk or receives from its master.
//!
//! Values are written as they were read, so a file that is filtered or put together from several holds the
//! same bodies as its sources. The large ones are handed through without a copy.

use crate::crc64::Crc64;
use crate::encode;
use crate::entries::{Entry, Usage};
use crate::error::Error;
use crate::version::{Vendor, Version};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// Small things are gathered to pieces of this size.
const PIECE: usize = 64 * 1024;

/// Writes a file, piece by piece.
#[derive(Debug)]
pub struct Writer {
    version: Version,
    crc: Crc64,
    database: Option<u64>,
    gathered: BytesMut,
    pieces: VecDeque<Bytes>,
    written: u64,
    ended: bool,
}

impl Writer {
    /// Begins a file of that version, which must be one that its reader reads.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let mut gathered = BytesMut::with_capacity(PIECE);
        let magic = match version.vendor {
            Vendor::Redis => format!("REDIS{:04}", version.number),
            Vendor::Valkey => format!("VALKEY{:03}", version.number),
        };
        gathered.put_slice(magic.as_bytes());
        Self {
            version,
            crc: Crc64::new(),
            database: None,
            gathered,
            pieces: VecDeque::new(),
            written: 0,
            ended: false,
        }
    }

    /// Whether this version has what came with that number of the Redis line.
    fn has(&self, since: u16) -> bool {
        self.version.vendor == Vendor::Valkey || self.version.number >= since
    }

    /// Writes a note, as servers do at the beginning. Versions before 7 have none.
    pub fn note(&mut self, name: &[u8], value: &[u8]) {
        if self.has(7) {
            self.gathered.put_u8(250);
            encode::string(&mut self.gathered, name);
            encode::string(&mut self.gathered, value);
        }
    }

    /// Writes a function library; they stand in front of all keys.
    ///
    /// # Errors
    /// When the version has no functions.
    pub fn function(&mut self, source: &[u8]) -> Result<(), Error> {
        if !self.has(10) {
            return Err(self.lacks("opcode", 245));
        }
        self.gathered.put_u8(245);
        encode::string(&mut self.gathered, source);
        self.gather();
        Ok(())
    }

    /// Writes what a module keeps outside any key, as it was read.
    ///
    /// # Errors
    /// When the version has no such thing.
    pub fn module_aux(&mut self, body: &Bytes) -> Result<(), Error> {
        if !self.has(9) {
            return Err(self.lacks("opcode", 247));
        }
        self.gathered.put_u8(247);
        self.body(body);
        Ok(())
    }

    /// Writes how many keys, and how many with an expiry, a database has, before the first of them: a
    /// server then makes its tables large enough at once. Versions before 7 have no place for it.
    pub fn size_hint(&mut self, database: u64, keys: u64, expiring: u64) {
        self.select(database);
        if self.has(7) {
            self.gathered.put_u8(251);
            encode::number(&mut self.gathered, keys);
            encode::number(&mut self.gathered, expiring);
        }
    }

    fn select(&mut self, database: u64) {
        if self.database != Some(database) {
            self.database = Some(database);
            self.gathered.put_u8(254);
            encode::number(&mut self.gathered, database);
        }
    }

    /// Writes a key.
    ///
    /// # Errors
    /// When the version does not have the type of its value.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let code = entry.value_type.code;
        if !entry.value_type.is_read_by(self.version) {
            return Err(self.lacks("value type", u64::from(code)));
        }
        self.select(entry.database);
        let out = &mut self.gathered;
        if let Some(at_ms) = entry.expires_at_ms {
            out.put_u8(252);
            out.put_i64_le(at_ms);
        }
        match entry.usage {
            Some(Usage::IdleSeconds(seconds)) if self.version.number >= 9 => {
                out.put_u8(248);
                encode::number(out, seconds);
            }
            Some(Usage::Frequency(counter)) if self.version.number >= 9 => {
                out.put_u8(249);
                out.put_u8(counter);
            }
            Some(_) | None => {}
        }
        out.put_u8(code);
        encode::string(out, &entry.key);
        self.body(&entry.body);
        Ok(())
    }

    fn body(&mut self, body: &Bytes) {
        if body.len() < PIECE {
            self.gathered.put_slice(body);
            self.gather();
        } else {
            self.hand_over();
            self.push(body.clone());
        }
    }

    fn lacks(&self, what: &'static str, code: u64) -> Error {
        let at = self.written + self.gathered.len() as u64;
        Error::Unknown { what, code, at, version: self.version }
    }

    /// Hands over what was gathered when it is enough for a piece.
    fn gather(&mut self) {
        if self.gathered.len() >= PIECE {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if !self.gathered.is_empty() {
            let piece = self.gathered.split().freeze();
            self.push(piece);
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.crc.update(&piece);
        self.written += piece.len() as u64;
        self.pieces.push_back(piece);
    }

    /// Ends the file with its checksum. What is written after that is not in it.
    pub fn finish(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.gathered.put_u8(255);
        self.hand_over();
        let sum = self.crc.value().to_le_bytes();
        self.push(Bytes::copy_from_slice(&sum));
    }

    /// The next piece of the file, if one is full; all of them after [`Self::finish`].
    pub fn take(&mut self) -> Option<Bytes> {
        self.pieces.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{Entries, Event};
    use crate::value;

    fn written(writer: &mut Writer) -> Bytes {
        writer.finish();
        let mut file = BytesMut::new();
        while let Some(piece) = writer.take() {
            file.extend_from_slice(&piece);
        }
        file.freeze()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new(Version::redis(11));
        writer.note(b"redis-ver", b"7.2.4");
        writer.function(b"#!lua name=x\n").unwrap();
        writer.size_hint(3, 2, 1);
        let large = [&[0x80, 0, 2, 0, 0][..], &vec![b'x'; 0x2_0000]].concat();
        let entries =
            [(b"a".to_vec(), b"\x01v".to_vec()), (vec![b'k'; 300], large)].map(|(key, body)| {
                Entry {
                    database: 3,
                    expires_at_ms: (key.len() == 1).then_some(1_700_000_000_123),
                    usage: Some(Usage::Frequency(7)),
                    key: Bytes::from(key),
                    value_type: value::lookup(0, Version::redis(11)).unwrap(),
                    body: Bytes::from(body),
                }
            });
        for entry in &entries {
            writer.entry(entry).unwrap();
        }
        let file = written(&mut writer);
        let mut reader = Entries::new(1 << 20);
        reader.feed(file);
        let mut events = Vec::new();
        while let Some(event) = reader.next().unwrap() {
            events.push(format!("{event:?}"));
        }
        reader.finish().unwrap();
        assert_eq!(events.len(), 7);
        assert!(events[3].starts_with("SizeHint { database: 3, keys: 2, expiring: 1 }"));
        for (event, entry) in events[4..].iter().zip(&entries) {
            assert!(*event == format!("{:?}", Event::Entry(entry.clone())));
        }
        assert!(events[6].contains("checksummed: true"));
    }

    #[test]
    fn an_old_file_holds_nothing_new() {
        let mut writer = Writer::new(Version::redis(6));
        writer.note(b"a", b"b");
        writer.size_hint(0, 1, 0);
        assert!(writer.function(b"x").is_err());
        let entry = Entry {
            database: 0,
            key: Bytes::from_static(b"k"),
            expires_at_ms: None,
            usage: Some(Usage::IdleSeconds(5)),
            value_type: value::lookup(14, Version::redis(7)).unwrap(),
            body: Bytes::from_static(b"\x00"),
        };
        assert!(writer.entry(&entry).is_err());
        let old = Entry { value_type: value::lookup(1, Version::redis(6)).unwrap(), ..entry };
        writer.entry(&old).unwrap();
        assert!(written(&mut writer).starts_with(b"REDIS0006\xfe\x00\x01\x01k\x00\xff"));
    }
}
