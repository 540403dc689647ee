//! The `SET` of a large string, in pieces as `RESTORE`'s.
//!
//! It comes to the same and takes less of the server's time: of a payload it computes the checksum and makes a copy, but
//! the argument of `SET` becomes the value as it was read.

use bytes::{Bytes, BytesMut};
use coffer_rdb::entries::Entry;
use coffer_rdb::resp;
use coffer_rdb::strings;
use coffer_rdb::target::{Feature, Target};
use coffer_rdb::value::Kind;

pub(super) struct Set<'a> {
    key: &'a [u8],
    expires_at_ms: Option<i64>,
    /// The value.
    pub(super) text: Bytes,
}

impl<'a> Set<'a> {
    /// `None` where it would not come to the same as `RESTORE` with `REPLACE`.
    pub(super) fn of(entry: &'a Entry, target: &Target) -> Option<Self> {
        let Entry { key, expires_at_ms, .. } = entry;
        if entry.value_type.kind != Kind::String
            || entry.usage.is_some()
            || expires_at_ms.is_some() && !target.can(Feature::AbsoluteSet)
        {
            return None;
        }
        let text = strings::plain(&entry.body)?;
        Some(Self { key, expires_at_ms: *expires_at_ms, text })
    }

    /// Everything in front of the text.
    pub(super) fn write_head(&self, out: &mut BytesMut) {
        resp::write_array(out, if self.expires_at_ms.is_some() { 5 } else { 3 });
        resp::write_bulk(out, b"SET");
        resp::write_bulk(out, self.key);
        resp::write_bulk_head(out, self.text.len());
    }

    /// Everything behind it.
    pub(super) fn write_tail(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"\r\n");
        if let Some(at) = self.expires_at_ms {
            resp::write_bulk(out, b"PXAT");
            resp::write_bulk(out, at.to_string().as_bytes());
        }
    }
}
