//! Which of several orchestrators acts: the rules of a Lease. Pure.
//!
//! Clocks of different machines are not compared. A Lease has run out when this process has seen it unchanged for as long
//! as its holder promised to renew it; the times written in it are for people.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::time::from_clock;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

/// The Lease, and who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: no two processes at a time have the same identity.
    pub identity: String,
    /// For how long a holder may act without renewing.
    pub duration: Duration,
}

impl Rules {
    /// How often a holder renews, and others look.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.duration / 5
    }

    /// Until when somebody who asked for the Lease at this instant, and got it, may act. It ends before the Lease does, so
    /// that a slow holder has stopped when the next one starts.
    #[must_use]
    pub fn valid_until(&self, asked: DateTime<Utc>) -> DateTime<Utc> {
        asked + span(self.duration) - span(self.pause())
    }
}

/// The Lease as it was when it last changed, and when we first saw it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Its version.
    pub version: Option<String>,
    /// By our clock.
    pub since: DateTime<Utc>,
}

/// What to do about a Lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create it, so that we hold it.
    Create(Box<Lease>),
    /// Replace it by this, so that we hold it on.
    Replace(Box<Lease>),
    /// Another one holds it; look again then.
    Wait(DateTime<Utc>),
}

/// Decides, and keeps what was seen.
#[must_use]
pub fn decide(
    found: Option<&Lease>,
    sight: &mut Option<Sight>,
    rules: &Rules,
    now: DateTime<Utc>,
) -> Step {
    let Some(lease) = found else {
        return Step::Create(Box::new(ours(ObjectMeta::default(), None, rules, now)));
    };
    let version = lease.metadata.resource_version.clone();
    let since = match sight {
        Some(seen) if seen.version == version => seen.since,
        _ => now,
    };
    *sight = Some(Sight { version, since });
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let promised = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let promised = promised.map_or(rules.duration, Duration::from_secs);
    let ends = since + span(promised);
    if holder.is_empty() || holder == rules.identity || now >= ends {
        return Step::Replace(Box::new(ours(lease.metadata.clone(), Some(spec), rules, now)));
    }
    Step::Wait(ends.min(now + span(rules.pause())))
}

/// The Lease as its holder gives it back.
#[must_use]
pub fn released(mut lease: Lease) -> Lease {
    lease.spec.get_or_insert_default().holder_identity = Some(String::new());
    lease
}

fn ours(meta: ObjectMeta, old: Option<LeaseSpec>, rules: &Rules, now: DateTime<Utc>) -> Lease {
    let old = old.unwrap_or_default();
    let at = MicroTime(from_clock(now).0);
    let held = old.holder_identity.as_deref() == Some(&rules.identity);
    let transitions = old.lease_transitions.unwrap_or(0);
    Lease {
        metadata: ObjectMeta {
            name: Some(rules.name.clone()),
            namespace: Some(rules.namespace.clone()),
            ..meta
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(rules.identity.clone()),
            lease_duration_seconds: i32::try_from(rules.duration.as_secs()).ok(),
            acquire_time: if held { old.acquire_time } else { Some(at.clone()) },
            renew_time: Some(at),
            lease_transitions: Some(if held { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }),
    }
}

fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(identity: &str) -> Rules {
        Rules {
            namespace: "coffer-system".into(),
            name: "coffer-orchestrator".into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn stored(step: Step, version: &str) -> Lease {
        let (Step::Create(mut lease) | Step::Replace(mut lease)) = step else { panic!("{step:?}") };
        lease.metadata.resource_version = Some(version.into());
        *lease
    }

    fn holder(lease: &Lease) -> (&str, i32) {
        let spec = lease.spec.as_ref().unwrap();
        (spec.holder_identity.as_deref().unwrap(), spec.lease_transitions.unwrap())
    }

    #[test]
    fn a_lease_is_taken_when_it_was_not_renewed_for_its_whole_length() {
        let (a, b) = (rules("a"), rules("b"));
        let (mut a_sees, mut b_sees) = (None, None);
        let lease = stored(decide(None, &mut a_sees, &a, at(0)), "1");
        assert_eq!(holder(&lease), ("a", 1));
        // Others look every three seconds, and take it fifteen seconds after they first saw it so.
        assert_eq!(decide(Some(&lease), &mut b_sees, &b, at(1)), Step::Wait(at(4)));
        let renewed = stored(decide(Some(&lease), &mut a_sees, &a, at(3)), "2");
        assert_eq!(holder(&renewed), ("a", 1));
        assert_eq!(renewed.spec.as_ref().unwrap().acquire_time, lease.spec.unwrap().acquire_time);
        assert_eq!(decide(Some(&renewed), &mut b_sees, &b, at(4)), Step::Wait(at(7)));
        assert_eq!(decide(Some(&renewed), &mut b_sees, &b, at(17)), Step::Wait(at(19)));
        let taken = stored(decide(Some(&renewed), &mut b_sees, &b, at(19)), "3");
        assert_eq!(holder(&taken), ("b", 2));
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("3"));
        // The first one, if it was only slow, has stopped by then.
        assert!(a.valid_until(at(3)) < at(18));
        assert!(matches!(decide(Some(&taken), &mut a_sees, &a, at(20)), Step::Wait(_)));
    }

    #[test]
    fn a_lease_that_is_given_back_is_taken_at_once() {
        let lease = stored(decide(None, &mut None, &rules("a"), at(0)), "1");
        let free = released(lease);
        assert!(matches!(decide(Some(&free), &mut None, &rules("b"), at(1)), Step::Replace(_)));
    }
}
