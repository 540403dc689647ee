//! The backup, one straight line: reach the Redis, open the snapshot, attach as a replica, pass the bytes
//! on, say that they are complete. Any error on the way leaves the snapshot without its `finish`, and so
//! without existence.

use std::time::Duration;

use coffer_api::manifest::DUMP_RDB;
use coffer_api::outcome::BackedUp;
use coffer_api::session::Session;
use coffer_proto::orchestrator::v1::SessionKind;
use coffer_proto::storage::v1 as proto;
use coffer_runtime::{Clock, fault};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::args::BackupArgs;
use crate::convert::{self, REPLICATION};
use crate::error::Error;
use crate::gateway::{self, Gateway};
use crate::progress::{Progress, Stage};
use crate::redis::{self, Client, Received, Replication, Server};
use crate::redis_args;

/// Between two attempts at a gateway that is full or away, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Version of the layout of Coffer's snapshots, in their tags.
const FORMAT_TAG: &str = "coffer:format=1";

/// Dumps the session's Redis into its repository.
pub(crate) async fn run(
    args: &BackupArgs,
    session: &Session,
    wait: Duration,
    clock: &Clock,
    warnings: &mut Vec<String>,
) -> Result<BackedUp, Error> {
    check(args)?;
    let gateway = Gateway::new(session)?;
    let progress = Progress::start(session, SessionKind::Backup);
    let backup = Backup { args, session, wait, clock, gateway, progress };
    let backed_up = backup.repeat_until_taken(warnings).await;
    backup.progress.finish().await;
    backed_up
}

/// What this version cannot do is told before anything is touched.
fn check(args: &BackupArgs) -> Result<(), Error> {
    redis_args::check(&args.addon.redis_args)?;
    match args.method.as_str() {
        "" | REPLICATION => Ok(()),
        method => Err(Error::Flag {
            flag: "method",
            value: method.to_owned(),
            problem: "this version of Coffer dumps by `replication` only",
        }),
    }
}

struct Backup<'a> {
    args: &'a BackupArgs,
    session: &'a Session,
    wait: Duration,
    clock: &'a Clock,
    gateway: Gateway,
    progress: Progress,
}

/// Why an attempt ended.
enum Ended {
    /// The gateway could not take it now, and has received no data.
    NotTaken(Error),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Backup<'_> {
    async fn repeat_until_taken(&self, warnings: &mut Vec<String>) -> Result<BackedUp, Error> {
        let deadline = Instant::now() + self.wait;
        let mut pause = FIRST_PAUSE;
        loop {
            match Box::pin(self.attempt(warnings)).await {
                Ok(backed_up) => return Ok(backed_up),
                Err(Ended::Failed(error)) => return Err(error),
                Err(Ended::NotTaken(error)) if Instant::now() + pause >= deadline => {
                    return Err(error);
                }
                Err(Ended::NotTaken(error)) => {
                    tracing::warn!(
                        error = fault::chain(&error),
                        ?pause,
                        "the storage-gateway will be asked again"
                    );
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, warnings: &mut Vec<String>) -> Result<BackedUp, Ended> {
        self.progress.stage(Stage::Connect);
        let (client, server) = self.reach().await?;
        let started = self.clock.now();
        let not_taken = |error| match gateway::may_be_repeated(&error) {
            true => Ended::NotTaken(error),
            false => Ended::Failed(error),
        };
        let mut upload = self.gateway.upload(self.header()).await.map_err(not_taken)?;
        self.progress.stage(Stage::Wait);
        let mut replication = Replication::start(client, &server, self.wait).await?;
        upload.check().await.map_err(not_taken)?;

        self.progress.stage(Stage::Transfer);
        self.progress.update(|state| {
            state.total_bytes = replication.announced().unwrap_or(0);
            state.total_keys = server.keys;
        });
        let mut sum = Sha256::new();
        while let Some(chunk) = replication.next().await? {
            sum.update(&chunk);
            upload.chunk(chunk).await?;
            self.progress.update(|state| {
                state.bytes = replication.bytes();
                state.keys = replication.keys();
            });
        }
        let received = replication.finish()?;
        self.note(&received, warnings);

        self.progress.stage(Stage::Commit);
        let sum = sum.finalize().to_vec();
        let manifest = convert::manifest(&received, &server, sum, started, self.clock.now());
        let keys = convert::totals(&manifest).into_iter().collect();
        let stored = upload.finish(manifest).await?;
        Ok(BackedUp {
            snapshot_id: stored.snapshot_id,
            path: DUMP_RDB.trim_start_matches('/').to_owned(),
            method: REPLICATION.to_owned(),
            bytes: received.bytes,
            data_added: stored.data_added,
            data_added_packed: stored.data_added_packed,
            files_new: stored.files_new,
            keys,
            counted: received.summary.is_some(),
            server_version: server.version,
            repository_created: stored.repository_created,
        })
    }

    async fn reach(&self) -> Result<(Client, Server), redis::Error> {
        let mut client = redis::connect(&self.session.redis, self.wait).await?;
        let server = Server::ask(&mut client).await?;
        if server.cluster {
            let address = client.address().to_owned();
            return Err(redis::Error::Cluster { address, act: "back up" });
        }
        tracing::info!(
            address = client.address(),
            software = server.software,
            version = server.version,
            keys = server.keys,
            used_memory = server.used_memory,
            "connected to the Redis"
        );
        Ok((client, server))
    }

    fn header(&self) -> proto::BackupHeader {
        let host = match self.session.host.as_str() {
            "" => self.args.addon.hostname.as_str(),
            host => host,
        };
        let host = if host.is_empty() { coffer_api::names::DEFAULT_HOST } else { host };
        let mut tags = self.session.tags.clone();
        for tag in [format!("coffer:method={REPLICATION}"), FORMAT_TAG.to_owned()] {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        proto::BackupHeader {
            repository: None,
            host: host.to_owned(),
            paths: vec![DUMP_RDB.to_owned()],
            tags,
            time: None,
            no_verify: false,
        }
    }

    /// Says what is remarkable about a dump that is whole.
    fn note(&self, received: &Received, warnings: &mut Vec<String>) {
        if let Some(reason) = &received.opaque {
            warnings.push(format!(
                "the dump is whole and was kept as it is, but its keys are not counted: {reason}"
            ));
        }
        let Some(summary) = &received.summary else { return };
        for (index, database) in &summary.databases {
            if let Some((keys, _)) =
                database.announced.filter(|(keys, _)| *keys != database.total())
            {
                warnings.push(format!(
                    "the server announced {keys} keys in database {index} and sent {}, in a dump whose end \
                     and checksum are right",
                    database.total()
                ));
            }
        }
        if !summary.checksummed {
            warnings.push(
                "the server wrote no checksum (rdbchecksum no): the dump is whole, damage inside a value \
                 would not have been noticed"
                    .to_owned(),
            );
        }
    }
}
