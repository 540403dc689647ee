//! Cron texts, and properties of firings.

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc, Weekday};
use proptest::prelude::*;
use std::time::Duration;

use super::{ParseError, Schedule};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn next(schedule: &str, after: &str) -> DateTime<Utc> {
    Schedule::parse(schedule).unwrap().next(at(after)).unwrap()
}

#[test]
fn fires_as_kubernetes_does() {
    // 2026-11-23 is a Monday.
    for (schedule, expected) in [
        ("7 * * * *", "2026-11-23T09:07:00Z"),
        ("30 2 * * *", "2026-11-24T02:30:00Z"),
        ("*/15 * * * *", "2026-11-23T08:45:00Z"),
        ("5/20 * * * *", "2026-11-23T08:45:00Z"),
        ("0 4 * * 0", "2026-11-29T04:00:00Z"),
        ("0 4 * * 7", "2026-11-29T04:00:00Z"),
        ("0 4 * * SUN", "2026-11-29T04:00:00Z"),
        ("0 4 * * 1-5", "2026-11-24T04:00:00Z"),
        ("0 0 29 feb *", "2028-02-29T00:00:00Z"),
        // Both day fields restricted: either is enough.
        ("0 0 1 * 3", "2026-11-25T00:00:00Z"),
        ("0 0 24 * 3", "2026-11-24T00:00:00Z"),
        // A star in one of them leaves it to the other.
        ("0 0 ? * 3", "2026-11-25T00:00:00Z"),
        ("@hourly", "2026-11-23T09:00:00Z"),
        ("@daily", "2026-11-24T00:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@every 6h", "2026-11-23T12:00:00Z"),
    ] {
        assert_eq!(next(schedule, "2026-11-23T08:43:21Z"), at(expected), "{schedule}");
    }
}

#[test]
fn what_is_no_schedule_is_named() {
    for (schedule, part) in [
        ("", "empty"),
        ("* * * *", "has 4 fields"),
        ("0 0 2 * * *", "has 6 fields"),
        ("TZ=UTC 0 2 * * *", "has 6 fields"),
        ("60 * * * *", "\"60\" is no minute (0 to 59)"),
        ("0 24 * * *", "is no hour"),
        ("0 0 0 * *", "is no day of month"),
        ("0 0 * 13 *", "is no month"),
        ("0 0 * * 8", "is no day of week"),
        ("0 5-1 * * *", "\"5-1\" is no hour"),
        ("*/0 * * * *", "is no minute"),
        ("x * * * *", "\"x\" is no minute"),
        ("0 0 30 2 *", "never fires"),
        ("@fortnightly", "use @hourly"),
        ("@every 0s", "use @hourly"),
    ] {
        let error = Schedule::parse(schedule).unwrap_err().to_string();
        assert!(error.contains(part), "{schedule}: {error}");
    }
    assert_eq!(Schedule::parse(" ").unwrap_err(), ParseError::Empty);
}

#[test]
fn only_the_latest_missed_instant_is_due() {
    let hourly = Schedule::parse("@hourly").unwrap();
    let day = Duration::from_secs(86_400);
    let due = |since: &str, now: &str, deadline| hourly.due(at(since), at(now), deadline);
    assert_eq!(due("2026-11-23T08:30:00Z", "2026-11-23T08:59:59Z", day), None);
    assert_eq!(
        due("2026-11-23T08:30:00Z", "2026-11-23T09:00:00Z", day),
        Some(at("2026-11-23T09:00:00Z"))
    );
    // Down for six hours.
    assert_eq!(
        due("2026-11-23T08:30:00Z", "2026-11-23T14:10:00Z", day),
        Some(at("2026-11-23T14:00:00Z"))
    );
    // Handled already.
    assert_eq!(due("2026-11-23T14:00:00Z", "2026-11-23T14:10:00Z", day), None);
    // Too late.
    let minute = Duration::from_secs(60);
    assert_eq!(due("2026-11-23T08:30:00Z", "2026-11-23T14:10:00Z", minute), None);
    assert_eq!(
        due("2026-11-23T08:30:00Z", "2026-11-23T14:01:00Z", minute),
        Some(at("2026-11-23T14:00:00Z"))
    );
}

fn texts() -> impl Strategy<Value = String> {
    let field = |from: u32, to: u32| {
        prop_oneof![
            Just("*".to_owned()),
            (from..=to).prop_map(|n| n.to_string()),
            (2u32..9).prop_map(|n| format!("*/{n}")),
            (from..=to, from..=to).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            (from..=to, from..=to).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    };
    (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7))
        .prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
}

proptest! {
    /// The next firing is strictly later, on a whole minute, and nothing lies between: from just before it, it is the
    /// next one too. In UTC no day is shorter or longer, so that holds at every instant of the year.
    #[test]
    fn the_next_firing_is_strictly_later(text in texts(), seconds in 1_600_000_000i64..2_000_000_000) {
        let schedule = Schedule::parse(&text).unwrap();
        let after = DateTime::from_timestamp(seconds, 0).unwrap();
        let next = schedule.next(after).unwrap();
        prop_assert!(next > after);
        prop_assert_eq!(next.second(), 0);
        prop_assert_eq!(schedule.next(next - TimeDelta::seconds(1)), Some(next));
        prop_assert_eq!(schedule.due(after, next, Duration::ZERO), Some(next));
        prop_assert_eq!(schedule.due(next, next, Duration::from_secs(9_999_999)), None);
    }

    /// Against a walk over the minutes of a month.
    #[test]
    fn a_minute_by_minute_walk_finds_the_same(minute in 0u32..60, weekday in 0u32..7, day in 1u32..29, start in 1_700_000_000i64..1_710_000_000) {
        let schedule = Schedule::parse(&format!("{minute} 3 {day} * {weekday}")).unwrap();
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let number = |w: Weekday| w.num_days_from_sunday();
        let mut walk = start.with_second(0).unwrap() + TimeDelta::minutes(1);
        while walk.hour() != 3 || walk.minute() != minute || (walk.day() != day && number(walk.weekday()) != weekday) {
            walk += TimeDelta::minutes(1);
        }
        prop_assert_eq!(schedule.next(start), Some(walk));
    }
}
