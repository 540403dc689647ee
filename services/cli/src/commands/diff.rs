//! `coffer diff`: which keys two keyspaces do not share.
use std::process::ExitCode;

use coffer_rdb::strings::printable;
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    figures,
    keyspace::{self, Contents, Lazy, ServerArgs, Source, Wanted},
    maintenance,
    maintenance::LockArgs,
};

/// The exit code when they differ: 1 is an error, 2 a wrong usage.
const DIFFERENT: u8 = 3;

const AFTER_HELP: &str = "\
Examples:
  coffer diff redis://orders orders               what changed since the latest backup
  coffer diff orders@1a2b3c4d orders@5e6f7a8b
  coffer diff old.rdb redis://other:6380 -o json
  coffer diff redis://orders/3 orders             database 3 alone

The first is compared with the second: - is a key that only the first has, + one that only the
second has, ~ one that differs in value or time to live. Exits with 3 when there is any.
Function libraries are compared as a whole, and not at all when a url names a database. What expires
while the two are read is no difference.";

/// Flags of `coffer diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// redis://, rediss:// or unix:// url, file, or REPOSITORY@SNAPSHOT; the latest without @
    first: String,
    /// The same
    second: String,
    /// How to log in, to both.
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    lock: LockArgs,
}

/// How a key differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
enum How {
    Lost,
    Added,
    Changed,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    how: How,
    database: u64,
    key: String,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Compared {
    same: bool,
    keys: u64,
    differences: Vec<Difference>,
}

/// Runs the verb.
///
/// # Errors
/// When one of the two cannot be read.
pub async fn run(global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let cluster = Lazy::new(global, args.lock);
    let first = Source::parse(&args.first, &args.server)?;
    let second = Source::parse(&args.second, &args.server)?;
    // A moment for both: else what expires between the two would be a difference.
    let as_of_ms = chrono::Utc::now().timestamp_millis();
    let wanted = Wanted { each: true, only: database_of(&first, &second)?, as_of_ms };
    let first = Box::pin(keyspace::read(&cluster, &first, wanted)).await?;
    let second = Box::pin(keyspace::read(&cluster, &second, wanted)).await?;
    let done = compare(first, second, chrono::Utc::now().timestamp_millis());
    let names: Vec<String> = done.differences.iter().map(|one| one.key.clone()).collect();
    maintenance::print(global, &done, &names, || text(&done))?;
    Ok(if done.same { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// The database that a url names counts for the other side, too.
fn database_of(first: &Source, second: &Source) -> anyhow::Result<Option<u64>> {
    match (first.database(), second.database()) {
        (Some(first), Some(second)) if first != second => anyhow::bail!(
            "database {first} cannot be compared with database {second}: keys of different databases are never the same"
        ),
        (first, second) => Ok(first.or(second)),
    }
}

/// Compares what both still have: a server that was read last has dropped what expired meanwhile.
fn compare(mut first: Contents, mut second: Contents, now_ms: i64) -> Compared {
    first.forget_over(now_ms);
    second.forget_over(now_ms);
    let same = first.digest() == second.digest();
    Compared { same, keys: first.keys(), differences: differences(first, second) }
}

fn differences(first: Contents, second: Contents) -> Vec<Difference> {
    let (first, mut second) = (first.each.unwrap_or_default(), second.each.unwrap_or_default());
    let mut found = Vec::new();
    let difference =
        |how, database, key: &[u8]| Difference { how, database, key: printable(key, 200) };
    for ((database, key), known) in first {
        match second.remove(&(database, key.clone())) {
            Some(other) if other.digest == known.digest => {}
            Some(_) => found.push(difference(How::Changed, database, &key)),
            None => found.push(difference(How::Lost, database, &key)),
        }
    }
    found.extend(second.keys().map(|(database, key)| difference(How::Added, *database, key)));
    found.sort_by(|a, b| (a.database, &a.key).cmp(&(b.database, &b.key)));
    found
}

fn text(done: &Compared) -> String {
    let mut text = String::new();
    for Difference { how, database, key } in &done.differences {
        let sign = match how {
            How::Lost => '-',
            How::Added => '+',
            How::Changed => '~',
        };
        text.push_str(&format!("{sign} {database} {key}\n"));
    }
    if done.same {
        text.push_str(&match done.keys {
            1 => "the only key is the same\n".to_owned(),
            keys => format!("all {} are the same\n", figures::things(keys, "key")),
        });
    } else if done.differences.is_empty() {
        text.push_str("all keys are the same, and the function libraries are not\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coffer_worker::keyspace::{Keys, Reader};

    use super::*;

    const EXPIRES_MS: i64 = 5000;

    /// What is in a file with `soon`, which expires, and `stays`, read at a moment.
    fn read(as_of_ms: i64) -> Contents {
        let mut file = b"REDIS0011\xfc".to_vec();
        file.extend_from_slice(&EXPIRES_MS.to_le_bytes());
        file.extend_from_slice(b"\x00\x04soon\x01x\x00\x05stays\x01x\xff\0\0\0\0\0\0\0\0");
        let mut contents = Contents::default();
        contents.each = Some(Keys::default());
        contents.as_of_ms = Some(as_of_ms);
        let mut reader = Reader::of("x.rdb");
        reader.feed(Bytes::from(file), &mut contents).unwrap();
        reader.finish().unwrap();
        contents
    }

    #[test]
    fn what_expires_while_the_two_are_read_is_no_difference() {
        let before = compare(read(EXPIRES_MS - 1), read(EXPIRES_MS - 1), EXPIRES_MS - 1);
        assert_eq!((before.same, before.keys), (true, 2));
        let between = compare(read(EXPIRES_MS - 1), read(EXPIRES_MS), EXPIRES_MS);
        assert_eq!(text(&before), "all 2 keys are the same\n");
        assert_eq!(text(&between), "the only key is the same\n");
        assert_eq!((between.same, between.keys, between.differences), (true, 1, vec![]));
        // Gone for another reason.
        let lost = compare(read(EXPIRES_MS - 1), read(EXPIRES_MS), EXPIRES_MS - 1);
        let soon = Difference { how: How::Lost, database: 0, key: "soon".to_owned() };
        assert_eq!((lost.same, lost.differences), (false, vec![soon]));
    }
}
