//! The command line: that of Stash's Redis addon, so that its Functions run as they are.
//!
//! What Coffer needs, it reads from the session's mounted Secret. The addon's flags are all accepted; of
//! those marked "accepted for compatibility", nothing is done with the value, since the storage-gateway,
//! the orchestrator or the session say the same.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};
use coffer_api::session;
use coffer_runtime::args::CommonArgs;

/// Dumps a Redis into a repository, or loads a snapshot into a Redis.
#[derive(Debug, Clone, Parser)]
#[command(name = "coffer-worker", version, about)]
pub struct Args {
    /// Shared with all processes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Directory of the mounted session Secret
    #[arg(long, env = session::DIR_ENV, value_name = "DIR", default_value = session::MOUNT_PATH)]
    pub session_dir: PathBuf,
    /// File that takes the result, the container's terminationMessagePath
    #[arg(
        long,
        env = "TERMINATION_LOG",
        value_name = "FILE",
        default_value = "/dev/termination-log"
    )]
    pub termination_log: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub job: Job,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Job {
    /// Dump a Redis into a snapshot
    BackupRedis(Box<BackupArgs>),
    /// Load a snapshot into a Redis
    RestoreRedis(Box<RestoreArgs>),
}

/// Flags of `backup-redis`.
#[derive(Debug, Clone, Group)]
pub struct BackupArgs {
    /// Those of both jobs.
    #[command(flatten)]
    pub addon: AddonArgs,
    /// How to dump: auto, replication, scan or portable
    #[arg(long, default_value = "")]
    pub method: String,
    /// For a scan: server (as the keys come) or canonical (by database and name, deduplicates better)
    #[arg(long, default_value = "")]
    pub order: String,
    /// Which server to read: master or replica; a replica behind a Sentinel, else the one named
    #[arg(long, default_value = "")]
    pub prefer: String,
    /// For a scan: gentle (other clients do not notice) or full
    #[arg(long, default_value = "")]
    pub pace: String,
    /// Whether to work out the digest of all keys meanwhile, which `coffer digest` compares: true or false
    #[arg(long, default_value = "")]
    pub digest: String,
    /// Which keys.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Accepted for compatibility: the session names it
    #[arg(long, default_value = "")]
    pub backupsession: String,
    /// Retention, which the orchestrator applies after the backup.
    #[command(flatten)]
    pub retention: RetentionArgs,
}

/// Flags of `restore-redis`.
#[derive(Debug, Clone, Group)]
pub struct RestoreArgs {
    /// Those of both jobs.
    #[command(flatten)]
    pub addon: AddonArgs,
    /// Only snapshots of this host, unless the session names one
    #[arg(long, default_value = "")]
    pub source_hostname: String,
    /// Snapshot id or `latest`, unless the session names one
    #[arg(long, default_value = "")]
    pub snapshot: String,
    /// Accepted for compatibility: the session names it
    #[arg(long, default_value = "")]
    pub restoresession: String,
    /// Accepted for compatibility: one pipelined connection is used
    #[arg(long, default_value = "")]
    pub n: String,
    /// How to load: keys, or replica (the empty target attaches to the worker)
    #[arg(long, default_value = "")]
    pub load: String,
    /// What to do about a key that is there: replace, skip or fail
    #[arg(long, default_value = "")]
    pub on_conflict: String,
    /// What to do about what the target cannot hold: fail or report
    #[arg(long, default_value = "")]
    pub on_loss: String,
    /// Whether to empty the target first: true or false
    #[arg(long, default_value = "")]
    pub flush: String,
    /// Whether only to tell what would be done: true or false
    #[arg(long, default_value = "")]
    pub dry_run: String,
    /// Whether to read the target back and compare: true or false
    #[arg(long, default_value = "")]
    pub verify: String,
    /// Which keys.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Types to load, by comma: string, list, set, zset, hash, stream, module
    #[arg(long, default_value = "")]
    pub types: String,
    /// Databases that go to another number: 0:3,1:4
    #[arg(long, default_value = "")]
    pub database_map: String,
    /// Most keys to write in a second
    #[arg(long, default_value = "")]
    pub max_keys_per_second: String,
    /// Most bytes to write in a second
    #[arg(long, default_value = "")]
    pub max_bytes_per_second: String,
}

/// Which keys are meant; all unless something is said.
#[derive(Debug, Clone, Group)]
pub struct FilterArgs {
    /// Databases: 0,3,5-7
    #[arg(long, default_value = "")]
    pub databases: String,
    /// Patterns of keys, by comma (\, for a comma in one)
    #[arg(long, default_value = "")]
    pub include: String,
    /// Patterns of keys that are left out
    #[arg(long, default_value = "")]
    pub exclude: String,
}

/// Flags of both jobs.
#[derive(Debug, Clone, Group)]
pub struct AddonArgs {
    /// Arguments for redis-dump-go or redis-cli; what would change the result is refused by name
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub redis_args: String,
    /// Seconds to wait for the Redis, unless empty
    #[arg(long, default_value = "")]
    pub wait_timeout: String,
    /// restic's host, unless the session names one
    #[arg(long, default_value = "")]
    pub hostname: String,
    /// Where the address leads to a Sentinel: the name of the master
    #[arg(long, default_value = "")]
    pub sentinel_master: String,
    /// Directory for what does not fit into memory
    #[arg(long, default_value = "/stash-tmp", value_name = "DIR")]
    pub scratch_dir: PathBuf,
    /// The addon's other flags.
    #[command(flatten)]
    pub ignored: IgnoredArgs,
}

