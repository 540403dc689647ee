//! Reading request bodies in Kubernetes' protobuf encoding.
//!
//! kubectl since 1.32 sends it, without asking, whenever it creates a built-in object from a flag
//! (`kubectl create secret`, `kubectl auth can-i`); answers may be JSON. What is read becomes the
//! JSON that the same object would have been sent as.
//!
//! `messages.txt` has a line for each message: its name, and its fields as `json-name=number:type`.
//! `[x]` is a list, `{x}` a map from strings, `*` a message whose fields stand among those of its
//! parent. The numbers never change; a field that is newer than the table is dropped, as every
//! older API server would.

mod wire;

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use wire::{Field, fields};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Messages do not nest deeper than this in any kind.
const DEEPEST: usize = 32;

/// Numbers and flags that are no pointers in Go: they are always written, and 0 means not set.
const ALWAYS: [&str; 9] = [
    "generation",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
];

/// Why a body was not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not begin as such bodies do.
    #[error("the body does not begin with the prefix of protobuf objects")]
    Prefix,
    /// It ends in the middle, or has a number or a text that is none.
    #[error("the body is not well formed")]
    Malformed,
    /// Messages are nested too deeply.
    #[error("the body is nested too deeply")]
    Deep,
    /// No message of the table stands for the kind.
    #[error("no kind {kind:?} in version {api_version:?} is known in protobuf")]
    Unknown {
        /// `apiVersion` of the body.
        api_version: String,
        /// `kind` of the body.
        kind: String,
    },
}

type Message = HashMap<u64, (&'static str, &'static str)>;

fn messages() -> &'static HashMap<&'static str, Message> {
    static MESSAGES: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        include_str!("protobuf/messages.txt").lines().filter_map(parse_message).collect()
    })
}

fn parse_message(line: &'static str) -> Option<(&'static str, Message)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let fields = words.filter_map(|word| {
        let (json, rest) = word.split_once('=')?;
        let (number, kind) = rest.split_once(':')?;
        Some((number.parse().ok()?, (json, kind)))
    });
    Some((name, fields.collect()))
}

