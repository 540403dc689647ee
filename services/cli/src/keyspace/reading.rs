//! A source as it is read: its pieces go into the contents, and whoever waits sees how far it is.

use bytes::Bytes;
use coffer_proto::storage::v1::Progress;
use coffer_worker::{
    keyspace::{Contents, Reader},
    redis,
};

use crate::maintenance::Meter;

pub(super) struct Reading<'a> {
    contents: &'a mut Contents,
    meter: Meter,
    step: String,
    done: u64,
    /// Bytes of all there is; 0 where it is not known.
    total: u64,
    remarks: Vec<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(contents: &'a mut Contents, step: String, quiet: bool) -> Self {
        Self { contents, meter: Meter::new(quiet), step, done: 0, total: 0, remarks: vec![] }
    }

    /// So many bytes are to come.
    pub(super) const fn expect(&mut self, bytes: u64) {
        self.total = bytes;
    }

    /// The database that counts alone, if it is one.
    pub(super) const fn only(&self) -> Option<u64> {
        self.contents.only
    }

    /// What whoever waits should know, to be said when all is read.
    pub(super) fn remark(&mut self, text: String) {
        self.remarks.push(text);
    }

    /// A reader of a file whose keys may come twice, if it is that of a scan.
    pub(super) fn reader(&mut self, path: &str) -> Reader {
        if path.ends_with(".resp") {
            self.contents.each.get_or_insert_default();
        }
        Reader::of(path)
    }

    pub(super) fn feed(&mut self, reader: &mut Reader, piece: Bytes) -> Result<(), redis::Error> {
        self.done += piece.len() as u64;
        reader.feed(piece, self.contents)?;
        let (step, done, total) = (self.step.clone(), self.done, self.total);
        self.meter.update(&Progress { step, done, total, bytes: true });
        Ok(())
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.meter.finish();
        for remark in &self.remarks {
            eprintln!("{remark}");
        }
    }
}
