//! When a schedule fires: cron texts as Kubernetes reads them, in UTC, which is a controller's time zone, or in the zone
//! that the user names; with a field for seconds in front where there are six. One reader for all who need it: the
//! orchestrator, `coffer status`, and the CronJobs of `coffer up`.
//!
//! The fields are expanded here and only then given to the `cron` crate, whose own grammar is another one: it counts
//! Sunday as 1, and takes the two day fields together where cron takes either. Pure: time comes in.

mod fields;
mod zone;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use fields::{DAY, Field, HOUR, MINUTE, MONTH, SECOND, WEEKDAY, is_star, list};
use zone::Twice;

/// A text that is no schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// There is none.
    #[error("the schedule is empty: write five fields, as in \"30 2 * * *\", or @daily")]
    Empty,
    /// Neither five fields nor six.
    #[error(
        "schedule \"{text}\" has {found} fields, not five: minute hour day-of-month month day-of-week; or six, with the second in front"
    )]
    Fields {
        /// The schedule.
        text: String,
        /// How many it has.
        found: usize,
    },
    /// An `@` word that nobody knows.
    #[error(
        "schedule \"{0}\" is none: use @hourly, @daily, @weekly, @monthly, @yearly or @every 6h"
    )]
    Word(String),
    /// A field that is none.
    #[error("schedule \"{text}\": \"{part}\" is no {field} ({from} to {to})")]
    Field {
        /// The schedule.
        text: String,
        /// The part of it that is wrong.
        part: String,
        /// Which field.
        field: &'static str,
        /// Smallest number.
        from: u32,
        /// Largest number.
        to: u32,
    },
    /// A time zone that nobody knows.
    #[error("timeZone \"{0}\" is none: use a name of the IANA database, such as Europe/Berlin")]
    Zone(String),
    /// The zone belongs into a field of its own.
    #[error("schedule \"{0}\" names a time zone: use spec.timeZone for that")]
    ZoneInText(String),
    /// A day that no calendar has.
    #[error("schedule \"{0}\" never fires: no month has such a day")]
    Never(String),
}

/// A schedule as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    /// `spec.schedule`.
    pub text: &'a str,
    /// `spec.timeZone`; UTC when absent.
    pub time_zone: Option<&'a str>,
    /// Namespace and name of the invoker, from which `H` picks its numbers.
    pub seed: &'a str,
}

/// When sessions are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: Kind,
    zone: Tz,
    cron_job: Option<String>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Due when any of them is: two, when both day fields are restricted.
    Cron(Vec<cron::Schedule>, Twice),
    /// Every so many seconds, counted from 1970 so that a restart does not shift them.
    Every(i64),
}

/// What a schedule says about a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The instant that a session is to be made for.
    pub now: Option<DateTime<Utc>>,
    /// The first and the last of those that none is made for.
    pub missed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// How many those are, as far as they were counted.
    pub missed_count: usize,
}

impl Due {
    /// Where counting ends.
    pub const COUNTED: usize = 1000;
}

