//! How a running session is shown: a bar on a terminal, plain lines elsewhere, nothing when quiet. All on stderr, so that
//! stdout holds the result and nothing else.
use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use coffer_proto::orchestrator::v1::{Session, Transfer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::figures;

/// A line at least this often, so that a log shows that something moves.
const LINE_EVERY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(120);

/// Shows one session.
pub enum Progress {
    /// Nothing.
    Quiet,
    /// Lines.
    Lines(Lines),
    /// A bar.
    Bar(ProgressBar),
}

/// What was last said.
#[derive(Default)]
pub struct Lines {
    last: Option<(Instant, String)>,
}

impl Progress {
    /// As the terminal and `--quiet` ask for.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !stderr().is_terminal() {
            return Self::Lines(Lines::default());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(false));
        bar.enable_steady_tick(TICK);
        Self::Bar(bar)
    }

    /// Shows how far the session is.
    pub fn update(&mut self, session: &Session) {
        match self {
            Self::Quiet => {}
            Self::Lines(lines) => {
                if let Some(line) = lines.next(session, Instant::now()) {
                    eprintln!("{line}");
                }
            }
            Self::Bar(bar) => {
                let transfer = session.transfer.clone().unwrap_or_default();
                let known = percent(&transfer).is_some();
                bar.set_style(style(known));
                if known {
                    bar.set_length(transfer.total_bytes);
                    bar.set_position(transfer.bytes);
                }
                bar.set_prefix(state(session));
                bar.set_message(detail(&transfer));
            }
        }
    }

    /// Says something between updates.
    pub fn say(&self, text: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines(_) => eprintln!("{text}"),
            Self::Bar(bar) => bar.println(text),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn style(known: bool) -> ProgressStyle {
    let template = if known {
        "{spinner:.cyan} {prefix} [{bar:28.cyan/blue}] {percent:>3}%  {msg}"
    } else {
        "{spinner:.cyan} {prefix}  {msg}"
    };
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

impl Lines {
    /// The next line, unless nothing new is worth one.
    fn next(&mut self, session: &Session, now: Instant) -> Option<String> {
        let state = state(session);
        let due = match &self.last {
            Some((at, last)) => *last != state || now.duration_since(*at) >= LINE_EVERY,
            None => true,
        };
        if !due {
            return None;
        }
        self.last = Some((now, state.clone()));
        let transfer = session.transfer.clone().unwrap_or_default();
        let mut line = state;
        if let Some(percent) = percent(&transfer) {
            line.push_str(&format!(", {percent}%"));
        }
        let detail = detail(&transfer);
        if !detail.is_empty() {
            line.push_str(&format!(", {detail}"));
        }
        Some(line)
    }
}

/// Phase and stage: `Running: transfer`; while pending, or before its worker can begin, why.
fn state(session: &Session) -> String {
    let phase = if session.phase.is_empty() { "Pending" } else { &session.phase };
    let doing = session.transfer.as_ref().map(|transfer| match transfer.waiting.as_str() {
        "" => transfer.stage.as_str(),
        waiting => waiting,
    });
    match (phase, doing.unwrap_or_default(), session.message.as_str()) {
        ("Running", doing, _) if !doing.is_empty() => format!("{phase}: {doing}"),
        ("Pending", _, why) if !why.is_empty() => format!("{phase}: {why}"),
        _ => phase.to_owned(),
    }
}

/// Of a dump's estimated size. None when it is not known, or was an underestimate.
fn percent(transfer: &Transfer) -> Option<u64> {
    let known = transfer.total_bytes > 0 && transfer.bytes <= transfer.total_bytes;
    known.then(|| {
        u64::try_from(u128::from(transfer.bytes) * 100 / u128::from(transfer.total_bytes)).ok()
    })?
}

/// Bytes, keys, rate and what is left, as far as they are known.
fn detail(transfer: &Transfer) -> String {
    let Transfer {
        stage: _,
        waiting: _,
        bytes,
        total_bytes,
        keys,
        total_keys,
        bytes_per_second,
        eta_seconds,
    } = transfer;
    let mut parts = Vec::new();
    if *bytes > 0 {
        parts.push(match total_bytes {
            total if total >= bytes => {
                format!("{} of {}", figures::bytes(*bytes), figures::bytes(*total))
            }
            _ => figures::bytes(*bytes),
        });
    }
    if *keys > 0 {
        parts.push(match total_keys {
            total if total >= keys => {
                format!("{} of {} keys", figures::count(*keys), figures::count(*total))
            }
            _ => figures::things(*keys, "key"),
        });
    }
    if *bytes_per_second >= 1.0 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate, shown with one decimal of its unit"
        )]
        let rate = *bytes_per_second as u64;
        parts.push(format!("{}/s", figures::bytes(rate)));
    }
    if *eta_seconds > 0 {
        parts.push(format!("{} left", figures::left(*eta_seconds)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(phase: &str, transfer: Option<Transfer>) -> Session {
        Session { phase: phase.to_owned(), transfer, ..Session::default() }
    }

    fn transfer() -> Transfer {
        Transfer {
            stage: "transfer".to_owned(),
            bytes: 512 << 20,
            total_bytes: 2 << 30,
            keys: 120_000,
            total_keys: 200_000,
            bytes_per_second: 210.4 * 1024.0 * 1024.0,
            eta_seconds: 68,
            waiting: String::new(),
        }
    }

    #[test]
    fn a_line_for_every_state_and_now_and_then() {
        let mut lines = Lines::default();
        let start = Instant::now();
        let mut next =
            |session: &Session, seconds| lines.next(session, start + Duration::from_secs(seconds));
        let mut waiting = session("Pending", None);
        waiting.message = "3 sessions are before it".to_owned();
        assert_eq!(next(&session("", None), 0).as_deref(), Some("Pending"));
        assert_eq!(next(&waiting, 0).as_deref(), Some("Pending: 3 sessions are before it"));
        assert_eq!(next(&waiting, 1), None);
        let waiting = "waiting for the exclusive lock 1a2b3c4d of root@host, process 7";
        let locked = Transfer {
            stage: "connect".to_owned(),
            waiting: waiting.to_owned(),
            ..Transfer::default()
        };
        let line = next(&session("Running", Some(locked)), 1);
        assert_eq!(line, Some(format!("Running: {waiting}")));
        let running = session("Running", Some(transfer()));
        assert_eq!(
            next(&running, 2).as_deref(),
            Some(
                "Running: transfer, 25%, 512.0 MiB of 2.0 GiB, 120,000 of 200,000 keys, 210.4 MiB/s, 1:08 left"
            )
        );
        assert_eq!(next(&running, 11), None);
        assert!(next(&running, 12).is_some());
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        assert_eq!(detail(&Transfer::default()), "");
        // The estimate was too low.
        let over = Transfer { bytes: 3 << 30, keys: 300_000, ..transfer() };
        assert_eq!(percent(&over), None);
        assert_eq!(detail(&over), "3.0 GiB, 300,000 keys, 210.4 MiB/s, 1:08 left");
        let full = Transfer { bytes: u64::MAX, total_bytes: u64::MAX, ..transfer() };
        assert_eq!(percent(&full), Some(100));
    }

    #[test]
    fn templates_are_valid() {
        for known in [false, true] {
            let bar = ProgressBar::hidden();
            bar.set_style(style(known));
        }
    }
}
