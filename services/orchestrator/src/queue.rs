//! Who may have a Job: so many at a time in the cluster, in a namespace and for a repository; the rest waits in the order
//! in which it was asked for. Pure: a state machine without a clock or a client.
//!
//! Nobody is passed over for long: who is ahead and fits has its Job reserved, and who does not fit holds nobody up
//! except those who wait for the same.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

/// How many Jobs at a time; 0 for as many as are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In the whole cluster.
    pub cluster: usize,
    /// In each namespace.
    pub namespace: usize,
    /// For each Repository.
    pub repository: usize,
}

impl Default for Limits {
    /// A hundred streams keep a storage-gateway busy; one namespace leaves half of them to the others.
    fn default() -> Self {
        Self { cluster: 100, namespace: 50, repository: 25 }
    }
}

/// Which kind of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A BackupSession.
    Backup,
    /// A RestoreSession.
    Restore,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of its targets.
    pub target: usize,
}

/// Namespace and name of a Repository.
pub type Repository = (String, String);

/// What a session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may have its Job.
    Go,
    /// It has to wait, and why.
    Wait(String),
}

/// The sessions that have a Job, and those that want one.
#[derive(Debug, Default)]
pub struct Queue {
    limits: Limits,
    running: BTreeMap<Session, Repository>,
    waiting: BTreeMap<(DateTime<Utc>, Session), Repository>,
}

impl Queue {
    /// Nobody has a Job yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A session that was created then wants a Job that writes to this repository.
    pub fn ask(
        &mut self,
        session: Session,
        created: DateTime<Utc>,
        repository: Repository,
    ) -> Turn {
        if self.running.contains_key(&session) {
            return Turn::Go;
        }
        let key = (created, session);
        self.waiting.insert(key.clone(), repository);
        let mut taken = self.taken();
        let mut ahead: BTreeMap<Scope, usize> = BTreeMap::new();
        for (other, repository) in &self.waiting {
            let full = taken.full(&self.limits, &other.1.namespace, repository);
            if *other == key {
                let Some(scope) = full else { break };
                let place = ahead.get(&scope).copied().unwrap_or(0) + 1;
                return Turn::Wait(scope.explain(&self.limits, place));
            }
            match full {
                Some(scope) => *ahead.entry(scope).or_default() += 1,
                None => taken.add(&other.1.namespace, repository),
            }
        }
        if let Some(repository) = self.waiting.remove(&key) {
            self.running.insert(key.1, repository);
        }
        Turn::Go
    }

    /// A session has its Job, whatever the limits say.
    pub fn hold(&mut self, session: Session, repository: Repository) {
        self.waiting.retain(|(_, waiting), _| *waiting != session);
        self.running.insert(session, repository);
    }

    /// A session has no Job any more, and wants none. Tells who would be let through now.
    pub fn leave(&mut self, session: &Session) -> Vec<Session> {
        let before = self.waiting.len();
        self.waiting.retain(|(_, waiting), _| waiting != session);
        if self.running.remove(session).is_none() && self.waiting.len() == before {
            return vec![];
        }
        let mut taken = self.taken();
        let mut next = vec![];
        for ((_, other), repository) in &self.waiting {
            if taken.full(&self.limits, &other.namespace, repository).is_none() {
                taken.add(&other.namespace, repository);
                next.push(other.clone());
            }
        }
        next
    }

    /// The same for all targets of a session.
    pub fn leave_all(&mut self, kind: Kind, namespace: &str, name: &str) -> Vec<Session> {
        let of = |session: &Session| {
            session.kind == kind && session.namespace == namespace && session.name == name
        };
        let all = self.running.keys().chain(self.waiting.keys().map(|(_, session)| session));
        let gone: Vec<Session> = all.filter(|session| of(session)).cloned().collect();
        let next: BTreeSet<Session> =
            gone.iter().flat_map(|session| self.leave(session)).filter(|s| !of(s)).collect();
        next.into_iter().collect()
    }

    fn taken(&self) -> Taken<'_> {
        let mut taken = Taken::default();
        for (session, repository) in &self.running {
            taken.add(&session.namespace, repository);
        }
        taken
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Cluster,
    Namespace(String),
    Repository(Repository),
}

impl Scope {
    fn explain(&self, limits: &Limits, place: usize) -> String {
        let (limit, of) = match self {
            Self::Cluster => (limits.cluster, "of the cluster".to_owned()),
            Self::Namespace(name) => (limits.namespace, format!("of namespace {name}")),
            Self::Repository((namespace, name)) => {
                (limits.repository, format!("of Repository {namespace}/{name}"))
            }
        };
        format!(
            "waits for its turn: all {limit} Jobs {of} are taken, and it is number {place} in line"
        )
    }
}

#[derive(Default)]
struct Taken<'a> {
    cluster: usize,
    namespaces: BTreeMap<&'a str, usize>,
    repositories: BTreeMap<&'a Repository, usize>,
}

