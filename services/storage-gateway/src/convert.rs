//! Between the contract and the domain. Whatever arrives is checked here; what leaves is only renamed.

pub(crate) mod maintenance;

use crate::repositories::At;
use crate::{backup, restore};
use chrono::{DateTime, Utc};
use coffer_api::manifest::{Database, FileSum, Manifest, Server, Shard};
use coffer_api::names;
use coffer_proto::storage::v1 as proto;
use coffer_restic as restic;
use coffer_runtime::grant::RepositoryRef;
use coffer_runtime::grpc::PIECE_BYTES;
use prost_types::Timestamp;
use std::time::Duration;
use tonic::Status;

/// Who waits longer than this for a lock has been forgotten by everybody.
const LONGEST_LOCK_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The Repository that a request is about.
pub(crate) fn repository(reference: Option<proto::RepositoryRef>) -> Result<At, Status> {
    let proto::RepositoryRef { namespace, name, lock_wait: wait } = reference.unwrap_or_default();
    if namespace.is_empty() || name.is_empty() {
        return Err(Status::invalid_argument("repository needs a namespace and a name"));
    }
    // They become segments of paths of the Kubernetes API, which must not lead elsewhere.
    if !names::is_label(&namespace) {
        let problem =
            format!("repository.namespace {namespace:?} is no DNS-1123 label; correct it");
        return Err(Status::invalid_argument(problem));
    }
    if !names::is_subdomain(&name) {
        let problem = format!("repository.name {name:?} is no DNS-1123 subdomain; correct it");
        return Err(Status::invalid_argument(problem));
    }
    let repository = RepositoryRef { namespace, name };
    Ok(At { repository, lock_wait: wait.map(lock_wait).transpose()? })
}

fn lock_wait(wait: prost_types::Duration) -> Result<Duration, Status> {
    let refused =
        |problem| Err(Status::invalid_argument(format!("lock_wait (--retry-lock) is {problem}")));
    // prost's own conversion panics at the most negative one.
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(wait.seconds), u32::try_from(wait.nanos)) else {
        return refused("negative; 0 is for not waiting at all");
    };
    match Duration::new(seconds, nanos) {
        wait if wait > LONGEST_LOCK_WAIT => refused("too long; 24h is the longest"),
        wait => Ok(wait),
    }
}

/// The first message of a backup.
pub(crate) fn backup_header(
    message: Option<proto::BackupRequest>,
) -> Result<backup::Header, backup::Error> {
    use proto::backup_request::Message;
    let bad = |problem: &str| backup::Error::BadHeader { problem: problem.to_owned() };
    let Some(Message::Header(header)) = message.and_then(|request| request.message) else {
        return Err(backup::Error::NoHeader);
    };
    let proto::BackupHeader { repository: at, host, paths, tags, time, no_verify, hears_waiting } =
        header;
    let time = time.map(|time| moment(&time).ok_or_else(|| bad("its time is out of range")));
    Ok(backup::Header {
        at: repository(at).map_err(|status| bad(status.message()))?,
        host,
        paths,
        tags,
        time: time.transpose()?.map(|time| time.fixed_offset()),
        verify: !no_verify,
        hears_waiting,
    })
}

/// A later message of a backup.
pub(crate) fn backup_message(
    message: Result<proto::BackupRequest, Status>,
) -> Result<backup::Message, backup::Error> {
    use proto::backup_request::Message;
    let bad = |problem: &str| backup::Error::BadStream { problem: problem.to_owned() };
    let request = message.map_err(|source| backup::Error::Cut { bytes: 0, source })?;
    match request.message {
        Some(Message::Chunk(proto::Chunk { file, data })) => {
            let file = usize::try_from(file).map_err(|_| bad("a file's index is too large"))?;
            Ok(backup::Message::Chunk { file, data })
        }
        Some(Message::Finish(proto::BackupFinish { manifest })) => {
            let manifest = manifest_in(manifest.ok_or_else(|| bad("finish has no manifest"))?)?;
            Ok(backup::Message::Finish(Box::new(manifest)))
        }
        Some(Message::Header(_)) => Err(bad("a second header")),
        None => Err(bad("an empty message")),
    }
}

fn manifest_in(manifest: proto::Manifest) -> Result<Manifest, backup::Error> {
    let bad = |problem: &str| backup::Error::BadStream { problem: problem.to_owned() };
    let proto::Manifest {
        method,
        files,
        databases,
        server,
        started,
        finished,
        counted,
        rdb_version,
        functions,
        reason,
        shards,
        digest,
        largest_value_bytes,
    } = manifest;
    let time = |time: Option<Timestamp>, name: &str| {
        time.as_ref()
            .and_then(moment)
            .ok_or_else(|| bad(&format!("the manifest's {name} is missing or out of range")))
    };
    let files = files.into_iter().map(|file| {
        let proto::FileSum { path, bytes, sha256, crc64 } = file;
        let crc64 = crc64.map(|crc64| format!("{crc64:016x}"));
        FileSum { path, bytes, sha256: hex::encode(sha256), crc64 }
    });
    let databases = databases.into_iter().map(|database| {
        let proto::Database { index, keys, expiring } = database;
        Database { index, keys: keys.into_iter().collect(), expiring }
    });
    let shards = shards.into_iter().map(|shard| {
        let proto::Shard { path, address, slots, server } = shard;
        let slots = slots.into_iter().map(|proto::SlotRange { first, last }| (first, last));
        Shard { path, address, slots: slots.collect(), server: server_in(server) }
    });
    Ok(Manifest {
        version: 1,
        method,
        files: files.collect(),
        databases: databases.collect(),
        server: server_in(server),
        started: time(started, "start")?,
        finished: time(finished, "end")?,
        counted,
        rdb_version,
        functions,
        reason,
        shards: shards.collect(),
        digest,
        largest_value_bytes,
    })
}

