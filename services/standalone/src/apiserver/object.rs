//! Reading and writing `metadata` of objects that are kept as JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use rand::Rng;
use serde_json::{Map, Value};

/// The wall clock; the only place where this server reads it.
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// `2026-01-02T03:04:05Z`, the precision of `metav1.Time`.
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A string of the metadata; empty when absent.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    meta(object, "name")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    meta(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    meta(object, "uid")
}

/// Whether deletion was asked for and waits for finalizers.
pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    strings(&object["metadata"]["finalizers"])
}

/// The strings of a JSON array.
pub fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Adds or removes a finalizer; an emptied list disappears.
pub fn set_finalizer(object: &mut Value, finalizer: &str, present: bool) {
    let mut list: Vec<Value> =
        object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    list.retain(|have| have != finalizer);
    if present {
        list.push(finalizer.into());
    }
    if list.is_empty() {
        remove_meta(object, "finalizers");
    } else {
        object["metadata"]["finalizers"] = list.into();
    }
}

/// The metadata as a map, made when absent or when it is something else.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    static NOT_AN_OBJECT: &str = "an object that is kept is a JSON object";
    let map = object.as_object_mut().expect(NOT_AN_OBJECT);
    let slot = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect(NOT_AN_OBJECT)
}

/// Sets a field of the metadata.
pub fn set_meta(object: &mut Value, field: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(field.to_owned(), value.into());
}

/// Removes a field of the metadata.
pub fn remove_meta(object: &mut Value, field: &str) {
    metadata_mut(object).shift_remove(field);
}

/// Removes a top-level field.
pub fn remove(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove(field);
    }
}

/// Gives `to` the field of `from`, or none when `from` has none.
pub fn copy_field(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => remove(to, field),
    }
}

/// The same for a field of the metadata.
pub fn copy_meta(from: &Value, to: &mut Value, field: &str) {
    match from["metadata"].get(field) {
        Some(value) => set_meta(to, field, value.clone()),
        None => remove_meta(to, field),
    }
}

/// A random (version 4) UUID.
pub fn new_uid() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// `generateName` plus five characters without vowels, so that no words appear.
pub fn generated_name(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LONGEST_PREFIX: usize = 58;
    let mut rng = rand::rng();
    let mut name: String = prefix.chars().take(LONGEST_PREFIX).collect();
    name.extend((0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])));
    name
}

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner<'a> {
    /// `apiVersion` of the owner.
    pub api_version: &'a str,
    /// `kind` of the owner.
    pub kind: &'a str,
    /// `uid` of the owner.
    pub uid: &'a str,
    /// Whether a foreground deletion of the owner waits for this object.
    pub blocks: bool,
}

/// The owners that an object names.
pub fn owners(object: &Value) -> Vec<Owner<'_>> {
    let list = object["metadata"]["ownerReferences"].as_array();
    list.into_iter()
        .flatten()
        .map(|owner| Owner {
            api_version: owner["apiVersion"].as_str().unwrap_or(""),
            kind: owner["kind"].as_str().unwrap_or(""),
            uid: owner["uid"].as_str().unwrap_or(""),
            blocks: owner["blockOwnerDeletion"].as_bool().unwrap_or(false),
        })
        .collect()
}
