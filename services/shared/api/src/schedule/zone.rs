//! Times of day in a time zone, when clocks are changed. What is due in an hour that does not exist runs as long after the
//! change as it would have without it; what is due in an hour that comes twice runs in the first one, unless it runs at
//! every hour anyway. So no day is without its backup and none has two, and what runs every quarter of an hour does.

use chrono::{
    DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc, offset::LocalResult,
};
use chrono_tz::Tz;

/// Further than clocks are set in one go.
const REACH: TimeDelta = TimeDelta::hours(4);
/// A time this much earlier, taken for UTC, is before any change that a local time lies in.
const BEFORE: TimeDelta = TimeDelta::hours(26);

/// What happens to an hour that comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    /// It is a time of the day: once a day.
    First,
    /// It is one of all hours.
    Both,
}

/// The first instant later than `after` at which clocks in the zone show a time of the schedule.
pub(super) fn next(
    cron: &cron::Schedule,
    zone: Tz,
    twice: Twice,
    after: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let local = zone.from_utc_datetime(&after.naive_utc()).naive_local();
    let changes = changes(zone, after);
    // Near a change, times that the clock has shown already may come again, or stand for later ones.
    let from = if changes { local - REACH } else { local };
    let mut best: Option<DateTime<Utc>> = None;
    for time in cron.after(&from.and_utc()) {
        let (first, second) = instants(zone, time.naive_utc(), twice);
        let later = [Some(first), second].into_iter().flatten().filter(|at| *at > after);
        best = later.chain(best).min();
        if let Some(best) = best
            && (first - best > REACH || !(changes || self::changes(zone, first)))
        {
            break;
        }
    }
    best
}

/// The instants at which clocks show this time; where they never do, the one that stands for it.
fn instants(zone: Tz, time: NaiveDateTime, twice: Twice) -> (DateTime<Utc>, Option<DateTime<Utc>>) {
    match zone.from_local_datetime(&time) {
        LocalResult::Single(at) => (at.to_utc(), None),
        LocalResult::Ambiguous(first, second) => {
            (first.to_utc(), (twice == Twice::Both).then(|| second.to_utc()))
        }
        LocalResult::None => {
            let before = zone.offset_from_utc_datetime(&(time - BEFORE)).fix();
            let shift = TimeDelta::seconds(i64::from(before.local_minus_utc()));
            ((time - shift).and_utc(), None)
        }
    }
}

/// Whether clocks are changed within reach of an instant.
fn changes(zone: Tz, at: DateTime<Utc>) -> bool {
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let here = offset(at);
    offset(at - REACH) != here || offset(at + REACH) != here
}
