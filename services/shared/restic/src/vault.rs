//! Sealed documents: config, index, snapshots and locks as whole objects.
//!
//! A document is JSON; in format version 2 it is preceded by a byte 0x02 and compressed, the config
//! apart. Its object is named by the SHA-256 of the sealed bytes, which is checked on every read.

use std::io::Read as _;

use bytes::Bytes;

use crate::config::Version;
use crate::crypto::SealingKey;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::store::{CONFIG, FileKind, Store};

/// Marks a compressed document; plain ones begin with `{` or `[`.
const COMPRESSED: u8 = 2;
/// The largest document that is unpacked: restic's largest index has 8 MiB, and whoever has the repository's password must
/// not be able to fill the memory of a gateway that serves others too.
const LARGEST_BYTES: u64 = 256 << 20;

/// A store, the key of the repository in it, and its version.
#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) store: Store,
    pub(crate) key: SealingKey,
    pub(crate) version: Version,
}

impl Vault {
    /// Reads and opens a document.
    pub(crate) async fn load(&self, kind: FileKind, id: &Id) -> Result<Vec<u8>> {
        let name = kind.name(id);
        let sealed = self.store.get(&name).await?;
        ensure_not_empty(&sealed, || self.store.describe(&name))?;
        if Id::of(&sealed) != *id {
            let problem = "its content does not have the SHA-256 that is its name";
            return Err(Error::damaged(self.store.describe(&name), problem));
        }
        let plain = self
            .key
            .open(&sealed)
            .map_err(|e| Error::damaged_by(self.store.describe(&name), "cannot be opened", e))?;
        decompress(plain)
            .map_err(|e| Error::damaged_by(self.store.describe(&name), "cannot be unpacked", e))
    }

    /// Seals and writes a document.
    pub(crate) async fn save(&self, kind: FileKind, json: &[u8]) -> Result<Id> {
        let sealed = match self.version {
            Version::V1 => self.key.seal(json)?,
            Version::V2 => {
                let mut plain = vec![COMPRESSED];
                let packed = zstd::bulk::compress(json, 3)
                    .map_err(|source| Error::internal("compress a document", source))?;
                plain.extend_from_slice(&packed);
                self.key.seal(&plain)?
            }
        };
        let id = Id::of(&sealed);
        self.store.put(&kind.name(&id), sealed.into()).await?;
        Ok(id)
    }

    /// Opens the config, which is sealed but never compressed and has no id.
    pub(crate) fn open_config(key: &SealingKey, store: &Store, sealed: &Bytes) -> Result<Vec<u8>> {
        ensure_not_empty(sealed, || store.describe(CONFIG))?;
        key.open(sealed)
            .map_err(|e| Error::damaged_by(store.describe(CONFIG), "cannot be opened", e))
    }
}

/// What a full disk or a loss of power leaves of a file is its name, and that says more than a wrong tag or sum.
pub(crate) fn ensure_not_empty(content: &[u8], file: impl FnOnce() -> String) -> Result<()> {
    if content.is_empty() { Err(Error::damaged(file(), "is empty")) } else { Ok(()) }
}

fn decompress(plain: Vec<u8>) -> std::io::Result<Vec<u8>> {
    match plain.split_first() {
        Some((&COMPRESSED, packed)) => {
            let mut unpacked = Vec::new();
            let decoder = zstd::stream::Decoder::with_buffer(packed)?;
            decoder.take(LARGEST_BYTES + 1).read_to_end(&mut unpacked)?;
            if unpacked.len() as u64 > LARGEST_BYTES {
                let why = format!("it unpacks to more than {} MiB", LARGEST_BYTES >> 20);
                return Err(std::io::Error::other(why));
            }
            Ok(unpacked)
        }
        _ => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_unpacks_without_end_is_refused() {
        let pack = |length| {
            let packed = zstd::stream::encode_all(std::io::repeat(b'a').take(length), 1).unwrap();
            [&[COMPRESSED][..], &packed].concat()
        };
        assert_eq!(decompress(pack(1 << 20)).unwrap().len(), 1 << 20);
        let refused = decompress(pack(LARGEST_BYTES + 1)).unwrap_err();
        assert!(refused.to_string().contains("more than 256 MiB"), "{refused}");
    }
}
