//! Cron texts, and properties of firings.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc, Weekday};
use proptest::prelude::*;
use std::time::Duration;

use super::{ParseError, Schedule, Written};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn parse(text: &str) -> Result<Schedule, ParseError> {
    Schedule::parse(Written { text, ..Written::default() })
}

fn within(zone: &str, text: &str) -> Schedule {
    Schedule::parse(Written { text, time_zone: Some(zone), seed: "" }).unwrap()
}

fn next(schedule: &str, after: &str) -> DateTime<Utc> {
    parse(schedule).unwrap().next(at(after)).unwrap()
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
        // Six fields: seconds come first.
        ("30 43 8 * * *", "2026-11-23T08:43:30Z"),
        ("*/10 * * * * *", "2026-11-23T08:43:30Z"),
        ("0 0 4 * * MON-FRI", "2026-11-24T04:00:00Z"),
    ] {
        assert_eq!(next(schedule, "2026-11-23T08:43:21Z"), at(expected), "{schedule}");
    }
}

#[test]
fn what_is_no_schedule_is_named() {
    for (schedule, part) in [
        ("", "empty"),
        ("* * * *", "has 4 fields"),
        ("0 0 2 * * * *", "has 7 fields"),
        ("60 0 2 * * *", "\"60\" is no second (0 to 59)"),
        ("TZ=UTC 0 2 * * *", "use spec.timeZone"),
        ("H(5-70) * * * *", "\"H(5-70)\" is no minute"),
        ("Hx * * * *", "is no minute"),
        ("H/0 * * * *", "is no minute"),
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
        let error = parse(schedule).unwrap_err().to_string();
        assert!(error.contains(part), "{schedule}: {error}");
    }
    assert_eq!(parse(" ").unwrap_err(), ParseError::Empty);
}

#[test]
fn only_the_latest_missed_instant_is_due() {
    let hourly = parse("@hourly").unwrap();
    let day = Duration::from_secs(86_400);
    let due = |since: &str, now: &str, deadline| hourly.due(at(since), at(now), deadline).now;
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

#[test]
fn what_was_missed_is_counted() {
    let hourly = parse("@hourly").unwrap();
    let missed = |since: &str, now: &str, seconds| {
        let due = hourly.due(at(since), at(now), Duration::from_secs(seconds));
        (due.missed_count, due.missed, due.now)
    };
    let (since, day) = ("2026-11-23T08:30:00Z", 86_400);
    assert_eq!(
        missed(since, "2026-11-23T09:00:07Z", day),
        (0, None, Some(at("2026-11-23T09:00:00Z")))
    );
    let (first, last) = (at("2026-11-23T09:00:00Z"), at("2026-11-23T13:00:00Z"));
    let made = Some(at("2026-11-23T14:00:00Z"));
    assert_eq!(missed(since, "2026-11-23T14:10:00Z", day), (5, Some((first, last)), made));
    assert_eq!(missed(since, "2026-11-23T13:10:00Z", 60), (5, Some((first, last)), None));
}

#[test]
fn h_spreads_invokers_and_stays_where_it_is() {
    let minute = |text: &str, seed: &str| {
        let written = Written { text, time_zone: None, seed };
        Schedule::parse(written).unwrap().next(at("2026-11-23T00:00:00Z")).unwrap().minute()
    };
    let minutes: std::collections::BTreeSet<u32> =
        (0..300).map(|n| minute("H * * * *", &format!("demo/orders-{n}"))).collect();
    assert!(minutes.len() > 50, "{minutes:?}");
    assert_eq!(minute("H * * * *", "demo/orders"), minute("H * * * *", "demo/orders"));
    for n in 0..50 {
        let seed = format!("demo/orders-{n}");
        assert!((10..=19).contains(&minute("H(10-19) 3 * * *", &seed)));
        let quarters =
            Schedule::parse(Written { text: "H/15 * * * *", time_zone: None, seed: &seed });
        let quarters = quarters.unwrap();
        let first = quarters.next(at("2026-11-23T00:59:59Z")).unwrap();
        assert!(first.minute() < 15);
        assert_eq!(quarters.next(first).unwrap() - first, TimeDelta::minutes(15));
        // Every month has the day that is picked.
        let monthly = Schedule::parse(Written { text: "0 0 H * *", time_zone: None, seed: &seed });
        assert!(
            monthly.unwrap().next(at("2026-01-31T23:59:59Z")).unwrap()
                <= at("2026-02-28T00:00:00Z")
        );
    }
}

#[test]
fn a_cron_job_gets_what_kubernetes_knows() {
    for (text, expected) in [
        ("*/15 2 * * MON", Some("*/15 2 * * MON")),
        ("0 30 2 1,15 * ?", Some("30 2 1,15 * ?")),
        ("@daily", Some("0 0 * * *")),
        ("@every 6h", Some("@every 6h")),
        ("5 30 2 * * *", None),
    ] {
        assert_eq!(parse(text).unwrap().cron_job(), expected, "{text}");
    }
    let hashed = parse("H H(2-2) * * *").unwrap();
    let [minute, hour, ..] = hashed.cron_job().unwrap().split(' ').collect::<Vec<_>>()[..] else {
        panic!()
    };
    assert!(minute.parse::<u32>().unwrap() < 60 && hour == "2");
}

#[test]
fn a_zone_moves_the_hours() {
    let next = |zone, text, after: &str| within(zone, text).next(at(after)).unwrap();
    assert_eq!(
        next("Europe/Berlin", "30 2 * * *", "2026-07-01T12:00:00Z"),
        at("2026-07-02T00:30:00Z")
    );
    assert_eq!(
        next("Europe/Berlin", "30 2 * * *", "2026-12-01T12:00:00Z"),
        at("2026-12-02T01:30:00Z")
    );
    assert_eq!(next("Asia/Kolkata", "@daily", "2026-12-01T12:00:00Z"), at("2026-12-01T18:30:00Z"));
    let error = Schedule::parse(Written { text: "@daily", time_zone: Some("Mars/Base"), seed: "" });
    assert_eq!(error.unwrap_err(), ParseError::Zone("Mars/Base".into()));
}

#[test]
fn changed_clocks_cost_no_backup_and_give_none_twice() {
    // In Berlin 02:00 to 03:00 does not exist on 29 March and comes twice on 25 October.
    let next = |text, after: &str| within("Europe/Berlin", text).next(at(after)).unwrap();
    assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z"), at("2026-03-29T01:30:00Z"));
    // Asked within the hour that stands for it.
    assert_eq!(next("30 2 * * *", "2026-03-29T01:10:00Z"), at("2026-03-29T01:30:00Z"));
    assert_eq!(next("30 2 * * *", "2026-03-29T01:30:00Z"), at("2026-03-30T00:30:00Z"));
    assert_eq!(next("30 2 * * *", "2026-10-24T12:00:00Z"), at("2026-10-25T00:30:00Z"));
    assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z"));
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"] {
        // Whatever clocks do, a quarter of an hour is one.
        let quarters = within(zone, "*/15 * * * *");
        for start in [
            "2026-03-07T00:00:00Z",
            "2026-03-28T00:00:00Z",
            "2026-04-04T00:00:00Z",
            "2026-10-03T00:00:00Z",
            "2026-10-24T00:00:00Z",
            "2026-10-31T00:00:00Z",
        ] {
            let mut instant = at(start);
            for _ in 0..4 * 48 {
                let next = quarters.next(instant).unwrap();
                assert_eq!(next - instant, TimeDelta::minutes(15), "{zone} after {instant}");
                instant = next;
            }
        }
    }
}

