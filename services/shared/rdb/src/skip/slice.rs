//! Runs a grammar program over input that may be all there.

use crate::error::{Error, malformed};
use crate::grammar::{Program, Step};
use crate::length::{self, Length};

/// Takes a program's bytes off the front of `input`; false if they are not all there. At an error `input`
/// begins where it was met.
pub(super) fn skip(program: Program, input: &mut &[u8]) -> Result<bool, Error> {
    for step in program {
        let there = match *step {
            Step::Raw(bytes) => raw(bytes, input),
            Step::Len => number(input)?.is_some(),
            Step::Str => string(input)?,
            Step::Count(inner) => {
                let Some(count) = number(input)? else { return Ok(false) };
                // Each run takes a byte or finds none, so a count that lies ends with the input.
                for _ in 0..count {
                    if !skip(inner, input)? {
                        return Ok(false);
                    }
                }
                true
            }
            Step::Score => match input.split_first() {
                None => false,
                Some((&byte, rest)) => {
                    *input = rest;
                    byte >= 253 || raw(u64::from(byte), input)
                }
            },
            Step::ModuleFields => module_fields(input)?,
        };
        if !there {
            return Ok(false);
        }
    }
    Ok(true)
}

fn raw(bytes: u64, input: &mut &[u8]) -> bool {
    let rest = usize::try_from(bytes).ok().and_then(|bytes| input.get(bytes..));
    rest.is_some_and(|rest| {
        *input = rest;
        true
    })
}

fn number(input: &mut &[u8]) -> Result<Option<u64>, Error> {
    match length::take(input)? {
        Some(Length::Plain(number)) => Ok(Some(number)),
        Some(Length::Special(_)) => Err(malformed("number", 0)),
        None => Ok(None),
    }
}

fn string(input: &mut &[u8]) -> Result<bool, Error> {
    let len = match length::take(input)? {
        None => return Ok(false),
        Some(Length::Plain(len)) => len,
        Some(Length::Special(encoding @ 0..=2)) => 1 << encoding,
        Some(Length::Special(3)) => {
            let (Some(packed), Some(_)) = (number(input)?, number(input)?) else {
                return Ok(false);
            };
            packed
        }
        Some(Length::Special(_)) => return Err(malformed("string encoding", 0)),
    };
    Ok(raw(len, input))
}

fn module_fields(input: &mut &[u8]) -> Result<bool, Error> {
    loop {
        let there = match number(input)? {
            None => return Ok(false),
            Some(0) => return Ok(true),
            Some(1 | 2) => number(input)?.is_some(),
            Some(3) => raw(4, input),
            Some(4) => raw(8, input),
            Some(5) => string(input)?,
            Some(_) => return Err(malformed("module field", 0)),
        };
        if !there {
            return Ok(false);
        }
    }
}
