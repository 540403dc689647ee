//! What goes wrong with a Redis. Each message names the server, the cause and what to do about it, since
//! it ends as the only line that a user sees in `kubectl describe`.

use std::io;
use std::time::Duration;

use coffer_runtime::fault::{Class, Fault};

mod reply;

pub(crate) use reply::first_word;

/// A failure at the Redis.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered for as long as we were to wait.
    #[error(
        "reach Redis at {address}: no answer within {}; check that it runs, its Service, port and network policies",
        seconds(waited)
    )]
    Unreachable {
        /// Host and port.
        address: String,
        /// How long.
        waited: Duration,
        /// The last attempt.
        #[source]
        source: io::Error,
    },
    /// It answers, but is not ready to serve.
    #[error("wait for Redis at {address}: still not ready after {}: {reply}", seconds(waited))]
    NotReady {
        /// Host and port.
        address: String,
        /// How long.
        waited: Duration,
        /// What it said: `LOADING …`, `NOMASTERLINK …`.
        reply: String,
    },
    /// The password or user is wrong, or missing.
    #[error(
        "log in to Redis at {address} as {user}: {reply}; check the keys `password` and `username` of the AppBinding's Secret (`sentinelPassword` and `sentinelUsername` of a Sentinel that has its own), and its secretTransforms"
    )]
    Password {
        /// Host and port.
        address: String,
        /// The user.
        user: String,
        /// What it said.
        reply: String,
    },
    /// The user lacks rights.
    #[error(
        "run {command} on Redis at {address}: {reply}; grant the AppBinding's user `{grant}` (ACL SETUSER)"
    )]
    Permission {
        /// Host and port.
        address: String,
        /// The command.
        command: String,
        /// What it said.
        reply: String,
        /// The rules that make it work.
        grant: &'static str,
    },
    /// The TLS handshake failed.
    #[error("open TLS to Redis at {address}: {hint}")]
    Tls {
        /// Host and port.
        address: String,
        /// What it means.
        hint: &'static str,
        /// What the library says.
        #[source]
        source: io::Error,
    },
    /// The given certificates or key cannot be used.
    #[error("prepare TLS to Redis: {what}")]
    TlsMaterial {
        /// Which part.
        what: String,
    },
    /// We speak TLS and the server does not.
    #[error(
        "open TLS to Redis at {address}: the server does not speak TLS on this port; remove clientConfig.caBundle from the AppBinding, or name the TLS port"
    )]
    SpeaksPlain {
        /// Host and port.
        address: String,
    },
    /// The server speaks TLS and we do not.
    #[error(
        "talk to Redis at {address}: the server expects TLS; set clientConfig.caBundle of the AppBinding to its CA"
    )]
    ExpectsTls {
        /// Host and port.
        address: String,
    },
    /// What answers is not a Redis.
    #[error("talk to Redis at {address}: what answers there does not speak the Redis protocol")]
    NotRedis {
        /// Host and port.
        address: String,
        /// What came instead.
        #[source]
        source: coffer_rdb::resp::Error,
    },
    /// A command was answered with an error.
    #[error("run {command} on Redis at {address}: {reply}")]
    Refused {
        /// Host and port.
        address: String,
        /// The command.
        command: String,
        /// What it said.
        reply: String,
    },
    /// A command was answered with something that it cannot mean.
    #[error("run {command} on Redis at {address}: unexpected answer {reply}")]
    Answer {
        /// Host and port.
        address: String,
        /// The command.
        command: String,
        /// What it said.
        reply: String,
    },
    /// The connection ended before the work was done.
    #[error("{act} Redis at {address}: the connection was lost")]
    Lost {
        /// Host and port.
        address: String,
        /// What was being done: `receive the dump from`.
        act: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing moved for too long.
    #[error(
        "{act} Redis at {address}: nothing moved for {}; the server or the network hangs",
        seconds(idle)
    )]
    Stalled {
        /// Host and port.
        address: String,
        /// What was being done.
        act: &'static str,
        /// How long.
        idle: Duration,
    },
    /// The dump that was received is not whole.
    #[error("receive the dump from Redis at {address}: {what}")]
    Dump {
        /// Host and port.
        address: String,
        /// What is wrong with it.
        what: String,
        /// The reader's finding.
        #[source]
        source: Option<coffer_rdb::Error>,
    },
    /// No master behind a Sentinel.
    #[error(
        "find the master {name} through the Sentinel at {address}: none within {}: {why}",
        seconds(waited)
    )]
    NoMaster {
        /// Host and port of the Sentinel.
        address: String,
        /// The name of the master.
        name: String,
        /// How long.
        waited: Duration,
        /// The last attempt.
        why: String,
    },
    /// A Sentinel with several masters, or without the one that is meant.
    #[error(
        "the Sentinel at {address} watches the masters [{}]: name one of them by the Task's param sentinelMaster",
        names.join(", ")
    )]
    WhichMaster {
        /// Host and port of the Sentinel.
        address: String,
        /// What it watches.
        names: Vec<String>,
    },
    /// A Sentinel's master is named, and nothing that could know it is there.
    #[error(
        "Redis at {address} is no Sentinel, and the Task's param sentinelMaster names {name}: point the AppBinding at a Sentinel, or remove sentinelMaster"
    )]
    NoSentinel {
        /// Host and port.
        address: String,
        /// The name of the master.
        name: String,
    },
    /// A cluster that is not in order, or did not stay so.
    #[error(
        "read the cluster of Redis at {address}: {why}; try again when `redis-cli --cluster check` is satisfied"
    )]
    Unsettled {
        /// Host and port.
        address: String,
        /// What is not in order.
        why: String,
    },
    /// A node of a cluster where its map has another.
    #[error(
        "the map of the cluster has node {named} at {address}, and node {found} answers there: give each node an address of its own that the worker can reach, by cluster-announce-ip or cluster-announce-hostname"
    )]
    WrongNode {
        /// Host and port.
        address: String,
        /// The id in the map.
        named: String,
        /// The id of who answers.
        found: String,
    },
    /// A replica that does not have its master's data.
    #[error(
        "{address} is a replica that is not in sync with its master {master}, so what it holds is old or nothing; it was waited for {waited:?}: mend the replication, or name the master in the AppBinding"
    )]
    NotInSync {
        /// Host and port.
        address: String,
        /// Host and port of its master.
        master: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A scan whose server got other data in its midst.
    #[error(
        "the data of Redis at {address} were replaced while it was scanned: {why}; try again when its replication is settled"
    )]
    OtherData {
        /// Host and port.
        address: String,
        /// By what.
        why: String,
    },
    /// A server, or what is before it, that does not show where keys are.
    #[error(
        "scan Redis at {address}: its INFO does not show which databases hold keys (section Keyspace), so a scan could miss them; use method replication, or name an address in the AppBinding whose INFO is whole"
    )]
    NoKeyspace {
        /// Host and port.
        address: String,
    },
    /// A database is named that the server has not.
    #[error(
        "scan database {database} of Redis at {address}: {reply}; the Task's param databases (args -db) must name what the server has"
    )]
    NoDatabase {
        /// Host and port.
        address: String,
        /// Its number.
        database: u64,
        /// What the server said.
        reply: String,
    },
    /// The Job's disk.
    #[error(
        "{act} the Job's temporary directory; tempDir of the BackupConfiguration says where it is and how large"
    )]
    Scratch {
        /// What was being done.
        act: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The target cannot be loaded by replication.
    #[error("load Redis at {address} as a replica: {why}")]
    Replication {
        /// Host and port.
        address: String,
        /// Why not, and what to do.
        why: String,
    },
    /// No port to listen at.
    #[error("listen at {address} for the target to attach")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A replica cannot be written to.
    #[error(
        "restore into Redis at {address}: it is a read-only replica of {master}; point the AppBinding at the master, or, \
         if that is gone (as after a restore by replica that was killed), make this one a master with REPLICAOF NO ONE"
    )]
    Replica {
        /// Host and port.
        address: String,
        /// Host and port of its master.
        master: String,
    },
    /// What took the keys does not keep them, or is not the target any more.
    #[error(
        "restore into Redis at {address}: {why}, so keys that it took may be lost; restore again when the target is in order"
    )]
    Replaced {
        /// Host and port.
        address: String,
        /// What happened to it.
        why: String,
    },
    /// A key of that name is there, and must not be.
    #[error(
        "key {key} of database {database} is in the target already, and onConflict is fail; nothing was written"
    )]
    InTheWay {
        /// The key, made printable and cut.
        key: String,
        /// Its database in the snapshot.
        database: u64,
    },
    /// The user may not write a key.
    #[error(
        "restore key {key} of database {database} into Redis at {address}: {reply}; nothing was written; grant the AppBinding's user the key (`~*` is all of them, ACL SETUSER), or leave it out with databases, include or exclude"
    )]
    NoAccess {
        /// Host and port.
        address: String,
        /// The key, made printable and cut.
        key: String,
        /// Its database in the snapshot.
        database: u64,
        /// What the server said.
        reply: String,
    },
    /// A function library of that name is there, and must not be.
    #[error(
        "function library {library} is in the target already, and onConflict is fail; nothing was written"
    )]
    LibraryInTheWay {
        /// Its name, made printable and cut.
        library: String,
    },
    /// A key could not be written.
    #[error(
        "restore key {key} ({what}) of database {database} into Redis at {address}: {reply}{remedy}"
    )]
    Key {
        /// Host and port.
        address: String,
        /// The key, made printable and cut.
        key: String,
        /// Its type.
        what: String,
        /// The database.
        database: u64,
        /// What the server said.
        reply: String,
        /// What to do, after a semicolon; empty where nothing is known.
        remedy: &'static str,
    },
    /// The target cannot hold what the snapshot holds.
    #[error("restore {what} into Redis at {address}: {why}")]
    Unsupported {
        /// Host and port.
        address: String,
        /// The object.
        what: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The target threw keys away while they were loaded.
    #[error(
        "restore into Redis at {address}: it evicted {keys} keys meanwhile, so the restore is not complete; raise maxmemory, or set maxmemory-policy to noeviction to be told at once"
    )]
    Evicted {
        /// Host and port.
        address: String,
        /// How many.
        keys: u64,
    },
    /// The target has no room for what it has loaded.
    #[error(
        "restore into Redis at {address}: what it loaded is {} KiB more than its maxmemory of {} MiB, so that it throws keys away or refuses writes; raise maxmemory and restore again",
        exceeded_by.div_ceil(1024), maxmemory >> 20
    )]
    Full {
        /// Host and port.
        address: String,
        /// Bytes that are too many.
        exceeded_by: u64,
        /// Bytes that there may be.
        maxmemory: u64,
    },
    /// A dump, or a value of it, cannot be read.
    #[error("read {path}")]
    Rdb {
        /// The file, or the value, as people name it.
        path: String,
        /// What is wrong with it.
        #[source]
        source: coffer_rdb::Error,
    },
    /// The same for a RESP dump.
    #[error("read {path}")]
    Resp {
        /// The file, or the value, as people name it.
        path: String,
        /// What is wrong with it.
        #[source]
        source: coffer_rdb::resp::Error,
    },
    /// A RESP dump holds a command that no dump of Stash holds.
    #[error("read {path}: refuse to replay the command {command} at byte {at}")]
    Command {
        /// The file, or the value, as people name it.
        path: String,
        /// Its name.
        command: String,
        /// Where it is.
        at: u64,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. }
            | Self::NotReady { .. }
            | Self::NoMaster { .. }
            | Self::Unsettled { .. }
            | Self::NotInSync { .. }
            | Self::OtherData { .. }
            | Self::Replaced { .. }
            | Self::Lost { .. } => Class::Unavailable,
            Self::Stalled { .. } => Class::DeadlineExceeded,
            Self::Evicted { .. }
            | Self::Full { .. }
            | Self::Scratch { .. }
            | Self::Listen { .. } => Class::Exhausted,
            Self::Password { .. } => Class::Unauthenticated,
            Self::Permission { .. } | Self::NoAccess { .. } => Class::Denied,
            Self::Tls { .. }
            | Self::TlsMaterial { .. }
            | Self::SpeaksPlain { .. }
            | Self::ExpectsTls { .. }
            | Self::NotRedis { .. }
            | Self::Command { .. }
            | Self::WhichMaster { .. }
            | Self::NoSentinel { .. }
            | Self::WrongNode { .. }
            | Self::NoKeyspace { .. }
            | Self::NoDatabase { .. }
            | Self::Replication { .. }
            | Self::Replica { .. } => Class::Invalid,
            Self::Unsupported { .. } => Class::Unimplemented,
            Self::Dump { .. } | Self::Rdb { .. } | Self::Resp { .. } => Class::Corrupt,
            Self::Refused { .. }
            | Self::Answer { .. }
            | Self::InTheWay { .. }
            | Self::LibraryInTheWay { .. }
            | Self::Key { .. } => Class::Conflict,
        }
    }
}

fn seconds(span: &Duration) -> String {
    format!("{} s", span.as_secs())
}
