//! Numbers as people read them.
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// `17 B`, `1.5 MiB`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB"].into_iter().peekable();
    while value >= 1023.95 && units.len() > 1 {
        value /= 1024.0;
        units.next();
    }
    format!("{value:.1} {}", units.next().unwrap_or_default())
}

/// `1,234,567`
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 snapshot`, `1,234 snapshots`
pub fn things(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

/// How long something took: `850 ms`, `12.3 s`, `2m05s`, `1h02m`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long is left: `0:08`, `1:02:03`.
pub fn left(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// An age as kubectl shows it: `45s`, `5m30s`, `3h`, `2d4h`, `400d`.
pub fn age(age: TimeDelta) -> String {
    let seconds = age.num_seconds();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with = |whole: i64, unit: &str, rest: i64, rest_unit: &str| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{rest_unit}") }
    };
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// How long ago something was; `-` for never.
pub fn ago(then: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    then.map_or_else(|| "-".to_owned(), |then| age(now - then))
}

/// How soon something will be: `in 5m`; `-` for never.
pub fn soon(then: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    then.map_or_else(|| "-".to_owned(), |then| format!("in {}", age(then - now)))
}

/// An instant, to the second.
pub fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts() {
        let shown = [0, 1023, 1024, 1536, 1_048_575, 1 << 20, 5 << 30, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "5.0 GiB", "16384.0 PiB"]
        );
        let shown = [0, 999, 1000, 1_234_567].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        let shown = [0, 1, 2000].map(|number| things(number, "pack"));
        assert_eq!(shown, ["0 packs", "1 pack", "2,000 packs"]);
    }

    #[test]
    fn spans() {
        let shown = [850, 12_340, 125_000, 3_725_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(shown, ["850 ms", "12.3 s", "2m05s", "1h02m"]);
        assert_eq!([8, 65, 3723].map(left), ["0:08", "1:05", "1:02:03"]);
    }

    #[test]
    fn ages_are_kubectls() {
        let ages = [-5, 45, 119, 120, 330, 600, 7200, 10_860, 28_800, 180_000, 691_200];
        let shown = ages.map(|seconds| age(TimeDelta::seconds(seconds)));
        assert_eq!(
            shown,
            ["0s", "45s", "119s", "2m", "5m30s", "10m", "120m", "3h1m", "8h", "2d2h", "8d"]
        );
    }
}
