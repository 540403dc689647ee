//! How long a session waits for somebody who does not answer: counted from when that began, however long it waited for its
//! turn before. The condition that says whether its Job was made is `Unknown` since then. Pure.

use chrono::{DateTime, Utc};
use coffer_api::{
    condition::{self, Condition, Kind, Status},
    time::{from_clock, to_clock},
};

/// The same at each pass: a condition whose message changes begins anew.
const UNANSWERED: &str = "what its Job is made of could not be read yet";

/// Forgets that somebody did not answer, and tells since when: a pass for which that is still so notes it again.
#[must_use]
pub fn take(conditions: &mut Vec<Condition>, kind: Kind) -> Option<DateTime<Utc>> {
    let at = conditions.iter().position(|c| c.kind == kind.name && c.status == Status::Unknown)?;
    Some(to_clock(&conditions.remove(at).last_transition_time))
}

/// Notes that somebody does not answer, since then.
pub fn note(conditions: &mut Vec<Condition>, kind: Kind, since: DateTime<Utc>) {
    condition::set(conditions, kind.is_unknown(UNANSWERED, from_clock(since)));
}
