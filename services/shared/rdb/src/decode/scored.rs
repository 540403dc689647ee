//! The members of a sorted set with their scores.

use super::packed::Packed;
use super::parts::Parts;
use crate::error::{Error, malformed};
use crate::strings;
use crate::value::Encoding;
use bytes::{Buf, Bytes};

/// A member of a sorted set.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The member.
    pub member: Bytes,
    /// Its score. Not-a-number is passed on where a file holds it; servers refuse it.
    pub score: f64,
}

/// The members of a sorted set, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) enum MemberSource {
    /// Member and score in turn, the score as text.
    Parts(Parts),
    /// Member and score in turn, the score in its own form.
    Row { rest: Bytes, left: u64, binary: bool, largest: u64 },
}

impl MemberSource {
    pub(crate) fn new(encoding: Encoding, mut body: Bytes, largest: u64) -> Result<Self, Error> {
        let binary = match encoding {
            Encoding::ScoredBinary => true,
            Encoding::ScoredText => false,
            _ => return Parts::new(encoding, body, 2, largest).map(Self::Parts),
        };
        let left = strings::take_number(&mut body)?;
        Ok(Self::Row { rest: body, left, binary, largest })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Member>, Error> {
        match self {
            Self::Parts(parts) => {
                let Some(member) = parts.next()? else { return Ok(None) };
                let score = match parts.require()? {
                    // What a server does with a score that it packed as a whole number.
                    #[expect(clippy::cast_precision_loss, reason = "the number was a float before")]
                    Packed::Number(number) => number as f64,
                    Packed::Text(text) => number_in(&text)?,
                };
                Ok(Some(Member { member: member.into_text(), score }))
            }
            Self::Row { rest, left, binary, largest } => {
                let Some(fewer) = left.checked_sub(1) else {
                    let over = rest.is_empty();
                    return if over { Ok(None) } else { Err(malformed("end of a value", 0)) };
                };
                *left = fewer;
                let member = strings::take(rest, *largest)?;
                let score = if *binary {
                    rest.try_get_f64_le().map_err(|_| malformed("score", 0))?
                } else {
                    old_score(rest)?
                };
                Ok(Some(Member { member, score }))
            }
        }
    }
}

/// A score of the files before 4.0: one byte of length and digits, or one byte that stands for it all.
fn old_score(rest: &mut Bytes) -> Result<f64, Error> {
    let broken = || malformed("score", 0);
    Ok(match rest.try_get_u8().map_err(|_| broken())? {
        253 => f64::NAN,
        254 => f64::INFINITY,
        255 => f64::NEG_INFINITY,
        len if usize::from(len) <= rest.len() => number_in(&rest.split_to(usize::from(len)))?,
        _ => return Err(broken()),
    })
}

fn number_in(text: &[u8]) -> Result<f64, Error> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed("score", 0))
}
