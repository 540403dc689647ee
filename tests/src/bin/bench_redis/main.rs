//! `make bench-redis`: the ways out of Redis and in, beside those that people use, and the limit that nature sets.
//!
//! All in one run, on the same server and the same data. Arguments: thousands of keys (2000), and a tenth as many values of
//! 10 MB in the last cases; and `large`, for those cases alone. The table goes to standard output, the figures to
//! `target/bench/redis.json`: `ratio` is ours over the peer, above 1 is better for us; `limit` is what cannot be beaten,
//! or must not be crossed. What takes a few seconds is done three times, ours and theirs in turns, and the median counts; of
//! memory the most. Ours is the time of the Job, from its start to the committed snapshot or the last key; what a
//! session does around it (the Job is made, retention, the check, metrics) has a line of its own.

mod bench;
mod cases;
mod data;
mod figure;
mod latency;
mod manifests;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};
use coffer_tests::{
    coffer::{Coffer, Output},
    redis_server::{self, RedisServer},
};

use self::{bench::Bench, figure::Figure};

/// Of all repositories.
const SECRET: &str = "restic-secret";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    const USAGE: &str = "usage: bench-redis [THOUSANDS OF KEYS [large]]";
    let mut words = std::env::args().skip(1);
    let thousands: u64 = words.next().map_or(Ok(2000), |word| word.parse()).context(USAGE)?;
    let only_large = match words.next().as_deref() {
        None => false,
        Some("large") => true,
        Some(_) => anyhow::bail!(USAGE),
    };
    fs::create_dir_all("target/bench")?;
    let figures = measure(thousands * 1000, only_large).await?;
    figure::print(&figures);
    let json = serde_json::to_string_pretty(&figure::to_json(&figures))?;
    fs::write("target/bench/redis.json", json)?;
    Ok(())
}

async fn measure(keys: u64, only_large: bool) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in("target")?;
    let folder = folder.path().canonicalize()?;
    let source = RedisServer::start(open()).await?;
    source.command::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await?;
    let target = RedisServer::start(open()).await?;
    let coffer = Coffer::up(&folder).await?;
    fs::write(folder.join("manifests.yaml"), manifests::manifests(&source, &target, &folder))?;
    let file = folder.join("manifests.yaml").display().to_string();
    coffer.run(&["apply", "-f", &file], Output::Captured)?;
    let mut bench = Bench { folder, source, target, coffer };
    let mut figures = vec![];
    if !only_large {
        eprintln!("filling a Redis with {keys} keys");
        data::fill(&bench.source, keys).await?;
        bench.backups(&mut figures).await?;
        bench.restores(&mut figures).await?;
        bench.canonical(keys, &mut figures).await?;
    }
    bench.large_values((keys / 10_000).max(2), &mut figures).await?;
    bench.coffer.down().await?;
    Ok(figures)
}

/// Without a password, as the peers' benchmarks are.
fn open() -> redis_server::Options {
    redis_server::Options { password: String::new(), ..redis_server::Options::default() }
}
