//! Values become commands, commands become chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use coffer_rdb::entries::Usage;
use coffer_rdb::payload::FOOTER_LEN;
use coffer_rdb::resp;
use coffer_rdb::value::{self, Kind};
use coffer_rdb::version::Version;
use coffer_rdb::walk::Summary;
use coffer_runtime::grpc::PIECE_BYTES;
use tokio::sync::mpsc;

use super::round::Value;
use crate::redis::Error;

/// A value of this size is passed on from where it lies instead of being copied.
const LARGE: usize = 64 * 1024;

pub(super) struct Writer {
    chunks: mpsc::Sender<Bytes>,
    buffer: BytesMut,
    database: Option<u64>,
    keys: Arc<AtomicU64>,
    summary: Summary,
    unknown: u64,
    rdb_version: u16,
}

impl Writer {
    pub(super) fn new(chunks: mpsc::Sender<Bytes>, keys: Arc<AtomicU64>) -> Self {
        let summary = Summary::default();
        Self {
            chunks,
            buffer: BytesMut::with_capacity(PIECE_BYTES),
            database: None,
            keys,
            summary,
            unknown: 0,
            rdb_version: 0,
        }
    }

    /// All function libraries.
    pub(super) async fn functions(&mut self, payload: Bytes) -> Result<(), Error> {
        // An empty dump is a footer alone.
        if payload.len() > FOOTER_LEN {
            resp::write_command(&mut self.buffer, &[b"FUNCTION", b"RESTORE", &payload, b"REPLACE"]);
            self.pass_on().await;
        }
        Ok(())
    }

    /// The source of one function library.
    pub(super) async fn library(&mut self, source: &[u8]) -> Result<(), Error> {
        resp::write_command(&mut self.buffer, &[b"FUNCTION", b"LOAD", b"REPLACE", source]);
        self.summary.functions += 1;
        self.pass_on().await;
        Ok(())
    }

    /// A key.
    pub(super) async fn value(&mut self, value: Value) -> Result<(), Error> {
        let Value { database, key, expires_at_ms, payload, kind, usage } = value;
        self.count(database, expires_at_ms.is_some(), &payload, kind);
        if self.database != Some(database) {
            let index = database.to_string();
            resp::write_command(&mut self.buffer, &[b"SELECT", index.as_bytes()]);
            self.database = Some(database);
        }
        if kind.is_some() {
            self.append(payload).await;
            if let Some(at) = expires_at_ms {
                let at = at.to_string();
                resp::write_command(&mut self.buffer, &[b"PEXPIREAT", &key, at.as_bytes()]);
            }
            self.pass_on().await;
            return Ok(());
        }
        let out = &mut self.buffer;
        let usage = usage.map(|usage| match usage {
            Usage::IdleSeconds(seconds) => (&b"IDLETIME"[..], seconds.to_string()),
            Usage::Frequency(count) => (&b"FREQ"[..], count.to_string()),
        });
        let switches = usize::from(expires_at_ms.is_some()) + if usage.is_some() { 2 } else { 0 };
        resp::write_array(out, 5 + switches);
        resp::write_bulk(out, b"RESTORE");
        resp::write_bulk(out, &key);
        resp::write_bulk(out, expires_at_ms.unwrap_or(0).to_string().as_bytes());
        resp::write_bulk_head(out, payload.len());
        self.append(payload).await;
        let out = &mut self.buffer;
        out.extend_from_slice(b"\r\n");
        resp::write_bulk(out, b"REPLACE");
        if expires_at_ms.is_some() {
            resp::write_bulk(out, b"ABSTTL");
        }
        if let Some((name, value)) = usage {
            resp::write_bulk(out, name);
            resp::write_bulk(out, value.as_bytes());
        }
        self.pass_on().await;
        Ok(())
    }

    async fn append(&mut self, mut bytes: Bytes) {
        if bytes.len() < LARGE {
            self.buffer.extend_from_slice(&bytes);
            return;
        }
        self.flush().await;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.send(piece).await;
        }
    }

    fn count(&mut self, database: u64, expiring: bool, payload: &[u8], kind: Option<Kind>) {
        self.keys.fetch_add(1, Ordering::Relaxed);
        let here = self.summary.databases.entry(database).or_default();
        here.expiring += u64::from(expiring);
        if let Some(kind) = kind {
            *here.keys.entry(kind).or_default() += 1;
            return;
        }
        self.summary.largest_value = self.summary.largest_value.max(payload.len() as u64);
        let footer = payload.len().checked_sub(FOOTER_LEN).map(|at| &payload[at..]);
        let (Some(code), Some([low, high, ..])) = (payload.first(), footer) else {
            self.unknown += 1;
            return;
        };
        self.rdb_version = u16::from_le_bytes([*low, *high]);
        match value::lookup(*code, Version::from_footer(self.rdb_version)) {
            Some(known) => *here.keys.entry(known.kind).or_default() += 1,
            None => self.unknown += 1,
        }
    }

    async fn pass_on(&mut self) {
        while self.buffer.len() >= PIECE_BYTES {
            let chunk = self.buffer.split_to(PIECE_BYTES).freeze();
            self.send(chunk).await;
        }
    }

    async fn flush(&mut self) {
        self.pass_on().await;
        if !self.buffer.is_empty() {
            let chunk = self.buffer.split().freeze();
            self.send(chunk).await;
        }
    }

    async fn send(&self, chunk: Bytes) {
        // Nobody takes it any more when the backup was given up, and then this task is dropped, too.
        let _ = self.chunks.send(chunk).await;
    }

    pub(super) async fn finish(mut self) -> Result<(Summary, u64, u16), Error> {
        self.flush().await;
        Ok((self.summary, self.unknown, self.rdb_version))
    }
}
