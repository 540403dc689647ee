//! What an outcome says less of when it is too long, step by step, until it fits. A result that does not fit would be cut
//! by the kubelet and read by nobody: a committed backup would count as failed. So words go before numbers, remarks before
//! what they are about, and whatever was cut shows it. Snapshot id, digest and figures stay as they are.

use std::collections::BTreeMap;

use super::{Outcome, Result};

/// Characters of a warning that are spared while there is anything else to cut.
const WARNING_CHARS: usize = 256;
/// The same of the words of a result.
const WORDS_CHARS: usize = 1024;
/// Counts by type that are spared; no server has so many types.
const TYPES: usize = 12;
/// No text is cut below this: with all of them so short, and as many digits as there can be, everything fits.
const SHORTEST_CHARS: usize = 64;
/// Under which name small counts are added up. No type is called so.
const OTHERS: &str = "…";

/// An outcome on its way to fit.
pub(super) struct Shortened {
    outcome: Outcome,
    /// Warnings that were left out.
    dropped: usize,
}

impl Shortened {
    pub(super) fn new(outcome: &Outcome) -> Self {
        Self { outcome: outcome.clone(), dropped: 0 }
    }

    pub(super) fn json(&self) -> String {
        let mut outcome = self.outcome.clone();
        if self.dropped > 0 {
            outcome.warnings.push(format!("… and {} more warnings", self.dropped));
        }
        serde_json::to_string(&outcome).unwrap_or_default()
    }

    /// Takes one step; false when there is none left.
    pub(super) fn step(&mut self) -> bool {
        let warnings = self.outcome.warnings.len();
        if cut_longest(self.outcome.warnings.iter_mut(), WARNING_CHARS)
            || cut_longest([self.outcome.words()], WORDS_CHARS)
        {
            return true;
        }
        if warnings > 1 {
            let kept = (warnings * 9 / 10).max(1);
            self.outcome.warnings.truncate(kept);
            self.dropped += warnings - kept;
            return true;
        }
        self.outcome.counts().is_some_and(fold)
            || cut_longest([self.outcome.words()], WARNING_CHARS)
            || cut_longest(self.outcome.texts(), SHORTEST_CHARS)
    }
}

impl Outcome {
    /// What is told in words, for people.
    const fn words(&mut self) -> &mut String {
        match &mut self.result {
            Result::BackedUp(done) => &mut done.reason,
            Result::Restored(done) => &mut done.remark,
            Result::Failed(failed) => &mut failed.error,
        }
    }

    /// Every text but those that would be worth nothing when cut.
    fn texts(&mut self) -> Vec<&mut String> {
        let own = match &mut self.result {
            Result::BackedUp(done) => {
                vec![&mut done.reason, &mut done.path, &mut done.server_version, &mut done.method]
            }
            Result::Restored(done) => vec![&mut done.remark, &mut done.path],
            Result::Failed(failed) => vec![&mut failed.error, &mut failed.class],
        };
        own.into_iter().chain(&mut self.warnings).collect()
    }

    const fn counts(&mut self) -> Option<&mut BTreeMap<String, u64>> {
        match &mut self.result {
            Result::BackedUp(done) => Some(&mut done.keys),
            Result::Restored(done) => Some(&mut done.restored),
            Result::Failed(_) => None,
        }
    }
}

/// Cuts the longest text, if it has more characters than are spared.
fn cut_longest<'a>(texts: impl IntoIterator<Item = &'a mut String>, spared: usize) -> bool {
    let longest = texts.into_iter().max_by_key(|text| text.len());
    let Some(text) = longest.filter(|text| text.chars().count() > spared) else { return false };
    *text = elide(text);
    true
}

/// Cuts about a tenth out of the middle of a text.
fn elide(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let keep = chars.len() * 9 / 20;
    let head: String = chars[..keep].iter().collect();
    let tail: String = chars[chars.len() - keep..].iter().collect();
    format!("{head}…{tail}")
}

/// Adds the smallest counts up, so that the sum over all types stays true.
fn fold(counts: &mut BTreeMap<String, u64>) -> bool {
    if counts.len() <= TYPES {
        return false;
    }
    let mut all: Vec<(String, u64)> = std::mem::take(counts).into_iter().collect();
    all.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    for (at, (name, count)) in all.into_iter().enumerate() {
        let name = if at < TYPES - 1 { name } else { OTHERS.to_owned() };
        let sum = counts.entry(name).or_default();
        *sum = sum.saturating_add(count);
    }
    true
}
