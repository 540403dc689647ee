//! Events have two faces: core `v1` and `events.k8s.io/v1`. They are stored as core events; the
//! other group sees the same objects under its own field names.

use serde_json::Value;

/// The other group.
pub const GROUP: &str = "events.k8s.io";

/// Core field name, name in events.k8s.io.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A core event as events.k8s.io shows it.
pub fn from_core(event: &Value) -> Value {
    renamed(event, |name| NAMES.iter().find(|(core, _)| *core == name).map(|(_, other)| *other))
}

/// An event of events.k8s.io as it is stored.
pub fn to_core(event: &Value) -> Value {
    renamed(event, |name| NAMES.iter().find(|(_, other)| *other == name).map(|(core, _)| *core))
}

fn renamed(event: &Value, rename: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Some(map) = event.as_object() else { return event.clone() };
    map.iter()
        .map(|(name, value)| (rename(name).unwrap_or(name).to_owned(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_faces_are_one_event() {
        let core = json!({"metadata": {"name": "e"}, "involvedObject": {"name": "x"},
            "message": "m", "reason": "r", "count": 3});
        let other = from_core(&core);
        assert_eq!((&other["regarding"]["name"], &other["note"]), (&json!("x"), &json!("m")));
        assert_eq!(other["deprecatedCount"], 3);
        assert_eq!(to_core(&other), core);
    }
}
