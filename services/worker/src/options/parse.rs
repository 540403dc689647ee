//! From the text of a parameter to its value.

use std::collections::{BTreeMap, BTreeSet};

use coffer_rdb::value::Kind;

use crate::error::Error;
use crate::glob::Glob;

/// A range of databases longer than this is a mistake.
const MOST_DATABASES: u64 = 65_536;

fn refuse<T>(flag: &'static str, value: &str, problem: &'static str) -> Result<T, Error> {
    Err(Error::Flag { flag, value: value.to_owned(), problem })
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    flag: &'static str,
    value: &str,
    words: &[(&'static str, T)],
) -> Result<T, Error> {
    let found = words.iter().find(|(word, _)| *word == value.trim());
    found.map(|(_, meaning)| *meaning).ok_or_else(|| Error::Choice {
        flag,
        value: value.to_owned(),
        words: words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect(),
    })
}

/// `true` or `false`; empty is `false`.
pub(super) fn switch(flag: &'static str, value: &str) -> Result<bool, Error> {
    choice(flag, value, &[("", false), ("false", false), ("true", true)])
}

/// A positive number; empty is none.
pub(super) fn number(flag: &'static str, value: &str) -> Result<Option<u64>, Error> {
    match value.trim() {
        "" => Ok(None),
        text => match text.parse() {
            Ok(0) | Err(_) => refuse(flag, value, "a whole number above 0 is needed"),
            Ok(number) => Ok(Some(number)),
        },
    }
}

/// Databases: `0,3,5-7`, each the first and the last of a range.
pub(super) fn databases(flag: &'static str, value: &str) -> Result<Vec<(u64, u64)>, Error> {
    let problem = "numbers of databases are needed, such as `0,3,5-7`";
    let mut found = Vec::new();
    for word in words(value) {
        let (from, to) = word.split_once('-').unwrap_or((word, word));
        match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
            (Ok(from), Ok(to)) if from <= to && to - from < MOST_DATABASES => {
                found.push((from, to));
            }
            _ => return refuse(flag, value, problem),
        }
    }
    Ok(found)
}

/// Databases that go elsewhere: `0:3,1:4`. Two that go to the same one would overwrite each other.
pub(super) fn mapping(flag: &'static str, value: &str) -> Result<BTreeMap<u64, u64>, Error> {
    let mut found = BTreeMap::new();
    for word in words(value) {
        let pair = word.split_once(':').map(|(from, to)| (from.trim().parse(), to.trim().parse()));
        let Some((Ok(from), Ok(to))) = pair else {
            return refuse(flag, value, "pairs of databases are needed, such as `0:3,1:4`");
        };
        if found.insert(from, to).is_some() {
            return refuse(flag, value, "a database is named twice");
        }
    }
    let targets: BTreeSet<u64> = found.values().copied().collect();
    if targets.len() < found.len() {
        return refuse(
            flag,
            value,
            "two databases go to the same one, where they would overwrite each other",
        );
    }
    Ok(found)
}

/// Patterns of keys, separated by commas; a comma in a pattern is written `\,`.
pub(super) fn globs(value: &str) -> Vec<Glob> {
    let (mut patterns, mut pattern) = (Vec::new(), Vec::new());
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.peek() == Some(&b',') => pattern.extend(bytes.next()),
            b',' => patterns.push(std::mem::take(&mut pattern)),
            byte => pattern.push(byte),
        }
    }
    patterns.push(pattern);
    let patterns = patterns.iter().map(|pattern| pattern.trim_ascii());
    patterns.filter(|pattern| !pattern.is_empty()).map(Glob::new).collect()
}

/// Types by the words of `TYPE`: `string,hash`.
pub(super) fn types(flag: &'static str, value: &str) -> Result<BTreeSet<Kind>, Error> {
    words(value)
        .map(|word| {
            let known = Kind::ALL.into_iter().find(|kind| kind.name() == word);
            known.ok_or_else(|| Error::Choice {
                flag,
                value: value.to_owned(),
                words: Kind::ALL.iter().map(|kind| kind.name()).collect(),
            })
        })
        .collect()
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}
