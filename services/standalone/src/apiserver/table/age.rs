//! Spans of time as kubectl prints them: precise while short, rough when long.

use chrono::{DateTime, TimeDelta, Utc};

/// The age of a timestamp.
pub(super) fn since(timestamp: &str, now: DateTime<Utc>) -> String {
    match DateTime::parse_from_rfc3339(timestamp) {
        Ok(then) => human(now.signed_duration_since(then)),
        Err(_) if timestamp.is_empty() => "<unknown>".into(),
        Err(_) => "<invalid>".into(),
    }
}

/// `5m`, `3d4h`, as Kubernetes' `HumanDuration` rounds them.
pub(super) fn human(span: TimeDelta) -> String {
    let seconds = span.num_seconds();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let pair = |big: i64, unit: char, small: i64, subunit: char| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{subunit}"),
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => pair(days, 'd', hours % 24, 'h'),
        _ if days < 2 * 365 => format!("{days}d"),
        _ if days < 8 * 365 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}