fn server_in(server: Option<proto::Server>) -> Server {
    let proto::Server { software, version, run_id, replication_id, replication_offset } =
        server.unwrap_or_default();
    Server { software, version, run_id, replication_id, replication_offset }
}

fn server_out(server: Server) -> proto::Server {
    let Server { software, version, run_id, replication_id, replication_offset } = server;
    proto::Server { software, version, run_id, replication_id, replication_offset }
}

fn manifest_out(manifest: Manifest) -> proto::Manifest {
    let Manifest {
        version: _,
        method,
        files,
        databases,
        server,
        started,
        finished,
        counted,
        rdb_version,
        functions,
        reason,
        shards,
        digest,
        largest_value_bytes,
    } = manifest;
    let files = files.into_iter().map(|file| {
        let FileSum { path, bytes, sha256, crc64 } = file;
        // Text that is no hex makes an empty sum, which no reader takes for a match.
        let sha256 = hex::decode(sha256).unwrap_or_default().into();
        // Then it is the other that is compared.
        let crc64 = crc64.and_then(|crc64| u64::from_str_radix(&crc64, 16).ok());
        proto::FileSum { path, bytes, sha256, crc64 }
    });
    let databases = databases.into_iter().map(|database| {
        let Database { index, keys, expiring } = database;
        proto::Database { index, keys: keys.into_iter().collect(), expiring }
    });
    let shards = shards.into_iter().map(|shard| {
        let Shard { path, address, slots, server } = shard;
        let slots = slots.into_iter().map(|(first, last)| proto::SlotRange { first, last });
        proto::Shard { path, address, slots: slots.collect(), server: Some(server_out(server)) }
    });
    proto::Manifest {
        method,
        files: files.collect(),
        databases: databases.collect(),
        server: Some(server_out(server)),
        started: Some(timestamp(&started)),
        finished: Some(timestamp(&finished)),
        counted,
        rdb_version,
        functions,
        reason,
        shards: shards.collect(),
        digest,
        largest_value_bytes,
    }
}

pub(crate) fn backup_response(summary: backup::Summary) -> proto::BackupResponse {
    let backup::Summary { written, data_bytes, repository_created, took } = summary;
    proto::BackupResponse {
        snapshot_id: written.snapshot.to_string(),
        tree_id: written.tree.to_string(),
        total_bytes: data_bytes,
        data_added: written.data_added,
        data_added_packed: written.data_added_packed,
        files_new: written.files,
        repository_created,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        ..proto::BackupResponse::default()
    }
}

/// Before the result, for those who hear it.
pub(crate) fn backup_waiting(waiting: String) -> proto::BackupResponse {
    proto::BackupResponse { waiting, ..proto::BackupResponse::default() }
}

/// The same.
pub(crate) fn backup_begun() -> proto::BackupResponse {
    proto::BackupResponse { begun: true, ..proto::BackupResponse::default() }
}

pub(crate) fn restore_request(request: proto::RestoreRequest) -> Result<restore::Request, Status> {
    let at = repository(request.repository.clone())?;
    restore_from(at, request)
}

/// What is read of a Repository that was looked up before.
fn restore_from(at: At, request: proto::RestoreRequest) -> Result<restore::Request, Status> {
    let proto::RestoreRequest {
        repository: _,
        snapshot,
        host,
        path,
        offset,
        length,
        hears_waiting,
    } = request;
    if snapshot.is_empty() {
        return Err(Status::invalid_argument("snapshot is empty; say latest or an id"));
    }
    Ok(restore::Request {
        at,
        snapshot,
        hosts: hosts(host, Vec::new()),
        latest_since: None,
        path: Some(path).filter(|path| !path.is_empty()),
        offset,
        length: Some(length).filter(|length| *length > 0),
        hears_waiting,
    })
}

/// Before the header, for those who hear it.
pub(crate) fn restore_waiting(waiting: String) -> proto::RestoreResponse {
    answer(proto::restore_response::Message::Waiting(waiting))
}

pub(crate) fn restore_header(header: restore::Header) -> proto::RestoreResponse {
    let restore::Header { snapshot: which, files, path, size, manifest } = header;
    answer(proto::restore_response::Message::Header(proto::RestoreHeader {
        snapshot: Some(snapshot(which, files)),
        path,
        size,
        manifest: manifest.map(manifest_out),
    }))
}

