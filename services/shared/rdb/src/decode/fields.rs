//! The fields of a hash, with their times to live where the server keeps them: in Redis since 7.4, in
//! Valkey since 9.0, each in its own layout.

use super::packed::Packed;
use super::parts::Parts;
use crate::error::{Error, malformed};
use crate::strings;
use crate::value::Encoding;
use bytes::{Buf, Bytes};

/// A field of a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
    /// When it expires, in milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
}

/// The fields of a hash, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) enum FieldSource {
    /// Names and values in turn.
    Pairs(Parts),
    /// Names, values and absolute times in turn; zero is none.
    Triples(Parts),
    /// Redis: time, name, value. The time is zero for none, else counted from one below the smallest.
    TimeFirst { rest: Bytes, left: u64, base_ms: i64, largest: u64 },
    /// Valkey: name, value, absolute time or -1.
    TimeLast { rest: Bytes, left: u64, largest: u64 },
}

impl FieldSource {
    pub(crate) fn new(encoding: Encoding, mut body: Bytes, largest: u64) -> Result<Self, Error> {
        let mut base_ms = 0;
        if matches!(encoding, Encoding::HashTtl | Encoding::HashTtlListpack) {
            let smallest = body.try_get_i64_le().map_err(|_| malformed("smallest time", 0))?;
            base_ms = smallest.saturating_sub(1);
        }
        match encoding {
            Encoding::HashTtl | Encoding::HashTtlPreGa => {
                let left = strings::take_number(&mut body)?;
                Ok(Self::TimeFirst { rest: body, left, base_ms, largest })
            }
            Encoding::HashTtlValkey => {
                let left = strings::take_number(&mut body)?;
                Ok(Self::TimeLast { rest: body, left, largest })
            }
            Encoding::HashTtlListpack | Encoding::HashTtlListpackPreGa => {
                Parts::new(encoding, body, 3, largest).map(Self::Triples)
            }
            _ => Parts::new(encoding, body, 2, largest).map(Self::Pairs),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Field>, Error> {
        match self {
            Self::Pairs(parts) => {
                let Some(name) = parts.next()?.map(Packed::into_text) else { return Ok(None) };
                let value = parts.require()?.into_text();
                Ok(Some(Field { name, value, expires_at_ms: None }))
            }
            Self::Triples(parts) => {
                let Some(name) = parts.next()?.map(Packed::into_text) else { return Ok(None) };
                let value = parts.require()?.into_text();
                let time = parts.require()?.number().ok_or_else(|| malformed("field time", 0))?;
                Ok(Some(Field { name, value, expires_at_ms: time_unless(0, time)? }))
            }
            Self::TimeFirst { rest, left, base_ms, largest } => {
                if !count_down(left, rest)? {
                    return Ok(None);
                }
                let time = strings::take_number(rest)?;
                let name = strings::take(rest, *largest)?;
                let value = strings::take(rest, *largest)?;
                let expires_at_ms = match i64::try_from(time) {
                    Ok(0) => None,
                    Ok(time) => time_unless(i64::MIN, base_ms.saturating_add(time))?,
                    Err(_) => return Err(malformed("field time", 0)),
                };
                Ok(Some(Field { name, value, expires_at_ms }))
            }
            Self::TimeLast { rest, left, largest } => {
                if !count_down(left, rest)? {
                    return Ok(None);
                }
                let name = strings::take(rest, *largest)?;
                let value = strings::take(rest, *largest)?;
                let time = rest.try_get_i64_le().map_err(|_| malformed("field time", 0))?;
                Ok(Some(Field { name, value, expires_at_ms: time_unless(-1, time)? }))
            }
        }
    }
}

/// A time, if it is not the one that stands for none. No server gives one before 1970.
fn time_unless(none: i64, time: i64) -> Result<Option<i64>, Error> {
    if time == none {
        Ok(None)
    } else if time >= 0 {
        Ok(Some(time))
    } else {
        Err(malformed("field time", 0))
    }
}

/// Whether there is another one; if not, the body must be used up.
fn count_down(left: &mut u64, rest: &Bytes) -> Result<bool, Error> {
    match left.checked_sub(1) {
        Some(fewer) => {
            *left = fewer;
            Ok(true)
        }
        None if rest.is_empty() => Ok(false),
        None => Err(malformed("end of a value", 0)),
    }
}
