//! Durations as Go writes and reads them: `1h30m`, `250ms`, `1.5s`.

use std::time::Duration;

/// The longest that Go can tell, some 292 years. An instant that is so far away can still be reckoned with.
const LONGEST: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());

/// A text that is no Go duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// It cannot be read.
    #[error(
        "\"{0}\" is no duration: write numbers with units, as in 1h30m or 45s (units: h, m, s, ms, us, ns)"
    )]
    Text(String),
    /// It can, but nobody can wait for so long.
    #[error("\"{0}\" is too long: a duration may have 2562047h")]
    TooLong(String),
}

/// Reads a Go duration.
///
/// # Errors
/// When it is empty, negative, lacks a unit or does not fit.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let error = || ParseError::Text(text.to_owned());
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(error());
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let value: f64 = rest[..number].parse().map_err(|_| error())?;
        rest = &rest[number..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += value
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(error()),
            };
        rest = &rest[unit..];
    }
    let span = Duration::try_from_secs_f64(total).ok().filter(|span| *span <= LONGEST);
    span.ok_or_else(|| ParseError::TooLong(text.to_owned()))
}

/// Writes a duration as Go does, rounded to whole seconds: `1h2m3s`, `0s`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    let total = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    let (h, m, s) = (total / 3600, total / 60 % 60, total % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

/// Writes a duration as Go does, to the millisecond: `1h2m3.5s`, `0s`.
#[must_use]
pub fn precise(duration: Duration) -> String {
    let whole = duration.as_secs();
    let (h, m, s) = (whole / 3600, whole / 60 % 60, whole % 60);
    let fraction = format!("{:03}", duration.subsec_millis());
    let fraction = fraction.trim_end_matches('0');
    let seconds = if fraction.is_empty() { format!("{s}s") } else { format!("{s}.{fraction}s") };
    match (h, m) {
        (0, 0) => seconds,
        (0, _) => format!("{m}m{seconds}"),
        _ => format!("{h}h{m}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("0", 0),
            ("2h0m1s", 7_201_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "1d", "-5s", "h", "1x2s", "."] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_longer_than_go_can_tell_is_refused() {
        assert_eq!(parse("2562047h"), Ok(Duration::from_hours(2_562_047)));
        for long in ["2562048h", "9999999999h", "99999999999999999999h"] {
            let error = parse(long).unwrap_err().to_string();
            assert!(error.contains("too long: a duration may have 2562047h"), "{error}");
        }
    }

    #[test]
    fn writes_milliseconds_where_they_count() {
        for (millis, text) in
            [(0, "0s"), (45, "0.045s"), (1500, "1.5s"), (60_000, "1m0s"), (3_723_001, "1h2m3.001s")]
        {
            assert_eq!(precise(Duration::from_millis(millis)), text);
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn writes_whole_seconds() {
        assert_eq!(seconds(Duration::from_millis(3_723_499)), "1h2m3s");
        assert_eq!(seconds(Duration::from_millis(59_600)), "1m0s");
        assert_eq!(seconds(Duration::ZERO), "0s");
    }
}
