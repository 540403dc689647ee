//! The `format` keyword for text and numbers. Formats that Kubernetes ignores are ignored.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate};
use serde_json::Number;

/// Whether text is well formed.
pub(super) fn text(format: &str, value: &str) -> bool {
    match format {
        "date-time" => DateTime::parse_from_rfc3339(value).is_ok(),
        "date" => NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok(),
        "byte" => STANDARD.decode(value).is_ok(),
        "uuid" => uuid(value),
        "ipv4" => value.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => value.parse::<std::net::Ipv6Addr>().is_ok(),
        "uri" => url::Url::parse(value).is_ok(),
        "duration" => duration(value),
        _ => true,
    }
}

/// Whether a number is in the range of its format.
pub(super) fn number(format: &str, value: &Number) -> bool {
    match format {
        "int32" => {
            value.as_i64().is_none_or(|v| i32::try_from(v).is_ok())
                && value.as_u64().is_none_or(|v| i32::try_from(v).is_ok())
        }
        "int64" => value.is_i64() || value.is_f64(),
        _ => true,
    }
}

fn uuid(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Go's duration text: `1h30m`, `-1.5s`, `300ms`, `0`.
fn duration(value: &str) -> bool {
    let mut rest = value.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if digits == 0 {
            return false;
        }
        rest = &rest[digits..];
        let unit =
            ["ns", "us", "µs", "ms", "h", "m", "s"].into_iter().find(|u| rest.starts_with(u));
        let Some(unit) = unit else { return false };
        rest = &rest[unit.len()..];
    }
    true
}