impl<'a> Taken<'a> {
    fn add(&mut self, namespace: &'a str, repository: &'a Repository) {
        self.cluster += 1;
        *self.namespaces.entry(namespace).or_default() += 1;
        *self.repositories.entry(repository).or_default() += 1;
    }

    /// The widest scope without room.
    fn full(&self, limits: &Limits, namespace: &str, repository: &Repository) -> Option<Scope> {
        let is_full = |taken: usize, limit: usize| limit > 0 && taken >= limit;
        let of = |count: Option<&usize>| count.copied().unwrap_or(0);
        if is_full(self.cluster, limits.cluster) {
            Some(Scope::Cluster)
        } else if is_full(of(self.namespaces.get(namespace)), limits.namespace) {
            Some(Scope::Namespace(namespace.to_owned()))
        } else if is_full(of(self.repositories.get(repository)), limits.repository) {
            Some(Scope::Repository(repository.clone()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(namespace: &str, name: &str) -> Session {
        Session { kind: Kind::Backup, namespace: namespace.into(), name: name.into(), target: 0 }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn repo(name: &str) -> Repository {
        ("storage".into(), name.into())
    }

    #[test]
    fn who_asked_first_is_first() {
        let mut queue = Queue::new(Limits { cluster: 2, namespace: 0, repository: 0 });
        let mut ask = |name: &str, second| queue.ask(session("a", name), at(second), repo("r"));
        assert_eq!(ask("one", 1), Turn::Go);
        assert_eq!(ask("two", 2), Turn::Go);
        // It asked later, but was created earlier.
        let Turn::Wait(why) = ask("four", 4) else { panic!() };
        assert!(why.contains("all 2 Jobs of the cluster") && why.ends_with("number 1 in line"));
        let Turn::Wait(why) = ask("three", 3) else { panic!() };
        assert!(why.ends_with("number 1 in line"), "{why}");
        let Turn::Wait(why) = ask("four", 4) else { panic!() };
        assert!(why.ends_with("number 2 in line"), "{why}");
        // Asking again changes nothing for those who run.
        assert_eq!(ask("one", 1), Turn::Go);
        assert_eq!(queue.leave(&session("a", "two")), [session("a", "three")]);
        assert!(matches!(queue.ask(session("a", "four"), at(4), repo("r")), Turn::Wait(_)));
        assert_eq!(queue.ask(session("a", "three"), at(3), repo("r")), Turn::Go);
        // Who gives up makes room in the line, and is not there to be woken.
        assert_eq!(queue.leave(&session("a", "four")), []);
        assert_eq!(queue.leave(&session("a", "nobody")), []);
    }

    #[test]
    fn a_full_namespace_or_repository_does_not_hold_up_others() {
        let mut queue = Queue::new(Limits { cluster: 0, namespace: 2, repository: 1 });
        assert_eq!(queue.ask(session("a", "one"), at(1), repo("r")), Turn::Go);
        let Turn::Wait(why) = queue.ask(session("a", "two"), at(2), repo("r")) else { panic!() };
        assert!(why.contains("all 1 Jobs of Repository storage/r"), "{why}");
        assert_eq!(queue.ask(session("a", "three"), at(3), repo("s")), Turn::Go);
        let Turn::Wait(why) = queue.ask(session("a", "four"), at(4), repo("t")) else { panic!() };
        assert!(why.contains("all 2 Jobs of namespace a"), "{why}");
        assert_eq!(queue.ask(session("b", "five"), at(5), repo("u")), Turn::Go);
        // Both could have the place in the namespace; the older one gets it, and the other stays.
        assert_eq!(queue.leave(&session("a", "three")), [session("a", "four")]);
        assert_eq!(queue.leave(&session("a", "one")), [session("a", "two"), session("a", "four")]);
    }

    #[test]
    fn every_target_of_a_session_counts() {
        let mut queue = Queue::new(Limits { cluster: 2, namespace: 0, repository: 0 });
        let target = |target| Session { target, ..session("a", "batch") };
        for number in 0..2 {
            assert_eq!(queue.ask(target(number), at(1), repo("r")), Turn::Go);
        }
        assert!(matches!(queue.ask(target(2), at(1), repo("r")), Turn::Wait(_)));
        assert!(matches!(queue.ask(session("a", "other"), at(2), repo("r")), Turn::Wait(_)));
        assert_eq!(queue.leave(&target(0)), [target(2)]);
        assert_eq!(queue.leave_all(Kind::Backup, "a", "batch"), [session("a", "other")]);
    }

    #[test]
    fn what_runs_already_counts_also_above_the_limit() {
        let mut queue = Queue::new(Limits { cluster: 1, namespace: 0, repository: 0 });
        queue.hold(session("a", "one"), repo("r"));
        queue.hold(session("a", "two"), repo("r"));
        assert!(matches!(queue.ask(session("a", "three"), at(3), repo("r")), Turn::Wait(_)));
        assert_eq!(queue.leave(&session("a", "one")), []);
        assert_eq!(queue.leave(&session("a", "two")), [session("a", "three")]);
    }
}