#[test]
fn every_day_of_a_year_has_one_run() {
    for (zone, text) in [
        ("Europe/Berlin", "30 2 * * *"),
        ("America/New_York", "15 1 * * *"),
        ("America/New_York", "15 2 * * *"),
        ("Australia/Lord_Howe", "45 1 * * *"),
        ("America/Sao_Paulo", "0 0 * * *"),
        ("Africa/Cairo", "30 0 * * *"),
    ] {
        let schedule = within(zone, text);
        let tz: chrono_tz::Tz = zone.parse().unwrap();
        let mut instant = at("2026-01-01T23:00:00Z");
        let mut days: Vec<NaiveDate> = vec![];
        for _ in 0..365 {
            instant = schedule.next(instant).unwrap();
            days.push(instant.with_timezone(&tz).date_naive());
        }
        for pair in days.windows(2) {
            assert_eq!(pair[0].succ_opt(), Some(pair[1]), "{zone} {text}");
        }
    }
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
        let schedule = parse(&text).unwrap();
        let after = DateTime::from_timestamp(seconds, 0).unwrap();
        let next = schedule.next(after).unwrap();
        prop_assert!(next > after);
        prop_assert_eq!(next.second(), 0);
        prop_assert_eq!(schedule.next(next - TimeDelta::seconds(1)), Some(next));
        prop_assert_eq!(schedule.due(after, next, Duration::ZERO).now, Some(next));
        prop_assert!(schedule.fires_at(next));
        prop_assert_eq!(schedule.due(next, next, Duration::from_secs(9_999_999)).now, None);
    }

    /// Against a walk over the minutes of a month.
    #[test]
    fn a_minute_by_minute_walk_finds_the_same(minute in 0u32..60, weekday in 0u32..7, day in 1u32..29, start in 1_700_000_000i64..1_710_000_000) {
        let schedule = parse(&format!("{minute} 3 {day} * {weekday}")).unwrap();
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let number = |w: Weekday| w.num_days_from_sunday();
        let mut walk = start.with_second(0).unwrap() + TimeDelta::minutes(1);
        while walk.hour() != 3 || walk.minute() != minute || (walk.day() != day && number(walk.weekday()) != weekday) {
            walk += TimeDelta::minutes(1);
        }
        prop_assert_eq!(schedule.next(start), Some(walk));
    }
}
