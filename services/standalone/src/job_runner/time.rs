//! Timestamps of the API, between `k8s-openapi`'s type, `chrono` and text.

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A timestamp as `chrono` has it.
pub(super) fn instant(time: &Time) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(time.0.as_millisecond()).unwrap_or_default()
}

/// A timestamp as the API writes it: whole seconds, UTC.
pub(super) fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
