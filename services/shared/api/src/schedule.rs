//! When a schedule fires: cron texts as Kubernetes reads them, in UTC, which is a controller's time zone. One reader for
//! all who need it: the orchestrator, `coffer status`, and the CronJobs of `coffer up`.
//!
//! The fields are expanded here and only then given to the `cron` crate, whose own grammar is another one: it has a field
//! for seconds, counts Sunday as 1, and takes the two day fields together where cron takes either. Pure: time comes in.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

/// A text that is no schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// There is none.
    #[error("the schedule is empty: write five fields, as in \"30 2 * * *\", or @daily")]
    Empty,
    /// Not five fields.
    #[error(
        "schedule \"{text}\" has {found} fields, not five: minute hour day-of-month month day-of-week"
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
    /// A day that no calendar has.
    #[error("schedule \"{0}\" never fires: no month has such a day")]
    Never(String),
}

/// When something is due.
#[derive(Clone, Debug)]
pub struct Schedule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Due when any of them is: two, when both day fields are restricted.
    Cron(Vec<cron::Schedule>),
    /// Every so many seconds, counted from 1970 so that a restart does not shift them.
    Every(i64),
}

struct Field {
    name: &'static str,
    from: u32,
    to: u32,
    words: &'static [&'static str],
}

/// How far back to look at first for the latest firing.
const LATELY: [TimeDelta; 3] = [TimeDelta::hours(1), TimeDelta::days(1), TimeDelta::days(30)];

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", from: 0, to: 59, words: &[] },
    Field { name: "hour", from: 0, to: 23, words: &[] },
    Field { name: "day of month", from: 1, to: 31, words: &[] },
    Field { name: "month", from: 1, to: 12, words: MONTHS },
    // 7 is Sunday, as 0 is.
    Field { name: "day of week", from: 0, to: 7, words: DAYS },
];

impl Schedule {
    /// Reads a cron text: five fields or an `@` word.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let fields = match text {
            "" => return Err(ParseError::Empty),
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            _ => match text.strip_prefix('@') {
                Some(word) => return every(text, word),
                None => text,
            },
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(ParseError::Fields { text: text.to_owned(), found: parts.len() });
        };
        let [minutes, hours, days, months, weekdays] = [
            expand(text, minute, &FIELDS[0])?,
            expand(text, hour, &FIELDS[1])?,
            expand(text, day, &FIELDS[2])?,
            expand(text, month, &FIELDS[3])?,
            // The crate counts from Sunday = 1.
            expand(text, weekday, &FIELDS[4])?.into_iter().map(|d| d % 7 + 1).collect(),
        ];
        let build = |days: &str, weekdays: &str| {
            let (minutes, hours, months) = (list(&minutes), list(&hours), list(&months));
            let cron: Result<cron::Schedule, _> =
                format!("0 {minutes} {hours} {days} {months} {weekdays}").parse();
            cron.map_err(|_| ParseError::Never(text.to_owned()))
        };
        let schedules = match (is_star(day), is_star(weekday)) {
            (_, true) => vec![build(&list(&days), "*")?],
            (true, false) => vec![build("*", &list(&weekdays))?],
            (false, false) => vec![build(&list(&days), "*")?, build("*", &list(&weekdays))?],
        };
        if schedules.iter().all(|s| s.after(&DateTime::UNIX_EPOCH).next().is_none()) {
            return Err(ParseError::Never(text.to_owned()));
        }
        Ok(Self(Kind::Cron(schedules)))
    }

    /// The first instant later than `after`.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.0 {
            Kind::Cron(any) => any.iter().filter_map(|s| s.after(&after).next()).min(),
            Kind::Every(seconds) => {
                let next = (after.timestamp().div_euclid(*seconds) + 1).checked_mul(*seconds)?;
                DateTime::from_timestamp(next, 0)
            }
        }
    }

    /// The latest instant in `(since, now]` that is at most `deadline` old. What was missed before it is not made up for:
    /// one backup now is worth as much as three.
    #[must_use]
    pub fn due(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        deadline: Duration,
    ) -> Option<DateTime<Utc>> {
        let deadline = TimeDelta::from_std(deadline).unwrap_or(TimeDelta::MAX);
        // One second earlier, since `next` is strictly later and an instant exactly at the deadline counts.
        let horizon = now
            .checked_sub_signed(deadline)
            .and_then(|h| h.checked_sub_signed(TimeDelta::seconds(1)))
            .unwrap_or(DateTime::UNIX_EPOCH);
        let earliest = since.max(horizon);
        // From the end: what fires often has fired lately, and a year of its minutes is not walked through.
        let recent = LATELY.iter().filter_map(|lately| now.checked_sub_signed(*lately));
        let starts = recent.filter(|start| *start > earliest).chain([earliest]);
        let mut due = starts.map(|start| self.last_of(start, now));
        due.find_map(|latest| latest)
    }

    /// The last instant in `(after, until]`.
    fn last_of(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let first = self.next(after);
        std::iter::successors(first, |at| self.next(*at)).take_while(|at| *at <= until).last()
    }
}

fn every(text: &str, word: &str) -> Result<Schedule, ParseError> {
    let error = || ParseError::Word(text.to_owned());
    let span = word.strip_prefix("every ").ok_or_else(error)?;
    let span = crate::duration::parse(span).map_err(|_| error())?;
    match i64::try_from(span.as_secs()) {
        Ok(seconds) if seconds > 0 => Ok(Schedule(Kind::Every(seconds))),
        Ok(_) | Err(_) => Err(error()),
    }
}

/// True when a day field leaves the choice of days to the other one. A step restricts, so `*/2` does not.
fn is_star(field: &str) -> bool {
    field.split(',').any(|part| matches!(part, "*" | "?" | "*/1"))
}

fn list(numbers: &BTreeSet<u32>) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// Every number that a field stands for.
fn expand(text: &str, field: &str, is: &Field) -> Result<BTreeSet<u32>, ParseError> {
    let mut numbers = BTreeSet::new();
    for part in field.split(',') {
        let error = || ParseError::Field {
            text: text.to_owned(),
            part: part.to_owned(),
            field: is.name,
            from: is.from,
            to: is.to,
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse().map_err(|_| error())?)),
            None => (part, None),
        };
        let (first, last) = match range {
            "*" | "?" => (is.from, is.to),
            _ => match range.split_once('-') {
                Some((first, last)) => {
                    (is.number(first).ok_or_else(error)?, is.number(last).ok_or_else(error)?)
                }
                None => {
                    let first = is.number(range).ok_or_else(error)?;
                    // `5/15` runs to the end.
                    (first, if step.is_some() { is.to } else { first })
                }
            },
        };
        let step: u32 = step.unwrap_or(1);
        if step == 0 || first > last {
            return Err(error());
        }
        numbers.extend((first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)));
    }
    Ok(numbers)
}

impl Field {
    fn number(&self, text: &str) -> Option<u32> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let number = match word {
            Some(position) => u32::try_from(position).ok()? + self.from,
            None => text.parse().ok()?,
        };
        (self.from..=self.to).contains(&number).then_some(number)
    }
}

#[cfg(test)]
mod tests;
