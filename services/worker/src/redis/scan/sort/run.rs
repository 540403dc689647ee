//! Sorted runs in files without a name, which are gone with the process however it ends.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use bytes::Bytes;
use coffer_rdb::value::Kind;

use super::super::round::Value;

/// Read and written at a time, for each run.
const BUFFER_BYTES: usize = 64 * 1024;

/// A file of values in order.
pub(super) struct Run(File);

impl Run {
    /// Sorts values and writes them down; of those with one name the last.
    pub(super) fn write(scratch: &Path, mut values: Vec<Value>) -> io::Result<Self> {
        values.sort_by(|a, b| (a.database, &a.key).cmp(&(b.database, &b.key)));
        let mut writer = Self::create(scratch)?;
        let mut values = values.into_iter().peekable();
        while let Some(value) = values.next() {
            let again = values.peek();
            if again.is_none_or(|next| (next.database, &next.key) != (value.database, &value.key)) {
                put(&mut writer, &value)?;
            }
        }
        Self::close(writer)
    }

    fn create(scratch: &Path) -> io::Result<BufWriter<File>> {
        Ok(BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(scratch)?))
    }

    fn close(writer: BufWriter<File>) -> io::Result<Self> {
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Self(file))
    }
}

fn put(out: &mut impl Write, value: &Value) -> io::Result<()> {
    // How it was used is not asked for where values are sorted.
    let Value { database, key, expires_at_ms, payload, kind, usage: _ } = value;
    out.write_all(&database.to_le_bytes())?;
    out.write_all(&[u8::from(expires_at_ms.is_some())])?;
    out.write_all(&expires_at_ms.unwrap_or(0).to_le_bytes())?;
    let kind = kind.and_then(|kind| Kind::ALL.iter().position(|known| *known == kind));
    out.write_all(&[kind.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(0)])?;
    out.write_all(&(key.len() as u64).to_le_bytes())?;
    out.write_all(&(payload.len() as u64).to_le_bytes())?;
    out.write_all(key)?;
    out.write_all(payload)
}

/// The next value of a run: all but its payload, which stays in the file until it is its turn.
struct Head {
    file: BufReader<File>,
    database: u64,
    expires_at_ms: Option<i64>,
    kind: Option<Kind>,
    key: Bytes,
    payload_len: usize,
}

impl Head {
    fn read(mut file: BufReader<File>) -> io::Result<Option<Self>> {
        let mut first = [0; 8];
        match file.read(&mut first[..1])? {
            0 => return Ok(None),
            _ => file.read_exact(&mut first[1..])?,
        }
        let database = u64::from_le_bytes(first);
        let mut flag = [0; 1];
        file.read_exact(&mut flag)?;
        let mut number = || -> io::Result<[u8; 8]> {
            let mut bytes = [0; 8];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let expires_at_ms = Some(i64::from_le_bytes(number()?)).filter(|_| flag == [1]);
        let mut place = [0; 1];
        file.read_exact(&mut place)?;
        let kind =
            usize::from(place[0]).checked_sub(1).and_then(|place| Kind::ALL.get(place)).copied();
        let mut number = || -> io::Result<[u8; 8]> {
            let mut bytes = [0; 8];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let key_len = length(number()?)?;
        let payload_len = length(number()?)?;
        let key = take(&mut file, key_len)?;
        Ok(Some(Self { file, database, expires_at_ms, kind, key, payload_len }))
    }

    fn into_value(mut self) -> io::Result<(Value, BufReader<File>)> {
        let payload = take(&mut self.file, self.payload_len)?;
        let Self { file, database, expires_at_ms, kind, key, .. } = self;
        Ok((Value { database, key, expires_at_ms, payload, kind, usage: None }, file))
    }

    fn skip(mut self) -> io::Result<BufReader<File>> {
        let len = i64::try_from(self.payload_len).map_err(io::Error::other)?;
        self.file.seek_relative(len)?;
        Ok(self.file)
    }

    fn name(&self) -> (u64, &Bytes) {
        (self.database, &self.key)
    }
}

fn length(bytes: [u8; 8]) -> io::Result<usize> {
    usize::try_from(u64::from_le_bytes(bytes)).map_err(io::Error::other)
}

fn take(file: &mut BufReader<File>, len: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// Several runs as one.
pub(super) struct Merge {
    /// In the order in which the runs were written.
    heads: Vec<Option<Head>>,
}

impl Merge {
    pub(super) fn new(runs: Vec<Run>) -> io::Result<Self> {
        let open = |Run(file)| Head::read(BufReader::with_capacity(BUFFER_BYTES, file));
        Ok(Self { heads: runs.into_iter().map(open).collect::<io::Result<_>>()? })
    }

    /// The next value's key and payload in bytes; of several with one name the largest counts.
    pub(super) fn size_of_next(&self) -> Option<usize> {
        let first = self.heads.iter().flatten().map(Head::name).min()?;
        let alike = self.heads.iter().flatten().filter(|head| head.name() == first);
        alike.map(|head| head.key.len() + head.payload_len).max()
    }

    /// The next value; of those with one name that of the latest run.
    pub(super) fn next(&mut self) -> io::Result<Option<Value>> {
        let heads = self.heads.iter().flatten();
        let Some((database, key)) = heads.map(Head::name).min() else { return Ok(None) };
        let (key, mut found) = (key.clone(), None);
        for slot in self.heads.iter_mut().rev() {
            let Some(head) = slot.take_if(|head| head.name() == (database, &key)) else { continue };
            let rest = match found {
                None => {
                    let (value, rest) = head.into_value()?;
                    found = Some(value);
                    rest
                }
                Some(_) => head.skip()?,
            };
            *slot = Head::read(rest)?;
        }
        Ok(found)
    }

    /// Writes all of it into one run.
    pub(super) fn into_run(mut self, scratch: &Path) -> io::Result<Run> {
        let mut writer = Run::create(scratch)?;
        while let Some(value) = self.next()? {
            put(&mut writer, &value)?;
        }
        Run::close(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(database: u64, key: &str, payload: &str) -> Value {
        let (key, payload) = (key.to_owned().into(), payload.to_owned().into());
        let kind = Some(Kind::Hash).filter(|_| database == 1);
        let expires_at_ms = Some(-5).filter(|_| database == 1);
        Value { database, key, expires_at_ms, payload, kind, usage: None }
    }

    #[test]
    fn runs_merge_in_order_and_the_latest_of_a_name_wins() {
        let dir = tempfile::tempdir().unwrap();
        let run = |values| Run::write(dir.path(), values).unwrap();
        let first = run(vec![
            value(1, "b", "1"),
            value(0, "z", "1"),
            value(0, "z", "2"),
            value(0, "a", ""),
        ]);
        let second = run(vec![value(0, "z", "3"), value(0, "aa", "x"), value(1, "", "y")]);
        let merged = Merge::new(vec![first, run(vec![]), second]).unwrap().into_run(dir.path());
        let mut merge = Merge::new(vec![merged.unwrap(), run(vec![value(1, "b", "4")])]).unwrap();
        let mut got = Vec::new();
        while let Some(value) = merge.next().unwrap() {
            got.push(value);
        }
        assert_eq!(
            got,
            [
                value(0, "a", ""),
                value(0, "aa", "x"),
                value(0, "z", "3"),
                value(1, "", "y"),
                value(1, "b", "4")
            ]
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
