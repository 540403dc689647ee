//! What the schedule of a BackupConfiguration says: is a session due, was one missed, who makes it. Pure.
//!
//! `CronJobCreated` keeps its name and means that the schedule is in force; its message names the next run. The message
//! changes with every run, with the schedule and with a pause, so its transition time is the instant since when the
//! present schedule is in force: whatever was due between then and now was missed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration,
    backup_configuration::Scheduler,
    condition::{self, Condition},
    names,
    schedule::{Due, ParseError, Schedule, Written},
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    backup_session::draft,
    plan::{Action, Child, Notice},
    settings::Settings,
    trigger,
};

/// The schedule as it is written, for this object.
fn schedule(object: &BackupConfiguration) -> Result<Schedule, ParseError> {
    let seed = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let time_zone = object.spec.time_zone.as_deref();
    Schedule::parse(Written { text: &object.spec.schedule, time_zone, seed: &seed })
}

/// Whether the schedule is one, and a CronJob can keep it if one is to.
pub(crate) fn check(object: &BackupConfiguration) -> Result<(), String> {
    let schedule = schedule(object).map_err(|error| error.to_string())?;
    if object.spec.scheduler == Some(Scheduler::Cronjob) && schedule.cron_job().is_none() {
        return Err(format!(
            "schedule \"{}\" has seconds, which a CronJob does not have: leave them out, or scheduler: cronjob",
            object.spec.schedule
        ));
    }
    Ok(())
}

/// What the schedule says, and when to look again.
#[derive(Default)]
pub(crate) struct Run {
    due: Due,
    pub(crate) next: Option<DateTime<Utc>>,
    /// The CronJob that there is to be, or the one that is not to be any more.
    pub(crate) trigger: Option<Action>,
}

/// What that depends on besides the object.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Whether all is there that a schedule needs to come into force.
    pub(crate) complete: bool,
    /// Names of the sessions that it has.
    pub(crate) sessions: &'a [String],
}

impl Run {
    /// Tells of missed runs, and makes the session that is due.
    pub(crate) fn actions(&self, kind: &str, object: &BackupConfiguration) -> Vec<Action> {
        let due = self.due.now.map(|instant| {
            let session = draft::scheduled(kind, object, instant);
            tracing::info!(session = session.name_any(), %instant, "a session is due");
            Action::CreateSession(Box::new(session))
        });
        missed(&self.due).map(Action::Emit).into_iter().chain(due).collect()
    }
}

/// The session that is due by a schedule in force, and that can be made before anything else is looked at: nothing of what
/// it is made of lies outside the object. Runs that were missed are left to the pass, which tells of them.
pub(crate) fn due(
    kind: &str,
    object: &BackupConfiguration,
    sessions: &[String],
    now: DateTime<Utc>,
    settings: &Settings,
) -> Vec<Action> {
    let ours = object.finalizers().iter().any(|name| name == names::FINALIZER);
    if !ours || object.metadata.deletion_timestamp.is_some() {
        return vec![];
    }
    let mut conditions = object.status.clone().unwrap_or_default().conditions;
    let run = decide(object, Seen { complete: false, sessions }, now, settings, &mut conditions);
    if run.due.missed.is_some() { vec![] } else { run.actions(kind, object) }
}

/// How the message begins while a CronJob makes the sessions.
const BY_CRON_JOB: &str = "CronJob ";

