//! `make bench-storage`: our engine beside the restic program, on the same data and the same disk, in one run.
//!
//! Each measurement is a process of its own, ours and the peer's in turn, so that processor seconds and memory are those
//! of one backup and nothing else; none finds a pack in the system's cache. The best of the rounds counts, for both. The table goes to standard output and to
//! `target/bench/storage.json`. Beside each speed stands what the processor could do at most: the steps that a byte
//! cannot avoid (copy, cut, hash, compress, seal), each measured alone, on all processors.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod cases;
mod data;
mod engine;
mod index;
mod measure;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

/// Whatever goes wrong is printed and ends the run.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// As in every program of Coffer.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str =
    "usage: bench-storage [--mib N] [--rounds N] [--streams N] [--blobs N] [--dir DIR]
  --mib      size of each data set (2048)
  --rounds   runs of each measurement, the best counts (2)
  --streams  backups at once (32)
  --blobs    blobs of the synthetic index (10000000)
  --dir      where data and repositories are put meanwhile (target/bench)
The peer is $RESTIC, or restic of the PATH.";

/// What was asked for.
struct Args {
    mib: u64,
    rounds: u32,
    streams: u64,
    blobs: u64,
    dir: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("child") => engine::child(&words[1..]),
        _ => parse(&words).and_then(|args| run(&args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-storage: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Args> {
    let mut args =
        Args { mib: 2048, rounds: 2, streams: 32, blobs: 10_000_000, dir: "target/bench".into() };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(USAGE.into()) };
        match name.as_str() {
            "--mib" => args.mib = value.parse()?,
            "--rounds" => args.rounds = value.parse()?,
            "--streams" => args.streams = value.parse()?,
            "--blobs" => args.blobs = value.parse()?,
            "--dir" => args.dir = value.into(),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(args)
}

fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    let folder = tempfile::tempdir_in(&args.dir)?;
    let mut figures = Vec::new();
    for kind in [data::Kind::Random, data::Kind::Redis] {
        figures.extend(cases::one_stream(args, folder.path(), kind)?);
    }
    figures.extend(cases::many_streams(args, folder.path())?);
    figures.push(index::figure(args.blobs)?);
    report::print(&figures);
    report::write(&figures)
}
