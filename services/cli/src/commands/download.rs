//! `coffer download`: a file of a snapshot, to the disk or to standard output, verified.
//!
//! What arrived lies in `FILE.<snapshot>.<path>.part`, and a second attempt goes on behind it where the snapshot promises a
//! sum of the whole; elsewhere nothing would tell that the beginning is right, so it begins anew. The file gets its name
//! when it is complete and its sum, where there is one, is right.
mod sink;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use coffer_proto::storage::v1::{
    DownloadRequest, Progress, RestoreHeader, restore_response::Message,
};
use coffer_runtime::fault::{Class, class_of};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sink::Sink;

use crate::{
    args::GlobalArgs,
    client::Cluster,
    figures, maintenance,
    maintenance::{LockArgs, Meter},
};

/// Attempts after a connection was lost, counted anew whenever something arrived.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

const AFTER_HELP: &str = "\
Examples:
  coffer download orders                             the newest dump, into dump.rdb
  coffer download orders 1a2b3c4d --to /tmp/old.rdb
  coffer download orders --path /manifest.json --to - | jq .
  coffer download orders --host db-1

Cut off, it goes on where it was when it is called again, or begins anew where the snapshot holds no SHA-256 of the file.
Needs the right to create RestoreSessions in the namespace.";

/// Flags of `coffer download`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repository, NAME or NAMESPACE/NAME
    repository: String,
    /// Snapshot: its id or its beginning, or latest
    #[arg(default_value = "latest")]
    snapshot: String,
    /// File in the snapshot; its only data file when absent
    #[arg(long)]
    path: Option<String>,
    /// With the latest snapshot: only those of this host; may be repeated for others
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Where to write it; - for standard output; the file's name, in this directory, when absent
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    lock: LockArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Downloaded {
    snapshot: String,
    path: String,
    file: String,
    bytes: u64,
    sha256: String,
    verified: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the file cannot be read or written, or is not what was backed up.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { repository, snapshot, path, hosts, to, lock } = args;
    let (host, hosts) = maintenance::hosts(hosts);
    let repository = maintenance::repository(cluster, &repository, lock);
    let subject = format!("download from Repository {}", maintenance::shown(&repository));
    let mut request = DownloadRequest {
        repository: Some(repository),
        snapshot,
        host,
        hosts,
        path: path.unwrap_or_default(),
        offset: 0,
        length: 0,
    };
    let header = look(cluster, request.clone()).await.with_context(|| subject.clone())?;
    let id = header.snapshot.as_ref().map(|snapshot| snapshot.id.clone()).unwrap_or_default();
    // What `latest` is must not change between two attempts.
    request.snapshot.clone_from(&id);
    request.path.clone_from(&header.path);
    let promised = header.manifest.as_ref().and_then(|manifest| {
        manifest.files.iter().find(|file| file.path == header.path).map(|file| &file.sha256)
    });
    let resumable = promised.map(|_| header.size);
    let mut sink = Sink::open(to, &header.path, &id, resumable).await?;
    let mut meter = Meter::new(global.quiet);
    let fetched = fetch(cluster, request, &header, &mut sink, &mut meter).await;
    meter.finish();
    fetched.with_context(|| subject.clone())?;
    let sha256 = sink.sum();
    if promised.is_some_and(|promised| promised[..] != sha256[..]) {
        sink.discard().await?;
        anyhow::bail!(
            "{subject}: what arrived is not what was backed up (its SHA-256 differs); it was discarded"
        );
    }
    let (file, bytes) = sink.finish().await?;
    let verified = promised.is_some();
    let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let done = Downloaded { snapshot: id, path: header.path, file, bytes, sha256, verified };
    report(global, &done)?;
    Ok(ExitCode::SUCCESS)
}

/// Standard output may hold the file itself: then the result goes to standard error.
fn report(global: &GlobalArgs, done: &Downloaded) -> anyhow::Result<()> {
    if done.file != sink::STDOUT {
        let names = std::slice::from_ref(&done.file);
        return maintenance::print(global, done, names, || text(done));
    }
    if !global.quiet {
        eprint!("{}", text(done));
    }
    Ok(())
}

