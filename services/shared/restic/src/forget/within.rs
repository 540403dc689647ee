//! A span as restic's `--keep-within` takes it: `2y5m7d3h`. Years and months have no fixed length, so it is
//! subtracted as a calendar does.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, TimeDelta};

use crate::error::{Error, Result};

/// Years, months, days and hours before the newest snapshot. All zero: no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// Calendar years.
    pub years: u32,
    /// Calendar months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Within {
    /// Whether it is no rule.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The moment this long before `time`, or the beginning of time if that is out of range. A day that the month does
    /// not have runs over into the next one, as in Go: a month before 31 October is 1 October.
    pub(super) fn before(self, time: DateTime<FixedOffset>) -> DateTime<FixedOffset> {
        let earlier = || {
            let months = i64::from(self.years) * 12 + i64::from(self.months);
            let month = i64::from(time.year()) * 12 + i64::from(time.month0()) - months;
            let year = i32::try_from(month.div_euclid(12)).ok()?;
            let month = u32::try_from(month.rem_euclid(12)).ok()? + 1;
            let day = i64::from(time.day0()) - i64::from(self.days);
            let date = NaiveDate::from_ymd_opt(year, month, 1)?
                .checked_add_signed(TimeDelta::try_days(day)?)?;
            let local = date.and_time(time.time()).and_local_timezone(*time.offset()).single()?;
            local.checked_sub_signed(TimeDelta::try_hours(i64::from(self.hours))?)
        };
        earlier().unwrap_or_else(|| DateTime::<chrono::Utc>::MIN_UTC.fixed_offset())
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { years, months, days, hours } = *self;
        for (number, unit) in [(years, 'y'), (months, 'm'), (days, 'd'), (hours, 'h')] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Within {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            Error::invalid(
                format!("span {text:?}"),
                "is not like 2y5m7d3h (years, months, days, hours)",
            )
        };
        let mut within = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
            let number: u32 = rest[..end].parse().map_err(|_| refused())?;
            let unit = rest[end..].chars().next().ok_or_else(refused)?;
            match unit {
                'y' => within.years = number,
                'm' => within.months = number,
                'd' => within.days = number,
                'h' => within.hours = number,
                _ => return Err(refused()),
            }
            rest = &rest[end + unit.len_utf8()..];
        }
        Ok(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown_as_restic_does() {
        for text in ["2y5m7d3h", "1h", "10d", "3m", ""] {
            assert_eq!(text.parse::<Within>().unwrap().to_string(), text);
        }
        assert!("0d".parse::<Within>().unwrap().is_zero());
        for junk in ["5", "d", "-1d", "1w", "1 d", "99999999999h", "1dd", "1d5"] {
            assert!(junk.parse::<Within>().is_err(), "{junk}");
        }
    }

    #[test]
    fn calendars_are_subtracted_as_go_does() {
        let before = |time: &str, span: &str| {
            let time = DateTime::parse_from_rfc3339(time).unwrap();
            span.parse::<Within>().unwrap().before(time).to_rfc3339()
        };
        assert_eq!(before("2026-10-31T12:00:00+02:00", "1m"), "2026-10-01T12:00:00+02:00");
        assert_eq!(before("2024-02-29T01:00:00Z", "1y"), "2023-03-01T01:00:00+00:00");
        assert_eq!(before("2026-01-15T01:00:00Z", "1m20d2h"), "2025-11-24T23:00:00+00:00");
        assert!(before("2026-01-15T01:00:00Z", "4000000000y").starts_with('-'));
    }
}
