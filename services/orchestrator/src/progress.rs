//! How far running sessions are: what workers reported, kept in memory. A restart forgets it and the next report brings
//! it back, so nothing here is a result.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use coffer_runtime::grant::SessionRef;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Sessions that are remembered; when there are more, the one that was silent longest is forgotten.
const SESSIONS: usize = 4096;
/// Rates are taken over this many seconds.
const WINDOW_SECONDS: i64 = 5;
/// Reports kept for a rate.
const SAMPLES: usize = 64;

/// What a worker reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `connect`, `wait`, `transfer`, `commit`, `load`.
    pub stage: String,
    /// Bytes so far.
    pub bytes: u64,
    /// Of how many; 0 while unknown.
    pub total_bytes: u64,
    /// Keys so far.
    pub keys: u64,
    /// Of how many; 0 while unknown.
    pub total_keys: u64,
    /// What it waits for before it can begin; empty when it does not.
    pub waiting: String,
}

/// A report and what follows from the ones before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transfer {
    /// The last report.
    pub report: Report,
    /// Bytes per second, over the last seconds.
    pub bytes_per_second: f64,
    /// Seconds left; 0 while unknown.
    pub eta_seconds: u64,
}

/// The progress of all running sessions. Clones share it.
#[derive(Clone)]
pub struct Board {
    sessions: Arc<Mutex<HashMap<SessionRef, Entry>>>,
    changed: watch::Sender<u64>,
}

struct Entry {
    samples: VecDeque<(DateTime<Utc>, u64)>,
    transfer: Transfer,
}

impl Default for Board {
    fn default() -> Self {
        Self { sessions: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Board {
    /// Takes a report. Tells whether the session waits for something else than before, or no longer.
    pub fn report(&self, session: SessionRef, report: Report, now: DateTime<Utc>) -> bool {
        let mut sessions = self.sessions.lock();
        if !sessions.contains_key(&session) && sessions.len() >= SESSIONS {
            let last = |entry: &Entry| entry.samples.back().map(|(at, _)| *at);
            let oldest = sessions.iter().min_by_key(|(_, e)| last(e)).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                sessions.remove(&oldest);
            }
        }
        let entry = sessions
            .entry(session)
            .or_insert_with(|| Entry { samples: VecDeque::new(), transfer: Transfer::default() });
        let turned = entry.transfer.report.waiting != report.waiting;
        entry.add(report, now);
        drop(sessions);
        self.changed.send_modify(|version| *version += 1);
        turned
    }

    /// How far a session is.
    #[must_use]
    pub fn get(&self, session: &SessionRef) -> Option<Transfer> {
        self.sessions.lock().get(session).map(|entry| entry.transfer.clone())
    }

    /// What a session waits for, if it does.
    #[must_use]
    pub fn waiting(&self, session: &SessionRef) -> Option<String> {
        let sessions = self.sessions.lock();
        let waiting = &sessions.get(session)?.transfer.report.waiting;
        Some(waiting.clone()).filter(|waiting| !waiting.is_empty())
    }

    /// Forgets a session that is over.
    pub fn forget(&self, session: &SessionRef) {
        self.sessions.lock().remove(session);
    }

    /// Changes with every report, of whatever session.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Entry {
    fn add(&mut self, report: Report, now: DateTime<Utc>) {
        // Another stage, or another attempt: what was measured before says nothing about it.
        if report.stage != self.transfer.report.stage || report.bytes < self.transfer.report.bytes {
            self.samples.clear();
        }
        self.samples.push_back((now, report.bytes));
        let oldest = now - TimeDelta::seconds(WINDOW_SECONDS);
        while self.samples.len() > SAMPLES
            || (self.samples.len() > 2 && self.samples.front().is_some_and(|(at, _)| *at < oldest))
        {
            self.samples.pop_front();
        }
        let rate = self.rate();
        let left = report.total_bytes.saturating_sub(report.bytes);
        self.transfer = Transfer { bytes_per_second: rate, eta_seconds: eta(left, rate), report };
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self) -> f64 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back())
        else {
            return 0.0;
        };
        let millis = (*to - *from).num_milliseconds();
        if millis <= 0 { 0.0 } else { (last - first) as f64 * 1000.0 / millis as f64 }
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate for people; the cast saturates"
)]
fn eta(left: u64, rate: f64) -> u64 {
    if left == 0 || rate <= 0.0 { 0 } else { (left as f64 / rate).ceil() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> SessionRef {
        SessionRef { kind: "BackupSession".into(), namespace: "demo".into(), name: name.into() }
    }

    fn report(stage: &str, bytes: u64) -> Report {
        Report { stage: stage.into(), bytes, total_bytes: 1000, ..Report::default() }
    }

    #[test]
    fn rate_and_eta_follow_the_reports() {
        let board = Board::default();
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        board.report(session("a"), report("transfer", 100), at(0));
        assert_eq!(board.get(&session("a")).unwrap().eta_seconds, 0);
        board.report(session("a"), report("transfer", 300), at(2));
        let transfer = board.get(&session("a")).unwrap();
        assert!((transfer.bytes_per_second - 100.0).abs() < 1e-9);
        assert_eq!(transfer.eta_seconds, 7);
        // Old samples leave the window: now it is 300 bytes in the last 4 seconds.
        board.report(session("a"), report("transfer", 500), at(10));
        board.report(session("a"), report("transfer", 800), at(14));
        assert!((board.get(&session("a")).unwrap().bytes_per_second - 75.0).abs() < 1e-9);
        board.report(session("a"), report("commit", 800), at(15));
        assert!(board.get(&session("a")).unwrap().bytes_per_second.abs() < 1e-9);
        board.forget(&session("a"));
        assert_eq!(board.get(&session("a")), None);
    }

    #[test]
    fn what_a_session_waits_for_is_told_when_it_changes() {
        let board = Board::default();
        let tell = |waiting: &str| {
            let report = Report { waiting: waiting.into(), ..report("connect", 0) };
            board.report(session("a"), report, DateTime::UNIX_EPOCH)
        };
        for (waiting, turned) in
            [("", false), ("a lock", true), ("a lock", false), ("another", true), ("", true)]
        {
            assert_eq!(tell(waiting), turned, "{waiting}");
            let waits = board.waiting(&session("a"));
            assert_eq!(waits.unwrap_or_default(), waiting);
        }
        assert_eq!(board.waiting(&session("b")), None);
    }

    #[test]
    fn the_board_is_bounded() {
        let board = Board::default();
        for n in 0..=SESSIONS {
            let second = i64::try_from(n).unwrap();
            let at = DateTime::from_timestamp(second, 0).unwrap();
            board.report(session(&n.to_string()), report("transfer", 1), at);
        }
        assert_eq!(board.sessions.lock().len(), SESSIONS);
        assert_eq!(board.get(&session("0")), None);
        assert!(board.get(&session(&SESSIONS.to_string())).is_some());
    }
}
