//! Whether a value can go to a server, and in which form.
//!
//! A payload is refused by every server that is older than the one it came from, and Redis and Valkey
//! refuse each other's. Mostly that is the footer alone, which is written for the target. The few types a
//! target does not know are written in another way that it does; what has no other way is named.
//!
//! [`travel`] decides and touches nothing; [`reencode()`] does what was decided.

mod reencode;
mod size;

pub use reencode::reencode;

use crate::decode::{self, Value};
use crate::error::Error;
use crate::target::{Feature, Target};
use crate::value::{self, Encoding, Kind, Type};
use bytes::Bytes;
use std::fmt;

/// How a value is sent.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// As it is, with a footer for the target: [`crate::payload::footer`].
    AsIs,
    /// By [`reencode()`] to this type, then with a footer for the target.
    Reencode(&'static Type),
    /// As typed commands: [`crate::commands`].
    Commands,
}

/// What becomes of a value.
#[derive(Debug, Clone)]
pub enum Travel {
    /// It arrives whole.
    Whole(Way),
    /// It arrives without something.
    Partly(Way, Loss),
    /// It cannot go there.
    Lost(Loss),
}

/// What a server cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The hash has fields with times to live, and the server knows none: they would stay for ever.
    FieldTtls {
        /// The server.
        target: String,
    },
    /// The hash has fields with times to live that are later than any that the server takes: they would stay for ever.
    FarFieldTtls {
        /// The server.
        target: String,
    },
    /// The stream has something that servers keep only since a later version.
    StreamParts {
        /// What it is.
        what: &'static str,
        /// The server.
        target: String,
    },
    /// The stream has something that no command writes, and the server takes it by commands alone.
    ByCommands {
        /// What it is.
        what: &'static str,
        /// The server.
        target: String,
    },
    /// The server has no such type of key.
    Type {
        /// What it is called.
        name: &'static str,
        /// The server.
        target: String,
    },
    /// The server does not have the module that the value belongs to.
    Module {
        /// The module's type name.
        module: String,
        /// The server.
        target: String,
    },
    /// The value, or a part of it that cannot be cut, is larger than what the server takes in one argument.
    TooLarge {
        /// What it takes, in bytes.
        limit: u64,
        /// The server.
        target: String,
    },
    /// A module's value can only be written with `RESTORE`, and the server does not allow it.
    NoRestore {
        /// The module's type name.
        module: String,
        /// The server.
        target: String,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldTtls { target } => {
                write!(f, "the times to live of its fields, which {target} does not know")
            }
            Self::FarFieldTtls { target } => write!(
                f,
                "the times to live of those of its fields that expire later than {target} lets any field (in 4199)"
            ),
            Self::StreamParts { what, target } => {
                write!(f, "{what}, which {target} does not keep")
            }
            Self::ByCommands { what, target } => write!(
                f,
                "{what}, which no command writes, and {target} takes this stream in no other way: it does not allow \
                 RESTORE, or its proto-max-bulk-len is smaller than the stream"
            ),
            Self::Type { name, target } => write!(f, "a {name}, which {target} does not know"),
            Self::Module { module, target } => {
                write!(f, "a value of module type {module}, for which {target} has no module")
            }
            Self::TooLarge { limit, target } => write!(
                f,
                "a value with a part of more than {limit} bytes, which is what {target} takes in one argument \
                 (proto-max-bulk-len)"
            ),
            Self::NoRestore { module, target } => write!(
                f,
                "a value of module type {module}, which needs RESTORE, and {target} does not allow it"
            ),
        }
    }
}

/// Decides how a value goes to a server. Only values that the server does not read as they are and that
/// may hold something it has no place for, and those that are too large for it, are looked into; `largest`
/// bounds what is unpacked for it.
///
/// # Errors
/// When such a value cannot be decoded.
pub fn travel(
    value_type: &'static Type,
    body: &Bytes,
    target: &Target,
    largest: u64,
) -> Result<Travel, Error> {
    let way = match by_type(value_type, body, target) {
        Ok(way) => way,
        Err(loss) => return Ok(Travel::Lost(loss)),
    };
    let Some(way) = size::way(way, value_type, body, target)? else {
        let limit = target.largest_argument;
        return Ok(Travel::Lost(Loss::TooLarge { limit, target: target.to_string() }));
    };
    Ok(match loss(value_type, body, target, way, largest)? {
        Some(loss) => Travel::Partly(way, loss),
        None => Travel::Whole(way),
    })
}

/// How a value goes whatever its size; the loss is the whole of it.
fn by_type(value_type: &'static Type, body: &Bytes, target: &Target) -> Result<Way, Loss> {
    if value_type.kind == Kind::Module {
        return module(value_type, body, target);
    }
    let knows_kind = value_type.kind != Kind::Stream || target.can(Feature::Streams);
    if !knows_kind {
        return Err(Loss::Type { name: value_type.kind.name(), target: target.to_string() });
    }
    if !target.restore {
        return Ok(Way::Commands);
    }
    if value_type.is_read_by(target.reads) {
        return Ok(Way::AsIs);
    }
    Ok(other_type(value_type, target).map_or(Way::Commands, Way::Reencode))
}

