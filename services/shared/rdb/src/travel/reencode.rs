//! Writes a value as another type that holds the same.

use crate::decode::{self, Field, Fields, Layout, Stream, StreamId, Value};
use crate::encode;
use crate::error::{Error, malformed};
use crate::target::LATEST_FIELD_TIME_OF_REDIS;
use crate::value::{Encoding, Type};
use bytes::{BufMut, Bytes, BytesMut};

/// The body of the same value as a value of type `to`, which [`super::travel`] named.
///
/// Times to live of fields are left out where the new type has no place for them or its servers take none that late, and
/// the figures of a stream that older servers do not keep.
///
/// # Errors
/// When the value cannot be decoded, its strings are larger than `largest` bytes when unpacked, or the
/// new type cannot hold such a value at all.
pub fn reencode(from: &Type, body: &Bytes, to: &Type, largest: u64) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(body.len() + 16);
    let other = || malformed("pair of types to re-encode", 0);
    match (decode::decode(from, body.clone(), largest)?, to.encoding()) {
        (Value::List(elements) | Value::Set(elements), Encoding::Strings) => {
            counted(&mut out, elements, |out, element| encode::string(out, &element))?;
        }
        (Value::SortedSet(members), Encoding::ScoredBinary) => {
            counted(&mut out, members, |out, member| {
                encode::string(out, &member.member);
                out.put_f64_le(member.score);
            })?;
        }
        (Value::SortedSet(members), Encoding::ScoredText) => {
            counted(&mut out, members, |out, member| {
                encode::string(out, &member.member);
                old_score(out, member.score);
            })?;
        }
        (Value::Hash(fields), Encoding::Pairs) => {
            counted(&mut out, fields, |out, field| {
                encode::string(out, &field.name);
                encode::string(out, &field.value);
            })?;
        }
        (Value::Hash(fields), Encoding::HashTtl) => redis_field_ttls(&mut out, fields)?,
        (Value::Hash(fields), Encoding::HashTtlValkey) => {
            counted(&mut out, fields, |out, field| {
                encode::string(out, &field.name);
                encode::string(out, &field.value);
                out.put_i64_le(field.expires_at_ms.unwrap_or(-1));
            })?;
        }
        (Value::Stream(stream), Encoding::Stream1) => older_stream(&mut out, &stream, Layout::V1)?,
        (Value::Stream(stream), Encoding::Stream2) => older_stream(&mut out, &stream, Layout::V2)?,
        (Value::Stream(stream), Encoding::Stream3) => older_stream(&mut out, &stream, Layout::V3)?,
        (Value::Stream(stream), Encoding::Stream4) => older_stream(&mut out, &stream, Layout::V4)?,
        _ => return Err(other()),
    }
    Ok(out.freeze())
}

/// Writes how many there are and each of them. The count of packed values is known only at the end, so
/// they are written behind room for it.
fn counted<T>(
    out: &mut BytesMut,
    items: impl Iterator<Item = Result<T, Error>>,
    mut write: impl FnMut(&mut BytesMut, T),
) -> Result<(), Error> {
    // The form of four bytes holds any count of a value that fits into memory, and every version reads
    // it also for small ones.
    let at = out.len() + 1;
    out.put_slice(&[0x80, 0, 0, 0, 0]);
    let mut count = 0_u32;
    for item in items {
        write(out, item?);
        count = count.checked_add(1).ok_or_else(|| malformed("element count", 0))?;
    }
    out[at..at + 4].copy_from_slice(&count.to_be_bytes());
    Ok(())
}

fn old_score(out: &mut BytesMut, score: f64) {
    if score.is_nan() {
        out.put_u8(253);
    } else if score.is_infinite() {
        out.put_u8(if score > 0.0 { 254 } else { 255 });
    } else {
        // The shortest digits that read back as the same number: two dozen at most.
        let digits = format!("{score:e}");
        out.put_u8(u8::try_from(digits.len()).unwrap_or_default());
        out.put_slice(digits.as_bytes());
    }
}

/// Redis' layout counts times from the smallest one, which stands in front.
fn redis_field_ttls(out: &mut BytesMut, fields: Fields) -> Result<(), Error> {
    let mut smallest = None::<i64>;
    let kept = |at: &i64| *at <= LATEST_FIELD_TIME_OF_REDIS;
    for field in fields.clone() {
        if let Some(at) = field?.expires_at_ms.filter(kept) {
            smallest = Some(smallest.map_or(at, |least| least.min(at)));
        }
    }
    // Without any time it is not used, but servers refuse one beyond the times they know.
    let smallest = smallest.unwrap_or(0);
    out.put_i64_le(smallest);
    counted(out, fields, |out, Field { name, value, expires_at_ms }| {
        // No time is before 1970 or below the smallest.
        let time = expires_at_ms.filter(kept).map_or(0, |at| (at - smallest).cast_unsigned() + 1);
        encode::number(out, time);
        encode::string(out, &name);
        encode::string(out, &value);
    })
}

/// Up to the parts that a layout has. What nobody owns is pending in none of them.
fn older_stream(out: &mut BytesMut, stream: &Stream, layout: Layout) -> Result<(), Error> {
    let figures = layout >= Layout::V2;
    out.put_slice(stream.raw_nodes());
    encode::number(out, stream.len);
    id(out, stream.last_id);
    if figures {
        let figures = stream.figures.ok_or_else(|| malformed("figures of a stream", 0))?;
        id(out, figures.first_id);
        id(out, figures.max_deleted_id);
        encode::number(out, figures.entries_added);
    }
    counted(out, stream.groups()?, |out, group| {
        encode::string(out, &group.name);
        id(out, group.last_id);
        if figures {
            encode::number(out, group.entries_read.unwrap_or(u64::MAX));
        }
        let mut pending: Vec<_> =
            group.consumers.iter().flat_map(|consumer| consumer.pending.iter()).collect();
        pending.sort_unstable_by_key(|entry| entry.id);
        encode::number(out, pending.len() as u64);
        for entry in pending {
            raw_id(out, entry.id);
            out.put_i64_le(entry.delivered_at_ms);
            encode::number(out, entry.deliveries);
        }
        encode::number(out, group.consumers.len() as u64);
        for consumer in group.consumers {
            encode::string(out, &consumer.name);
            out.put_i64_le(consumer.seen_at_ms);
            if layout >= Layout::V3 {
                // Minus one: never active.
                out.put_i64_le(consumer.active_at_ms.unwrap_or(-1));
            }
            encode::number(out, consumer.pending.len() as u64);
            for entry in &consumer.pending {
                raw_id(out, entry.id);
            }
        }
    })?;
    if layout >= Layout::V4 {
        out.put_slice(stream.raw_idempotence());
    }
    Ok(())
}

fn id(out: &mut BytesMut, id: StreamId) {
    encode::number(out, id.ms);
    encode::number(out, id.seq);
}

fn raw_id(out: &mut BytesMut, id: StreamId) {
    out.put_u64(id.ms);
    out.put_u64(id.seq);
}