impl Schedule {
    /// Reads a cron text of five or six fields, or an `@` word.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(written: Written<'_>) -> Result<Self, ParseError> {
        let Written { text, time_zone, seed } = written;
        let text = text.trim();
        let zone = match time_zone.filter(|zone| !zone.is_empty()) {
            Some(zone) => zone.parse().map_err(|_| ParseError::Zone(zone.to_owned()))?,
            None => Tz::UTC,
        };
        let fields = match text {
            "" => return Err(ParseError::Empty),
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            _ if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") => {
                return Err(ParseError::ZoneInText(text.to_owned()));
            }
            _ => match text.strip_prefix('@') {
                Some(word) => {
                    let cron_job = Some(text.to_owned());
                    return Ok(Self { kind: every(text, word)?, zone, cron_job });
                }
                None => text,
            },
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let (second, [minute, hour, day, month, weekday]) = match parts.as_slice() {
            [second, rest @ ..] if rest.len() == 5 => {
                (*second, [rest[0], rest[1], rest[2], rest[3], rest[4]])
            }
            rest if rest.len() == 5 => ("0", [rest[0], rest[1], rest[2], rest[3], rest[4]]),
            _ => return Err(ParseError::Fields { text: text.to_owned(), found: parts.len() }),
        };
        let expand = |part: &str, field: &Field| {
            field.expand(part, seed).map_err(|part| ParseError::Field {
                text: text.to_owned(),
                part,
                field: field.name,
                from: field.from,
                to: field.to,
            })
        };
        let seconds = list(&expand(second, &SECOND)?);
        let minutes = list(&expand(minute, &MINUTE)?);
        let hours = list(&expand(hour, &HOUR)?);
        let days = list(&expand(day, &DAY)?);
        let months = list(&expand(month, &MONTH)?);
        // The crate counts from Sunday = 1.
        let weekdays = expand(weekday, &WEEKDAY)?.into_iter().map(|day| day % 7 + 1).collect();
        let weekdays = list(&weekdays);
        let build = |days: &str, weekdays: &str| {
            let cron: Result<cron::Schedule, _> =
                format!("{seconds} {minutes} {hours} {days} {months} {weekdays}").parse();
            cron.map_err(|_| ParseError::Never(text.to_owned()))
        };
        let schedules = match (is_star(day), is_star(weekday)) {
            (_, true) => vec![build(&days, "*")?],
            (true, false) => vec![build("*", &weekdays)?],
            (false, false) => vec![build(&days, "*")?, build("*", &weekdays)?],
        };
        if schedules.iter().all(|s| s.after(&DateTime::UNIX_EPOCH).next().is_none()) {
            return Err(ParseError::Never(text.to_owned()));
        }
        let twice = if hour.starts_with('*') { Twice::Both } else { Twice::First };
        // As it was written, but for `H`, which Kubernetes does not know.
        let plain = |part: &str, numbers: &str| {
            if part.contains('H') { numbers.to_owned() } else { part.to_owned() }
        };
        let weekday = expand(weekday, &WEEKDAY).map(|days| plain(weekday, &list(&days)))?;
        let fields = [
            plain(minute, &minutes),
            plain(hour, &hours),
            plain(day, &days),
            plain(month, &months),
            weekday,
        ];
        let cron_job = (seconds == "0").then(|| fields.join(" "));
        Ok(Self { kind: Kind::Cron(schedules, twice), zone, cron_job })
    }

    /// As the schedule of a CronJob; none when it needs a field for seconds.
    #[must_use]
    pub fn cron_job(&self) -> Option<&str> {
        self.cron_job.as_deref()
    }

    /// The zone that it is read in.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first instant later than `after`.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.kind {
            Kind::Cron(any, twice) => {
                any.iter().filter_map(|cron| zone::next(cron, self.zone, *twice, after)).min()
            }
            Kind::Every(seconds) => {
                let next = (after.timestamp().div_euclid(*seconds) + 1).checked_mul(*seconds)?;
                DateTime::from_timestamp(next, 0)
            }
        }
    }

    /// Whether it is due at just this instant.
    #[must_use]
    pub fn fires_at(&self, instant: DateTime<Utc>) -> bool {
        self.next(instant - TimeDelta::seconds(1)) == Some(instant)
    }

    /// What was due in `(since, now]`: the latest instant that is at most `deadline` old, and what was missed. That is not
    /// made up for: one backup now is worth as much as three.
    #[must_use]
    pub fn due(&self, since: DateTime<Utc>, now: DateTime<Utc>, deadline: Duration) -> Due {
        let deadline = TimeDelta::from_std(deadline).unwrap_or(TimeDelta::MAX);
        // One second earlier, since `next` is strictly later and an instant exactly at the deadline counts.
        let horizon = now
            .checked_sub_signed(deadline)
            .and_then(|h| h.checked_sub_signed(TimeDelta::seconds(1)))
            .unwrap_or(DateTime::UNIX_EPOCH);
        let mut due = Due::default();
        let mut all = self.until(since, now);
        let Some(first) = all.next() else { return due };
        // What is counted is bounded, and so is what may still be made.
        let counted = 1 + all.take(Due::COUNTED).count();
        due.now = self.latest(since.max(horizon), now);
        due.missed_count = counted - usize::from(due.now.is_some());
        if due.missed_count > 0 {
            let last = match due.now {
                Some(made) => self.latest(first, made - TimeDelta::seconds(1)),
                None => self.latest(first, now),
            };
            due.missed = Some((first, last.unwrap_or(first)));
        }
        due
    }

    /// The last instant in `(after, now]`. What runs often is looked for near the end, so that not every second of a day
    /// is walked through.
    fn latest(&self, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        for reach in [TimeDelta::minutes(1), TimeDelta::hours(1), TimeDelta::days(1)] {
            let found = self.until(after.max(now - reach), now).last();
            if found.is_some() {
                return found;
            }
        }
        self.until(after, now).last()
    }

    fn until(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> {
        let next = move |at: &DateTime<Utc>| self.next(*at).filter(|next| *next <= now);
        std::iter::successors(next(&since), next)
    }
}

fn every(text: &str, word: &str) -> Result<Kind, ParseError> {
    let error = || ParseError::Word(text.to_owned());
    let span = word.strip_prefix("every ").ok_or_else(error)?;
    let span = crate::duration::parse(span).map_err(|_| error())?;
    match i64::try_from(span.as_secs()) {
        Ok(seconds) if seconds > 0 => Ok(Kind::Every(seconds)),
        Ok(_) | Err(_) => Err(error()),
    }
}

#[cfg(test)]
mod tests;