/// What the value has that a server of another version has no place for, or that does not go this way. It must not be
/// lost unseen.
fn loss(
    value_type: &Type,
    body: &Bytes,
    target: &Target,
    way: Way,
    largest: u64,
) -> Result<Option<Loss>, Error> {
    if matches!(way, Way::AsIs) {
        return Ok(None);
    }
    let encoding = value_type.encoding();
    let target_name = || target.to_string();
    if has_field_ttls(encoding) && target.latest_field_time() != Some(i64::MAX) {
        let latest = latest_field_time(value_type, body, largest)?;
        return Ok(latest.and_then(|at_ms| loss_of_field_time(at_ms, target)));
    }
    if !matches!(encoding, Encoding::Stream4 | Encoding::Stream5) {
        return Ok(None);
    }
    let Value::Stream(stream) = decode::decode(value_type, body.clone(), largest)? else {
        return Ok(None);
    };
    let part = |what, is_kept: bool| match is_kept {
        true => Loss::ByCommands { what, target: target_name() },
        false => Loss::StreamParts { what, target: target_name() },
    };
    for group in stream.groups()? {
        if !group?.unowned.is_empty() {
            let is_kept = value_type.is_read_by(target.reads);
            return Ok(Some(part("pending entries that consumers gave back", is_kept)));
        }
    }
    // It outlives neither minutes nor the producers, but who asks for everything is told.
    let is_kept = target.reads_since(13);
    let is_lost = stream.remembers_producers()? && (matches!(way, Way::Commands) || !is_kept);
    let what = "the ids by which repeated entries of producers are told";
    Ok(is_lost.then(|| part(what, is_kept)))
}

/// What is lost of a field that expires at that time.
#[must_use]
pub fn loss_of_field_time(at_ms: i64, target: &Target) -> Option<Loss> {
    let server = target.to_string();
    match target.latest_field_time() {
        None => Some(Loss::FieldTtls { target: server }),
        Some(latest) if at_ms > latest => Some(Loss::FarFieldTtls { target: server }),
        Some(_) => None,
    }
}

fn module(value_type: &'static Type, body: &Bytes, target: &Target) -> Result<Way, Loss> {
    let module = value::module_name(body).unwrap_or_default();
    let server = target.to_string();
    if !value_type.is_read_by(target.reads) || target.has_module_for(&module) == Some(false) {
        Err(Loss::Module { module, target: server })
    } else if target.restore {
        Ok(Way::AsIs)
    } else {
        Err(Loss::NoRestore { module, target: server })
    }
}

/// The type that holds the same for a server which does not know this one.
fn other_type(value_type: &Type, target: &Target) -> Option<&'static Type> {
    // The best first. Rows of plain strings are what every version reads and then packs its own way.
    let codes: &[u8] = match value_type.encoding() {
        Encoding::HashTtlPreGa
        | Encoding::HashTtlListpackPreGa
        | Encoding::HashTtl
        | Encoding::HashTtlListpack
        | Encoding::HashTtlValkey => {
            if target.can(Feature::FieldTtls) {
                // Redis' own, which Valkey does not know, and Valkey's own, which Redis knows as another.
                match target.software {
                    crate::target::Software::Redis => &[24],
                    crate::target::Software::Valkey => &[22],
                }
            } else {
                &[4]
            }
        }
        Encoding::Stream5 => &[26, 21, 19, 15],
        Encoding::Stream4 => &[21, 19, 15],
        Encoding::Stream3 => &[19, 15],
        Encoding::Stream2 => &[15],
        Encoding::QuicklistOfListpacks | Encoding::QuicklistOfZiplists => &[1],
        Encoding::ScoredBinary => &[3],
        Encoding::Listpack => match value_type.kind {
            Kind::Set => &[2],
            Kind::SortedSet => &[5, 3],
            _ => &[4],
        },
        _ => &[],
    };
    codes
        .iter()
        .filter_map(|code| value::lookup(*code, target.reads))
        .find(|known| known.is_read_by(target.reads))
}

const fn has_field_ttls(encoding: Encoding) -> bool {
    matches!(
        encoding,
        Encoding::HashTtlPreGa
            | Encoding::HashTtlListpackPreGa
            | Encoding::HashTtl
            | Encoding::HashTtlListpack
            | Encoding::HashTtlValkey
    )
}

/// When the last of the fields expires. A server keeps the layout with times after the last of them is gone.
fn latest_field_time(value_type: &Type, body: &Bytes, largest: u64) -> Result<Option<i64>, Error> {
    let Value::Hash(fields) = decode::decode(value_type, body.clone(), largest)? else {
        return Ok(None);
    };
    let mut latest = None;
    for field in fields {
        latest = latest.max(field?.expires_at_ms);
    }
    Ok(latest)
}

#[cfg(test)]
mod tests;
