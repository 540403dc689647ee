//! Parts of objects, read into buffers that are used again: megabytes each, from many threads, which an allocator left
//! alone with them would keep several times over.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStoreExt};

use super::Store;
use crate::buffers::Buffer;
use crate::error::{Error, Result};

impl Store {
    /// A part of an object, all of it or an error.
    pub(crate) async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.get_range_into(name, range, Buffer::default()).await.map(Bytes::from)
    }

    /// Reads a part of an object, all of it or an error, into an empty buffer, and returns that.
    pub(crate) async fn get_range_into(
        &self,
        name: &str,
        range: Range<u64>,
        buffer: Buffer,
    ) -> Result<Buffer> {
        let wanted = range.end - range.start;
        let end = range.end;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let read = match self.objects.get_opts(&Path::from(name), options).await {
            Ok(answer) => self.read_into(name, answer, wanted, buffer).await?,
            Err(error) => Err(error),
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(source) => return Err(self.too_short(name, end, source).await),
        };
        if bytes.len() as u64 != wanted {
            let what = if (bytes.len() as u64) < wanted {
                "is too short"
            } else {
                "is not what was asked for"
            };
            let problem = format!("{what}: {} bytes instead of {wanted}", bytes.len());
            return Err(Error::damaged(self.describe(name), problem));
        }
        Ok(bytes)
    }

    async fn read_into(
        &self,
        name: &str,
        answer: GetResult,
        wanted: u64,
        mut buffer: Buffer,
    ) -> Result<object_store::Result<Buffer>> {
        let start = answer.range.start;
        match answer.payload {
            GetResultPayload::File(mut file, _) => {
                let read = move || {
                    file.seek(SeekFrom::Start(start))?;
                    (&file).take(wanted).read_to_end(&mut buffer)?;
                    super::pages::let_go(&file, start..start + wanted);
                    Ok(buffer)
                };
                let read = tokio::task::spawn_blocking(read).await;
                let read = read.map_err(|died| Error::internal("read a file", died))?;
                read.map(Ok).map_err(|source| self.io_failed("read", name, source))
            }
            GetResultPayload::Stream(mut stream) => loop {
                match stream.try_next().await {
                    // More than was asked for is an answer to something else; its length tells.
                    Ok(Some(piece)) if buffer.len() as u64 <= wanted => {
                        buffer.extend_from_slice(&piece);
                    }
                    Ok(_) => return Ok(Ok(buffer)),
                    Err(error) => return Ok(Err(error)),
                }
            },
        }
    }

    /// What a failed read of a range means. Stores refuse a range behind the end like any bad request;
    /// then the object was cut, which waiting does not mend.
    async fn too_short(&self, name: &str, end: u64, source: object_store::Error) -> Error {
        let error = self.failed("read", name)(source);
        if error.is_not_found_in_store() {
            return error;
        }
        match self.objects.head(&Path::from(name)).await {
            Ok(meta) if meta.size < end => {
                let problem = format!("is too short: {} bytes instead of {end} or more", meta.size);
                Error::damaged(self.describe(name), problem)
            }
            _ => error,
        }
    }
}
