//! Servers take no more than so much in one argument. A collection that is larger goes in parts, by its commands; a
//! string and a module's value cannot.

use super::Way;
use crate::commands::{Pages, commands};
use crate::entries::Entry;
use crate::error::Error;
use crate::payload::FOOTER_LEN;
use crate::target::Target;
use crate::value::{Kind, Type};
use bytes::Bytes;

/// A packed string is at most so many times as long: a reference of 3 bytes stands for 264.
const MOST_PACKED: u64 = 88;
/// What an element takes beside its bytes when it is written anew: lengths, scores, times.
const BESIDE_ELEMENT: u64 = 16;

/// The way that a value goes which would go that way if it were small; `None` if there is none.
pub(super) fn way(
    way: Way,
    value_type: &'static Type,
    body: &Bytes,
    target: &Target,
) -> Result<Option<Way>, Error> {
    let limit = target.largest_argument;
    let payload = (1 + body.len() + FOOTER_LEN) as u64;
    let fits = match way {
        Way::AsIs => payload <= limit,
        Way::Reencode(_) | Way::Commands => payload.saturating_mul(MOST_PACKED) <= limit,
    };
    if fits {
        return Ok(Some(way));
    }
    if matches!(value_type.kind, Kind::String | Kind::Module) {
        return Ok(None);
    }
    match unpacked(value_type, body, target) {
        Ok(bytes) if bytes <= limit && !matches!(way, Way::AsIs) => Ok(Some(way)),
        Ok(_) => Ok(Some(Way::Commands)),
        Err(Error::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes of all that the commands of a value hold, each argument of which is within the limit.
fn unpacked(value_type: &'static Type, body: &Bytes, target: &Target) -> Result<u64, Error> {
    let limit = target.largest_argument;
    let (key, body) = (Bytes::new(), body.clone());
    let entry = Entry { database: 0, key, expires_at_ms: None, usage: None, value_type, body };
    let mut bytes = 0;
    for command in commands(&entry, target, Pages::default(), limit)? {
        for argument in command? {
            let len = argument.len() as u64;
            if len > limit {
                return Err(Error::TooLarge { what: "a part", name: String::new(), limit });
            }
            bytes += len + BESIDE_ELEMENT;
        }
    }
    Ok(bytes)
}
