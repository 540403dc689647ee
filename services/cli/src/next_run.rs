//! When a schedule fires next, for `coffer status`. Only shown, never acted upon: the orchestrator decides when a backup
//! is due. What is not understood here (another time zone, say) is shown as unknown rather than wrong.
//!
//! The fields are those of Kubernetes' CronJobs: minute, hour, day of month, month, day of week, in UTC. When both days
//! are restricted, either will do.
use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A leap day on a given weekday comes round after 28 years at most, but nobody backs up that seldom.
const SEARCHED_DAYS: u64 = 366 * 5;

/// The first instant after `now`, if the schedule has one.
pub fn next_run(schedule: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let schedule = match schedule.trim() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        other => other,
    };
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else { return None };
    let minutes = Field::parse(minute, 0, 59, &[])?;
    let hours = Field::parse(hour, 0, 23, &[])?;
    let days = Field::parse(day, 1, 31, &[])?;
    let months = Field::parse(month, 1, 12, &MONTHS)?;
    let weekdays = Field::parse(weekday, 0, 7, &WEEKDAYS)?;

    let fires_on = |date: NaiveDate| {
        let by_day = days.has(date.day());
        let from_sunday = date.weekday().num_days_from_sunday();
        let by_weekday = weekdays.has(from_sunday) || from_sunday == 0 && weekdays.has(7);
        let by_either = match (days.any, weekdays.any) {
            (false, false) => by_day || by_weekday,
            _ => by_day && by_weekday,
        };
        months.has(date.month()) && by_either
    };
    let first = (now + TimeDelta::minutes(1)).naive_utc();
    let mut dates =
        (0..SEARCHED_DAYS).map_while(|days| first.date().checked_add_days(Days::new(days)));
    dates.find_map(|date| {
        if !fires_on(date) {
            return None;
        }
        let times = (0..24).filter(|hour| hours.has(*hour)).flat_map(|hour| {
            let minutes = (0..60).filter(|minute| minutes.has(*minute));
            minutes.map(move |minute| (hour, minute))
        });
        let mut instants = times.filter_map(|(hour, minute)| date.and_hms_opt(hour, minute, 0));
        instants.find(|instant| instant.and_utc() > now).map(|instant| instant.and_utc())
    })
}

/// Which values of a field fire.
struct Field {
    values: u64,
    /// Written as `*` or `?`: no restriction.
    any: bool,
}

impl Field {
    fn parse(text: &str, min: u32, max: u32, names: &[&str]) -> Option<Self> {
        let mut values = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step.parse().ok().filter(|step| *step > 0)?)),
                None => (part, None),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" || range == "?" => (min, max),
                Some((first, last)) => (value(first, min, names)?, value(last, min, names)?),
                None => {
                    let first = value(range, min, names)?;
                    (first, if step.is_some() { max } else { first })
                }
            };
            if first < min || last > max || first > last {
                return None;
            }
            for value in (first..=last).step_by(step.unwrap_or(1)) {
                values |= 1 << value;
            }
        }
        let any = text.starts_with(['*', '?']);
        Some(Self { values, any })
    }

    fn has(&self, value: u32) -> bool {
        self.values & (1 << value) != 0
    }
}

fn value(text: &str, min: u32, names: &[&str]) -> Option<u32> {
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match named {
        Some(index) => Some(u32::try_from(index).ok()? + min),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, now: &str) -> Option<String> {
        let now = DateTime::parse_from_rfc3339(now).unwrap().to_utc();
        next_run(schedule, now).map(|next| next.format("%Y-%m-%d %H:%M").to_string())
    }

    #[test]
    fn firings() {
        // A Monday.
        let now = "2024-01-15T10:30:30Z";
        for (schedule, expected) in [
            ("* * * * *", "2024-01-15 10:31"),
            ("30 10 * * *", "2024-01-16 10:30"),
            ("*/15 * * * *", "2024-01-15 10:45"),
            ("5/20 * * * *", "2024-01-15 10:45"),
            ("0 2 * * *", "2024-01-16 02:00"),
            ("0 0,12 * * *", "2024-01-15 12:00"),
            ("0 9-17 * * *", "2024-01-15 11:00"),
            ("0 0 * * 0", "2024-01-21 00:00"),
            ("0 0 * * 7", "2024-01-21 00:00"),
            ("0 0 * * FRI", "2024-01-19 00:00"),
            ("0 0 1 * *", "2024-02-01 00:00"),
            ("0 0 29 feb *", "2024-02-29 00:00"),
            ("0 0 1 * wed", "2024-01-17 00:00"),
            ("@daily", "2024-01-16 00:00"),
            ("@hourly", "2024-01-15 11:00"),
        ] {
            assert_eq!(next(schedule, now).as_deref(), Some(expected), "{schedule}");
        }
    }

    #[test]
    fn exactly_now_is_past() {
        assert_eq!(
            next("30 10 * * *", "2024-01-15T10:30:00Z").as_deref(),
            Some("2024-01-16 10:30")
        );
        assert_eq!(
            next("59 23 31 12 *", "2024-12-31T23:58:59Z").as_deref(),
            Some("2024-12-31 23:59")
        );
    }

    #[test]
    fn what_is_not_understood_is_unknown() {
        let unknown = [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "a * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "TZ=Asia/Tokyo 0 0 * * *",
            "@every 1h",
            "0 0 31 2 *",
        ];
        for schedule in unknown {
            assert_eq!(next(schedule, "2024-01-15T10:30:00Z"), None, "{schedule}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(schedule in "[*?/,0-9a-z -]{0,20}") {
            let _ = next_run(&schedule, DateTime::UNIX_EPOCH);
        }
    }
}
