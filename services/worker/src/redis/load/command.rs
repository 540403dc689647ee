//! The `RESTORE` command of a key, in pieces, so that a large body is sent from where it lies.

use bytes::{BufMut, BytesMut};
use coffer_rdb::entries::{Entry, Usage};
use coffer_rdb::payload::{self, FOOTER_LEN};
use coffer_rdb::resp;
use coffer_rdb::target::{Feature, Target};

pub(super) struct Restore<'a> {
    entry: &'a Entry,
    ttl: String,
    absolute: bool,
    usage: Option<(&'static [u8], String)>,
    footer: [u8; FOOTER_LEN],
    replace: bool,
}

impl<'a> Restore<'a> {
    /// `now_ms` counts only where the server takes no absolute times.
    pub(super) fn new(entry: &'a Entry, target: &Target, now_ms: i64, replace: bool) -> Self {
        let absolute_times = target.can(Feature::AbsoluteRestore);
        let ttl = match entry.expires_at_ms {
            None => 0,
            Some(at) if absolute_times => at,
            Some(at) => at.saturating_sub(now_ms).max(1),
        };
        let usage = entry.usage.filter(|_| absolute_times).map(|usage| match usage {
            Usage::IdleSeconds(seconds) => (&b"IDLETIME"[..], seconds.to_string()),
            Usage::Frequency(count) => (&b"FREQ"[..], count.to_string()),
        });
        Self {
            entry,
            ttl: ttl.to_string(),
            absolute: absolute_times && ttl != 0,
            usage,
            footer: payload::footer(entry.value_type.code, &entry.body, target.reads.number),
            replace,
        }
    }

    /// Everything in front of the body.
    pub(super) fn write_head(&self, out: &mut BytesMut) {
        let switches = usize::from(self.replace) + usize::from(self.absolute);
        let arguments = 4 + switches + if self.usage.is_some() { 2 } else { 0 };
        resp::write_array(out, arguments);
        resp::write_bulk(out, b"RESTORE");
        resp::write_bulk(out, &self.entry.key);
        resp::write_bulk(out, self.ttl.as_bytes());
        resp::write_bulk_head(out, 1 + self.entry.body.len() + FOOTER_LEN);
        out.put_u8(self.entry.value_type.code);
    }

    /// Everything behind it.
    pub(super) fn write_tail(&self, out: &mut BytesMut) {
        out.put_slice(&self.footer);
        out.put_slice(b"\r\n");
        if self.replace {
            resp::write_bulk(out, b"REPLACE");
        }
        if self.absolute {
            resp::write_bulk(out, b"ABSTTL");
        }
        if let Some((name, value)) = &self.usage {
            resp::write_bulk(out, name);
            resp::write_bulk(out, value.as_bytes());
        }
    }
}