/// Flags of the addon that say what the session or another service says already.
#[derive(Debug, Clone, Group)]
#[command(next_help_heading = "Accepted for compatibility, without effect")]
pub struct IgnoredArgs {
    /// Kind of storage
    #[arg(long, default_value = "")]
    pub provider: String,
    /// Bucket
    #[arg(long, default_value = "")]
    pub bucket: String,
    /// Endpoint of the storage
    #[arg(long, default_value = "")]
    pub endpoint: String,
    /// Region of the storage
    #[arg(long, default_value = "")]
    pub region: String,
    /// Path in the bucket
    #[arg(long, default_value = "")]
    pub path: String,
    /// Whether the storage's certificate is verified
    #[arg(long, default_value = "")]
    pub insecure_tls: String,
    /// Secret of the storage
    #[arg(long, default_value = "")]
    pub storage_secret_name: String,
    /// Its namespace
    #[arg(long, default_value = "")]
    pub storage_secret_namespace: String,
    /// restic's cache; there is none
    #[arg(long, default_value = "")]
    pub enable_cache: String,
    /// Connections to the storage
    #[arg(long, default_value = "")]
    pub max_connections: String,
    /// Namespace of the session
    #[arg(long, default_value = "")]
    pub namespace: String,
    /// AppBinding of the Redis
    #[arg(long, default_value = "")]
    pub appbinding: String,
    /// Its namespace
    #[arg(long, default_value = "")]
    pub appbinding_namespace: String,
    /// Directory for output.json; the result is the termination message
    #[arg(long, default_value = "")]
    pub output_dir: String,
    /// Licence service; none is needed
    #[arg(long, default_value = "")]
    pub license_apiservice: String,
    /// Address of the Kubernetes API; it is never called
    #[arg(long, default_value = "")]
    pub master: String,
    /// Configuration of the Kubernetes API; it is never called
    #[arg(long, default_value = "")]
    pub kubeconfig: String,
}

/// Retention flags, parsed and unused as in the addon.
#[derive(Debug, Clone, Group)]
#[command(next_help_heading = "Accepted for compatibility: retention is the orchestrator's")]
pub struct RetentionArgs {
    /// Snapshots
    #[arg(long, default_value = "")]
    pub retention_keep_last: String,
    /// Hours
    #[arg(long, default_value = "")]
    pub retention_keep_hourly: String,
    /// Days
    #[arg(long, default_value = "")]
    pub retention_keep_daily: String,
    /// Weeks
    #[arg(long, default_value = "")]
    pub retention_keep_weekly: String,
    /// Months
    #[arg(long, default_value = "")]
    pub retention_keep_monthly: String,
    /// Years
    #[arg(long, default_value = "")]
    pub retention_keep_yearly: String,
    /// Tags
    #[arg(long, default_value = "")]
    pub retention_keep_tags: String,
    /// Whether to prune
    #[arg(long, default_value = "")]
    pub retention_prune: String,
    /// Whether only to show
    #[arg(long, default_value = "")]
    pub retention_dry_run: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_flags_of_the_addons_functions() {
        let line = "coffer-worker backup-redis --provider=s3 --bucket=b --endpoint= --region= --path=p \
            --storage-secret-name=s --storage-secret-namespace=n --scratch-dir=/stash-tmp --enable-cache=true \
            --max-connections=0 --hostname=host-0 --redis-args=-n 20 --wait-timeout=300 --namespace=demo \
            --appbinding=r --appbinding-namespace=demo --output-dir=/stash-tmp/output --license-apiservice= \
            --insecure-tls=false --backupsession=x-1 --retention-keep-last=5 --retention-keep-hourly=0 \
            --retention-keep-daily=0 --retention-keep-weekly=0 --retention-keep-monthly=0 \
            --retention-keep-yearly=0 --retention-keep-tags= --retention-prune=true --retention-dry-run=false";
        // The operator passes "-n 20" as part of one argument.
        let words = line.replace("-n 20", "-n\u{0}20");
        let words: Vec<String> =
            words.split(' ').filter(|w| !w.is_empty()).map(|w| w.replace('\u{0}', " ")).collect();
        let args = Args::try_parse_from(words).unwrap();
        let Job::BackupRedis(backup) = args.job else { panic!() };
        assert_eq!(backup.addon.redis_args, "-n 20");
        assert_eq!(backup.addon.wait_timeout, "300");
        assert_eq!(backup.addon.scratch_dir, PathBuf::from("/stash-tmp"));
        let args = Args::try_parse_from([
            "coffer-worker",
            "restore-redis",
            "--redis-args=--pipe-timeout 300",
            "--source-hostname=",
            "--snapshot=latest",
            "--wait-timeout=300",
            "--hostname=",
        ]);
        let Job::RestoreRedis(restore) = args.unwrap().job else { panic!() };
        assert_eq!(restore.addon.redis_args, "--pipe-timeout 300");
        assert_eq!(restore.snapshot, "latest");
    }
}