fn text(done: &Downloaded) -> String {
    let Downloaded { snapshot, path, file, bytes, sha256: _, verified } = done;
    let (snapshot, bytes) = (snapshot.get(..8).unwrap_or(snapshot), figures::bytes(*bytes));
    let caveat = if *verified {
        ""
    } else {
        "It was not verified against a sum: the snapshot holds none of this file.\n"
    };
    format!("{path} of snapshot {snapshot}, {bytes}, is in {file}\n{caveat}")
}

/// What is known of the file before any of it is read.
async fn look(cluster: &Cluster, request: DownloadRequest) -> anyhow::Result<RestoreHeader> {
    let request = DownloadRequest { length: 1, ..request };
    let mut answers = cluster.repositories().await?.download(request).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.message) {
        Some(Message::Header(header)) => Ok(header),
        _ => anyhow::bail!("the storage-gateway does not begin with a header"),
    }
}

/// Fetches what is not there yet, beginning again behind it when the connection is lost.
async fn fetch(
    cluster: &Cluster,
    mut request: DownloadRequest,
    header: &RestoreHeader,
    sink: &mut Sink,
    meter: &mut Meter,
) -> anyhow::Result<()> {
    let mut attempt = 0;
    while sink.bytes() < header.size || header.size == 0 {
        let before = sink.bytes();
        request.offset = before;
        match once(cluster, &request, header, sink, meter).await {
            Ok(()) => break,
            Err(error) => {
                let lost = error
                    .downcast_ref::<tonic::Status>()
                    .is_some_and(|status| class_of(status) == Class::Unavailable);
                attempt = if sink.bytes() > before { 1 } else { attempt + 1 };
                if !lost || attempt > ATTEMPTS {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    anyhow::ensure!(
        sink.bytes() == header.size,
        "{} of {} bytes arrived",
        sink.bytes(),
        header.size
    );
    Ok(())
}

async fn once(
    cluster: &Cluster,
    request: &DownloadRequest,
    header: &RestoreHeader,
    sink: &mut Sink,
    meter: &mut Meter,
) -> anyhow::Result<()> {
    let mut answers = cluster.repositories().await?.download(request.clone()).await?.into_inner();
    let mut sum = Sha256::new();
    let mut bytes = 0;
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(Message::Header(_) | Message::Waiting(_)) | None => {}
            Some(Message::Chunk(data)) => {
                sum.update(&data);
                bytes += data.len() as u64;
                sink.write(&data).await?;
                let step = "download".to_owned();
                let (done, total) = (sink.bytes(), header.size);
                meter.update(&Progress { step, done, total, bytes: true });
            }
            Some(Message::Finish(finish)) => {
                let arrived: [u8; 32] = sum.finalize().into();
                let same = finish.bytes == bytes && finish.sha256[..] == arrived[..];
                anyhow::ensure!(
                    same,
                    "what arrived is not what the storage-gateway was to send (its length or SHA-256 differs); call it \
                     again: what is wrong is discarded then"
                );
                return Ok(());
            }
        }
    }
    anyhow::bail!("the download ended before the end of the file; call it again to go on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_compared_is_said() {
        let done = |verified| Downloaded {
            snapshot: "1a2b3c4d5e6f".to_owned(),
            path: "/dumpfile.resp".to_owned(),
            file: "dumpfile.resp".to_owned(),
            bytes: 3 << 20,
            sha256: String::new(),
            verified,
        };
        let verified = text(&done(true));
        assert_eq!(verified, "/dumpfile.resp of snapshot 1a2b3c4d, 3.0 MiB, is in dumpfile.resp\n");
        let caveat = "It was not verified against a sum: the snapshot holds none of this file.\n";
        assert_eq!(text(&done(false)), format!("{verified}{caveat}"));
    }
}
