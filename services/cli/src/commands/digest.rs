//! `coffer digest`: one number for all that users stored, the same wherever it is.
use std::process::ExitCode;

use serde::Serialize;

use crate::{
    args::GlobalArgs,
    figures,
    keyspace::{self, Lazy, ServerArgs, Source, Wanted},
    maintenance,
    maintenance::LockArgs,
};

const AFTER_HELP: &str = "\
Examples:
  coffer digest redis://orders:6379               a server, a Sentinel, or any server of a cluster
  coffer digest redis://reader@orders/3           database 3 alone, as user reader
  coffer digest unix:///run/redis.sock
  coffer digest dump.rdb
  coffer digest orders@1a2b3c4d                   a snapshot of a Repository; the latest without @
  REDISCLI_AUTH=secret coffer digest rediss://backup@orders --redis-ca-file ca.crt

The digest covers databases, keys, values and times to live, and neither encodings nor order: a
server, its backup, and another server of any version that it was restored to have the same one.
It also covers function libraries, and no key or field whose time has passed. A url with a database
covers that database alone, without libraries. A snapshot of typed commands (`method: portable`) has
none.";

/// Flags of `coffer digest`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// redis://, rediss:// or unix:// url, file, or REPOSITORY@SNAPSHOT; the latest without @
    source: String,
    /// How to log in.
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    lock: LockArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Digested {
    source: String,
    digest: String,
    keys: u64,
    functions: usize,
}

/// Runs the verb.
///
/// # Errors
/// When the source cannot be read.
pub async fn run(global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let source = Source::parse(&args.source, &args.server)?;
    let as_of_ms = chrono::Utc::now().timestamp_millis();
    let wanted = Wanted { each: false, only: source.database(), as_of_ms };
    let contents = keyspace::read(&Lazy::new(global, args.lock), &source, wanted).await?;
    let done = Digested {
        source: source.to_string(),
        digest: contents.digest().to_string(),
        keys: contents.keys(),
        functions: contents.libraries.len(),
    };
    maintenance::print(global, &done, std::slice::from_ref(&done.digest), || text(&done))?;
    Ok(ExitCode::SUCCESS)
}

fn text(done: &Digested) -> String {
    let keys = figures::things(done.keys, "key");
    let libraries = match done.functions {
        1 => "1 function library".to_owned(),
        several => format!("{several} function libraries"),
    };
    format!("{}  {keys}, {libraries}\n", done.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        for (keys, functions, told) in [
            (0, 0, "d  0 keys, 0 function libraries\n"),
            (1, 1, "d  1 key, 1 function library\n"),
            (1234, 2, "d  1,234 keys, 2 function libraries\n"),
        ] {
            let (source, digest) = (String::new(), "d".to_owned());
            assert_eq!(text(&Digested { source, digest, keys, functions }), told);
        }
    }
}
