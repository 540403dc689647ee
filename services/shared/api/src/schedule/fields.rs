//! From the text of a cron field to the numbers that it stands for: `*`, `?`, lists, ranges, steps, names, and `H`.
//!
//! `H` is a number that the invoker's name picks, the same one each time: a thousand invokers with `H 2 * * *` are spread
//! over the hour instead of meeting at its start. `H(0-29)` picks from a range, and `H/15` picks where the steps begin.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

/// A field of a cron text.
pub(super) struct Field {
    /// What it counts.
    pub(super) name: &'static str,
    /// Its smallest number.
    pub(super) from: u32,
    /// Its largest number.
    pub(super) to: u32,
    /// The largest number that `H` picks: every month has 28 days, and Sunday is 0.
    spread: u32,
    words: &'static [&'static str],
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

pub(super) const SECOND: Field = Field { name: "second", from: 0, to: 59, spread: 59, words: &[] };
pub(super) const MINUTE: Field = Field { name: "minute", from: 0, to: 59, spread: 59, words: &[] };
pub(super) const HOUR: Field = Field { name: "hour", from: 0, to: 23, spread: 23, words: &[] };
pub(super) const DAY: Field =
    Field { name: "day of month", from: 1, to: 31, spread: 28, words: &[] };
pub(super) const MONTH: Field = Field { name: "month", from: 1, to: 12, spread: 12, words: MONTHS };
/// 7 is Sunday, as 0 is.
pub(super) const WEEKDAY: Field =
    Field { name: "day of week", from: 0, to: 7, spread: 6, words: DAYS };

impl Field {
    /// Every number that a field stands for, for an invoker of this name; else the part that stands for none.
    pub(super) fn expand(&self, field: &str, seed: &str) -> Result<BTreeSet<u32>, String> {
        let mut numbers = BTreeSet::new();
        for part in field.split(',') {
            let (first, last, step) = self.part(part, seed).ok_or_else(|| part.to_owned())?;
            numbers.extend((first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)));
        }
        Ok(numbers)
    }

    fn part(&self, part: &str, seed: &str) -> Option<(u32, u32, u32)> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?))
            }
            None => (part, None),
        };
        let (first, last) = match range {
            "*" | "?" => (self.from, self.to),
            _ if range.starts_with('H') => return self.hashed(&range[1..], step, seed),
            _ => match range.split_once('-') {
                Some((first, last)) => (self.number(first)?, self.number(last)?),
                None => {
                    let first = self.number(range)?;
                    // `5/15` runs to the end.
                    (first, if step.is_some() { self.to } else { first })
                }
            },
        };
        (first <= last).then_some((first, last, step.unwrap_or(1)))
    }

    fn hashed(&self, of: &str, step: Option<u32>, seed: &str) -> Option<(u32, u32, u32)> {
        let (first, last) = match of.strip_prefix('(').and_then(|of| of.strip_suffix(')')) {
            Some(of) => {
                let (first, last) = of.split_once('-')?;
                (self.number(first)?, self.number(last)?)
            }
            None if of.is_empty() => (self.from, self.spread),
            None => return None,
        };
        let span = last.checked_sub(first)? + 1;
        let digest = Sha256::digest(format!("{}\0{seed}", self.name));
        let pick = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        match step {
            None => {
                let number = first + pick % span;
                Some((number, number, 1))
            }
            Some(step) => Some((first + pick % step.min(span), last, step)),
        }
    }

    fn number(&self, text: &str) -> Option<u32> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let number = match word {
            Some(position) => u32::try_from(position).ok()? + self.from,
            None => text.parse().ok()?,
        };
        (self.from..=self.to).contains(&number).then_some(number)
    }
}

/// True when a day field leaves the choice of days to the other one. A step restricts, so `*/2` does not.
pub(super) fn is_star(field: &str) -> bool {
    field.split(',').any(|part| matches!(part, "*" | "?" | "*/1"))
}

/// As cron writes a set.
pub(super) fn list(numbers: &BTreeSet<u32>) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}
