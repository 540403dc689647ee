//! `coffer diff`: which keys two keyspaces do not share.
use std::process::ExitCode;

use coffer_rdb::strings::printable;
use serde::Serialize;

use crate::{
    args::GlobalArgs,
    keyspace::{self, Contents, Lazy, ServerArgs, Source},
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

The first is compared with the second: - is a key that only the first has, + one that only the
second has, ~ one that differs in value or time to live. Exits with 3 when there is any.
Function libraries are compared as a whole.";

/// Flags of `coffer diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// redis:// or rediss:// url, file, or REPOSITORY@SNAPSHOT; the latest without @
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
    let first = Box::pin(keyspace::read(&cluster, &first, true)).await?;
    let second = Box::pin(keyspace::read(&cluster, &second, true)).await?;
    let same = first.digest() == second.digest();
    let keys = first.keys();
    let done = Compared { same, keys, differences: differences(first, second) };
    let names: Vec<String> = done.differences.iter().map(|one| one.key.clone()).collect();
    maintenance::print(global, &done, &names, || text(&done))?;
    Ok(if done.same { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

fn differences(first: Contents, second: Contents) -> Vec<Difference> {
    let (first, mut second) = (first.each.unwrap_or_default(), second.each.unwrap_or_default());
    let mut found = Vec::new();
    let difference =
        |how, database, key: &[u8]| Difference { how, database, key: printable(key, 200) };
    for ((database, key), digest) in first {
        match second.remove(&(database, key.clone())) {
            Some(other) if other == digest => {}
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
        text.push_str(&format!("all {} keys are the same\n", done.keys));
    } else if done.differences.is_empty() {
        text.push_str("all keys are the same, and the function libraries are not\n");
    }
    text
}