/// Sets the schedule's condition once the target was found, and tells what is due. A schedule that came into force stays
/// so when something goes missing later, as a CronJob would: its sessions then say what is missing.
pub(crate) fn decide(
    object: &BackupConfiguration,
    Seen { complete, sessions }: Seen<'_>,
    now: DateTime<Utc>,
    settings: &Settings,
    all: &mut Vec<Condition>,
) -> Run {
    let kind = condition::CRON_JOB_CREATED;
    let generation = object.metadata.generation;
    let set = |all: &mut Vec<Condition>, new: Condition| condition::set(all, new.of(generation));
    let text = object.spec.schedule.trim();
    let schedule = match schedule(object) {
        Ok(schedule) => schedule,
        Err(error) => {
            set(all, kind.is_false(error.to_string(), from_clock(now)));
            return Run::default();
        }
    };
    if !kind.holds(all) && !complete {
        return Run::default();
    }
    let was_cron_job =
        kind.find(all).is_some_and(|condition| condition.message.starts_with(BY_CRON_JOB));
    let cron_job = names::cron_job(&object.name_any());
    if object.spec.scheduler == Some(Scheduler::Cronjob) {
        let trigger = schedule.cron_job().and_then(|text| trigger::render(object, text, settings));
        let suspended = if object.spec.paused { " and is suspended" } else { "" };
        let condition = match trigger {
            Some(_) => kind.is_true(
                format!("{BY_CRON_JOB}{cron_job} makes the sessions{suspended}"),
                from_clock(now),
            ),
            None => kind.is_false("a CronJob has no seconds", from_clock(now)),
        };
        set(all, condition);
        let trigger = trigger.map(|trigger| Action::ApplyTrigger(Box::new(trigger)));
        return Run { trigger, ..Run::default() };
    }
    let namespace = object.namespace().unwrap_or_default();
    let gone = was_cron_job.then(|| Action::DeleteTrigger(Child { namespace, name: cron_job }));
    if object.spec.paused {
        let message = format!("schedule \"{text}\" is paused: set spec.paused to false to resume");
        set(all, kind.is_true(message, from_clock(now)));
        return Run { trigger: gone, ..Run::default() };
    }
    let in_force = format!("schedule \"{text}\" is in force, in {}; next run ", schedule.zone());
    let since = kind
        .find(all)
        .filter(|condition| condition.message.starts_with(&in_force))
        .map_or(now, |condition| to_clock(&condition.last_transition_time));
    let created = object.metadata.creation_timestamp.as_ref().map_or(since, to_clock);
    // A session that somebody triggered in between stands for no instant of the schedule.
    let made = sessions.iter().filter_map(|name| instant(name));
    let last = made.filter(|at| *at <= now && *at > since && schedule.fires_at(*at)).max();
    let since = since.max(created).max(last.unwrap_or(since));
    let seconds = object.spec.starting_deadline_seconds.and_then(|s| u64::try_from(s).ok());
    let deadline = seconds.map_or(settings.starting_deadline, Duration::from_secs);
    let due = schedule.due(since, now, deadline);
    let next = schedule.next(now);
    let run = next.map_or_else(|| "never".to_owned(), |next| next.format("%FT%TZ").to_string());
    set(all, kind.is_true(format!("{in_force}{run}"), from_clock(now)));
    Run { due, next, trigger: gone }
}

/// Tells of runs that nobody made: once, since the next pass counts from now on.
fn missed(due: &Due) -> Option<Notice> {
    let (first, last) = due.missed?;
    let stamp = |at: DateTime<Utc>| at.format("%FT%TZ").to_string();
    let count = due.missed_count;
    let runs = match count {
        1 => format!("the run of {} was missed", stamp(first)),
        _ => format!(
            "{}{count} runs from {} to {} were missed",
            if count >= Due::COUNTED { "at least " } else { "" },
            stamp(first),
            stamp(last)
        ),
    };
    let then = match due.now {
        Some(now) => format!("the one of {} is made now", stamp(now)),
        None => "none of them is made up for, the last one is older than the starting deadline"
            .to_owned(),
    };
    Some(Notice { warning: true, reason: "Missed Schedule", message: format!("{runs}; {then}") })
}

/// The instant that a session was made for, from its name.
fn instant(session: &str) -> Option<DateTime<Utc>> {
    let (_, seconds) = session.rsplit_once('-')?;
    DateTime::from_timestamp(seconds.parse().ok()?, 0)
}