/// The object of a body, as JSON.
///
/// # Errors
/// When the body is not well formed, or of a kind that the table does not have.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let body = body.strip_prefix(MAGIC).ok_or(Error::Prefix)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(body) {
        match field? {
            (1, Field::Bytes(type_meta)) => {
                for field in fields(type_meta) {
                    match field? {
                        (1, Field::Bytes(text)) => api_version = utf8(text)?,
                        (2, Field::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", &api_version));
    let group = group.split('.').next().unwrap_or(group);
    let name = match kind.as_str() {
        "DeleteOptions" => "meta.v1.DeleteOptions".to_owned(),
        kind => format!("{group}.{version}.{kind}"),
    };
    let Some(message) = messages().get(name.as_str()) else {
        return Err(Error::Unknown { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    read(message, raw, &mut object, DEEPEST)?;
    Ok(object.into())
}

fn utf8(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Malformed)
}

fn read(
    message: &Message,
    bytes: &[u8],
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::Deep)?;
    for field in fields(bytes) {
        let (number, field) = field?;
        let Some(&(name, kind)) = message.get(&number) else { continue };
        if name == "*" {
            if let (Some(inner), Field::Bytes(bytes)) = (messages().get(kind), &field) {
                read(inner, bytes, into, depth)?;
            }
        } else if let Some(kind) = inside(kind, '[', ']') {
            let list = into.entry(name).or_insert_with(|| json!([]));
            let Some(list) = list.as_array_mut() else { continue };
            match (kind, &field) {
                ("int32" | "int64" | "bool", Field::Bytes(packed)) => {
                    for number in wire::packed(packed) {
                        list.push(scalar(kind, Field::Varint(number?), depth)?);
                    }
                }
                _ => list.push(scalar(kind, field, depth)?),
            }
        } else if let Some(kind) = inside(kind, '{', '}') {
            let Field::Bytes(entry) = field else { return Err(Error::Malformed) };
            let (mut key, mut value) = (String::new(), Field::Bytes(&[]));
            for field in fields(entry) {
                match field? {
                    (1, Field::Bytes(text)) => key = utf8(text)?,
                    (2, found) => value = found,
                    _ => {}
                }
            }
            let value = scalar(kind, value, depth)?;
            let map = into.entry(name).or_insert_with(|| json!({}));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
        } else {
            let value = scalar(kind, field, depth)?;
            // Go writes every text and every time, set or not; in JSON the empty ones are left out.
            let unset = value == ""
                || value.is_null()
                || (value == false || value == 0) && ALWAYS.contains(&name);
            if !unset {
                into.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn inside(kind: &'static str, open: char, close: char) -> Option<&'static str> {
    kind.strip_prefix(open)?.strip_suffix(close)
}

fn scalar(kind: &str, field: Field<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match (kind, field) {
        ("bool", Field::Varint(number)) => (number != 0).into(),
        // Two's complement in 64 bits, whatever the width of the type.
        ("int32" | "int64", Field::Varint(number)) => number.cast_signed().into(),
        ("string", Field::Bytes(text)) => utf8(text)?.into(),
        ("bytes", Field::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        ("time", Field::Bytes(bytes)) => time(bytes)?,
        ("quantity", Field::Bytes(bytes)) => first_text(bytes)?.into(),
        ("json", Field::Bytes(bytes)) => {
            serde_json::from_str(&first_text(bytes)?).map_err(|_| Error::Malformed)?
        }
        ("items", Field::Bytes(bytes)) => {
            let mut items = Vec::new();
            for field in fields(bytes) {
                if let (1, Field::Bytes(text)) = field? {
                    items.push(utf8(text)?);
                }
            }
            items.into()
        }
        ("intorstring", Field::Bytes(bytes)) => int_or_string(bytes)?,
        (name, Field::Bytes(bytes)) => {
            let message = messages().get(name).ok_or(Error::Malformed)?;
            let mut inner = Map::new();
            read(message, bytes, &mut inner, depth)?;
            inner.into()
        }
        (_, Field::Varint(_) | Field::Fixed) => return Err(Error::Malformed),
    })
}

fn first_text(bytes: &[u8]) -> Result<String, Error> {
    for field in fields(bytes) {
        if let (1, Field::Bytes(text)) = field? {
            return utf8(text);
        }
    }
    Ok(String::new())
}

/// Seconds and nanoseconds; neither means no time.
fn time(bytes: &[u8]) -> Result<Value, Error> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in fields(bytes) {
        match field? {
            (1, Field::Varint(number)) => seconds = Some(number.cast_signed()),
            (2, Field::Varint(number)) => nanos = u32::try_from(number).unwrap_or(0),
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(Value::Null) };
    let time = DateTime::from_timestamp(seconds, nanos).ok_or(Error::Malformed)?;
    let precision = if nanos == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
    Ok(time.to_rfc3339_opts(precision, true).into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in fields(bytes) {
        match field? {
            (1, Field::Varint(kind)) => is_text = kind == 1,
            (2, Field::Varint(found)) => number = found.cast_signed(),
            (3, Field::Bytes(found)) => text = utf8(found)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        fields
            .iter()
            .flat_map(|(number, bytes)| {
                let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
                field.extend_from_slice(bytes);
                field
            })
            .collect()
    }

    #[test]
    fn a_secret_becomes_the_json_that_it_would_have_been() {
        let entry = message(&[(1, b"password"), (2, b"\x00\xff")]);
        let metadata = message(&[(1, b"s"), (2, b""), (8, b"")]);
        let secret = message(&[(1, &metadata), (2, &entry), (3, b"Opaque")]);
        let type_meta = message(&[(1, b"v1"), (2, b"Secret")]);
        let mut body = MAGIC.to_vec();
        body.extend(message(&[(1, &type_meta), (2, &secret)]));
        let expected = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "data": {"password": "AP8="}, "type": "Opaque"});
        assert_eq!(decode(&body).unwrap(), expected);
        assert!(matches!(decode(&body[..body.len() - 3]), Err(Error::Malformed)));
        assert!(matches!(decode(b"{}"), Err(Error::Prefix)));
    }

    #[test]
    fn every_message_that_the_table_names_is_in_it() {
        for (name, message) in messages() {
            for (field, kind) in message.values() {
                let inner = kind.trim_matches(['[', ']', '{', '}']);
                let known = !inner.contains('.') || messages().contains_key(inner);
                assert!(known, "{name}.{field} is a {inner}");
            }
        }
        assert!(messages().len() > 200);
    }
}