pub(crate) fn restore_message(message: restore::Message) -> proto::RestoreResponse {
    answer(match message {
        restore::Message::Chunk(data) => {
            debug_assert!(data.len() <= PIECE_BYTES);
            proto::restore_response::Message::Chunk(data)
        }
        restore::Message::Finish { bytes, sha256 } => {
            let sha256 = sha256.to_vec().into();
            proto::restore_response::Message::Finish(proto::RestoreFinish { bytes, sha256 })
        }
    })
}

fn answer(message: proto::restore_response::Message) -> proto::RestoreResponse {
    proto::RestoreResponse { message: Some(message) }
}

pub(crate) fn snapshot(
    snapshot: restic::Snapshot,
    files: Vec<restic::FileEntry>,
) -> proto::Snapshot {
    let restic::Snapshot {
        id,
        time,
        tree,
        paths,
        hostname,
        username,
        uid,
        gid,
        tags,
        program_version,
        parent: _,
        excludes: _,
        original: _,
        summary: _,
    } = snapshot;
    let files = files.into_iter().map(|file| {
        let restic::FileEntry { path, size, mtime: _, linked } = file;
        proto::SnapshotFile { path, size, linked }
    });
    proto::Snapshot {
        id: id.to_string(),
        time: Some(timestamp(&time)),
        tree: tree.to_string(),
        paths,
        hostname,
        username,
        uid,
        gid,
        tags,
        program_version,
        files: files.collect(),
    }
}

pub(crate) fn filter(
    host: String,
    further: Vec<String>,
    path: String,
    tags: &[String],
) -> restic::SnapshotFilter {
    let paths = Some(path).filter(|path| !path.is_empty()).into_iter().collect();
    restic::SnapshotFilter { hosts: hosts(host, further), paths, tags: tag_lists(tags) }
}

fn hosts(host: String, further: Vec<String>) -> Vec<String> {
    std::iter::once(host).chain(further).filter(|host| !host.is_empty()).collect()
}

fn tag_lists(lists: &[String]) -> Vec<restic::TagList> {
    lists.iter().map(|list| restic::TagList::from(list.as_str())).collect()
}

fn moment(time: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

fn timestamp(time: &DateTime<impl chrono::TimeZone>) -> Timestamp {
    // A leap second has more nanoseconds than a timestamp may.
    let nanos = time.timestamp_subsec_nanos().min(999_999_999);
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(nanos).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coffer_runtime::grpc::FRAME_BYTES;
    use prost::Message;

    use super::*;

    /// What gRPC puts before each message.
    const HEAD: usize = 5;

    #[test]
    fn a_wait_for_a_lock_is_bounded() {
        let wait = |seconds, nanos| {
            let lock_wait = Some(prost_types::Duration { seconds, nanos });
            let (namespace, name) = ("demo".to_owned(), "repo".to_owned());
            let at = repository(Some(proto::RepositoryRef { namespace, name, lock_wait }));
            at.map(|at| at.lock_wait.unwrap()).map_err(|status| status.message().to_owned())
        };
        assert_eq!(wait(0, 0), Ok(Duration::ZERO));
        assert_eq!(wait(90, 500_000_000), Ok(Duration::from_millis(90_500)));
        assert_eq!(wait(24 * 3600, 0), Ok(LONGEST_LOCK_WAIT));
        for (seconds, nanos, problem) in [
            (24 * 3600, 1, "24h is the longest"),
            (i64::MAX, 0, "24h is the longest"),
            (-1, 0, "is negative"),
            (0, -1, "is negative"),
            (i64::MIN, i32::MIN, "is negative"),
        ] {
            let refused = wait(seconds, nanos).unwrap_err();
            assert!(refused.contains("--retry-lock") && refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_with_their_field() {
        let read = |namespace: &str, name: &str| {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            repository(Some(proto::RepositoryRef { namespace, name, lock_wait: None }))
        };
        assert_eq!(read("demo", "repo.v1-2").unwrap().repository.to_string(), "demo/repo.v1-2");
        for (namespace, name, field) in [
            ("demo", "../../../../api/v1/namespaces/demo/secrets/store", "repository.name"),
            ("demo", "..", "repository.name"),
            ("demo", "repo?watch=1", "repository.name"),
            ("demo", "Repo", "repository.name"),
            ("demo/x", "repo", "repository.namespace"),
            ("..", "repo", "repository.namespace"),
        ] {
            let refused = read(namespace, name).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().starts_with(&format!("{field} \"")), "{}", refused.message());
        }
    }

    #[test]
    fn a_piece_fits_a_frame_with_what_surrounds_it() {
        let data = Bytes::from(vec![0; PIECE_BYTES]);
        let up = proto::BackupRequest {
            message: Some(proto::backup_request::Message::Chunk(proto::Chunk {
                file: u32::MAX,
                data: data.clone(),
            })),
        };
        let down = restore_message(restore::Message::Chunk(data));
        let largest = HEAD + up.encoded_len().max(down.encoded_len());
        assert!(largest <= FRAME_BYTES as usize, "{largest}");
    }
}
