//! A module's value: the module's id, then fields that only it understands, each behind an opcode that
//! says how long it is.

use super::pull;
use crate::error::{Error, malformed};
use crate::strings;
use crate::value::module_name_of_id;
use bytes::{Buf, Bytes};

/// One field of a module's value.
#[derive(Debug, Clone, PartialEq)]
pub enum ModuleField {
    /// A signed number, in two's complement.
    Signed(u64),
    /// A number without a sign.
    Unsigned(u64),
    /// A float of four bytes.
    Float(f32),
    /// A float of eight bytes.
    Double(f64),
    /// Bytes.
    Text(Bytes),
}

/// A module's value.
#[derive(Debug, Clone)]
pub struct Module {
    /// The module's type name in nine letters, and its own encoding version in ten bits.
    pub id: u64,
    fields: Option<Bytes>,
    largest: u64,
}

impl Module {
    pub(crate) fn new(mut body: Bytes, largest: u64) -> Result<Self, Error> {
        let id = strings::take_number(&mut body)?;
        Ok(Self { id, fields: Some(body), largest })
    }

    /// The module's type name.
    #[must_use]
    pub fn name(&self) -> String {
        module_name_of_id(self.id)
    }
}

fn field(rest: &mut Bytes, largest: u64) -> Result<Option<ModuleField>, Error> {
    Ok(Some(match strings::take_number(rest)? {
        0 if rest.is_empty() => return Ok(None),
        1 => ModuleField::Signed(strings::take_number(rest)?),
        2 => ModuleField::Unsigned(strings::take_number(rest)?),
        3 => ModuleField::Float(rest.try_get_f32_le().map_err(|_| malformed("float", 0))?),
        4 => ModuleField::Double(rest.try_get_f64_le().map_err(|_| malformed("double", 0))?),
        5 => ModuleField::Text(strings::take(rest, largest)?),
        _ => return Err(malformed("module field", 0)),
    }))
}

impl Iterator for Module {
    type Item = Result<ModuleField, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        pull(&mut self.fields, |rest| field(rest, self.largest))
    }
}
