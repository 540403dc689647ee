//! Backup and restore through the gateway, with restic as witness: what is committed is whole, and what is not whole is
//! not committed.

use crate::support::*;
use coffer_proto::storage::v1::*;
use coffer_runtime::grant::Operation;
use coffer_runtime::grpc::CHUNK_BYTES;
use crc_fast::CrcAlgorithm;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_comes_back_and_restic_reads_it() {
    let gateway = start().await;
    let data = noise(1, 5 * CHUNK_BYTES + 12_345);
    let first = gateway.backup("repo", &data).await.unwrap();
    assert!(first.repository_created);
    assert_eq!(first.total_bytes, data.len() as u64);
    assert!(first.data_added >= first.total_bytes);

    let again = gateway.backup("repo", &data).await.unwrap();
    assert!(!again.repository_created);
    assert!(again.data_added < 100_000, "{} bytes were added again", again.data_added);

    let restored = gateway.restore("repo", "latest").await.unwrap();
    assert!(restored.data == data);
    assert!(restored.chunks > 5);
    assert_eq!(restored.finish.bytes, data.len() as u64);
    assert_eq!(restored.finish.sha256, Sha256::digest(&data).to_vec());
    assert_eq!(restored.header.path, "/dump.rdb");
    assert_eq!(restored.header.size, data.len() as u64);
    let snapshot = restored.header.snapshot.unwrap();
    assert_eq!(snapshot.id, again.snapshot_id);
    assert_eq!((snapshot.hostname.as_str(), snapshot.paths), ("host-0", vec!["/dump.rdb".into()]));
    let manifest = restored.header.manifest.unwrap();
    assert_eq!(manifest.databases[0].keys["string"], 7);
    assert_eq!(manifest.started.unwrap().nanos, 5);

    let repo = gateway.repo();
    let place = repo.to_str().unwrap();
    assert!(restic::restic(place, &["dump", "latest", "/dump.rdb"]) == data);
    let manifest = restic::restic(place, &["dump", "latest", "/manifest.json"]);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["files"][0]["sha256"], hex::encode(Sha256::digest(&data)));
    let listed = restic::restic(place, &["snapshots", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed[1]["tags"][0], "session=demo.session");
    restic::check(&repo);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_an_older_snapshot_can_be_read() {
    let gateway = start().await;
    let data = noise(2, 3 * CHUNK_BYTES);
    let first = gateway.backup("repo", &data).await.unwrap();
    gateway.backup("repo", b"newer").await.unwrap();
    let request = RestoreRequest {
        offset: 1_000_000,
        length: 1_500_000,
        path: "/dump.rdb".to_owned(),
        ..restore_request("repo", &first.snapshot_id[..8])
    };
    let restored = gateway.receive(request).await.unwrap();
    assert!(restored.data == data[1_000_000..2_500_000]);
    assert_eq!(restored.finish.sha256, Sha256::digest(&restored.data).to_vec());

    let beyond = RestoreRequest { offset: 99, ..restore_request("repo", "latest") };
    let result = gateway.receive(beyond).await;
    assert_refused(result, Code::InvalidArgument, &["offset 99 is behind the end of /dump.rdb"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_restic_made_restores() {
    let gateway = start().await;
    let repo = gateway.repo();
    let place = repo.to_str().unwrap();
    restic::restic(place, &["init"]);
    let data = noise(3, 2 * CHUNK_BYTES + 1);
    let args = ["backup", "--stdin", "--stdin-filename", "dumpfile.resp", "--host", "host-0"];
    restic::restic_with(place, &args, &[], &data);

    let request = RestoreRequest { host: "host-0".to_owned(), ..restore_request("repo", "latest") };
    let restored = gateway.receive(request).await.unwrap();
    assert!(restored.data == data);
    assert_eq!(restored.header.path, "/dumpfile.resp");
    assert!(restored.header.manifest.is_none());

    // Ours goes beside it, into the same repository.
    assert!(!gateway.backup("repo", b"ours").await.unwrap().repository_created);
    assert_eq!(gateway.snapshot_count("repo").await, 2);
    restic::check(&repo);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_whole_commits_nothing() {
    let gateway = start().await;
    let kept = gateway.backup("repo", b"the last complete one").await.unwrap();
    let data = noise(4, 2 * CHUNK_BYTES);
    let (a, b) = data.split_at(CHUNK_BYTES);
    let (len, sum) = (a.len() as u64, Sha256::digest(a));
    let crc64 = Some(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, a));
    let wrong_file = BackupRequest {
        message: Some(backup_request::Message::Chunk(Chunk { file: 1, data: a.to_vec().into() })),
    };
    let twice = {
        let mut header = header("repo");
        let Some(backup_request::Message::Header(inner)) = &mut header.message else { panic!() };
        inner.paths.push("/dump.rdb".to_owned());
        header
    };
    let head = || header("repo");
    let cases: [(Vec<BackupRequest>, Code, &str); 13] = [
        (vec![head(), chunk(a), chunk(b)], Code::InvalidArgument, "without a finish message"),
        (vec![head()], Code::InvalidArgument, "after 0 bytes without a finish message"),
        (vec![], Code::InvalidArgument, "does not begin with a header"),
        (vec![chunk(a)], Code::InvalidArgument, "does not begin with a header"),
        (vec![head(), head()], Code::InvalidArgument, "a second header"),
        (vec![twice, finish(&data)], Code::InvalidArgument, "named twice"),
        (vec![head(), chunk(a), finish(&data)], Code::DataLoss, "1048576 bytes arrived"),
        (vec![head(), chunk(b), chunk(a), finish(&data)], Code::DataLoss, "CRC-64"),
        (
            vec![head(), chunk(a), finish_with(len, None, &sum)],
            Code::InvalidArgument,
            "of another version",
        ),
        (vec![head(), chunk(a), finish_with(len, crc64, &[])], Code::DataLoss, "SHA-256 is"),
        (vec![head(), wrong_file], Code::InvalidArgument, "of file 1, and the header names 1"),
        (vec![head(), chunk(&data)], Code::InvalidArgument, "2097152 bytes, the most is 1048576"),
        (vec![head(), chunk(a), finish(a), chunk(b)], Code::InvalidArgument, "follows finish"),
    ];
    for (messages, code, expected) in cases {
        assert_refused(gateway.send("repo", messages).await, code, &[expected]);
    }
    assert_eq!(gateway.snapshot_count("repo").await, 1);
    let latest = gateway.restore("repo", "latest").await.unwrap();
    assert_eq!(latest.header.snapshot.unwrap().id, kept.snapshot_id);
    assert_eq!(files_below(&gateway.repo().join("locks")), 0);
    restic::check(&gateway.repo());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_or_a_gateway_that_goes_away_commits_nothing() {
    let gateway = start().await;
    gateway.backup("repo", b"the last complete one").await.unwrap();
    for gateway_dies in [false, true] {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut worker = gateway.worker(&gateway.grant("repo", Operation::Backup));
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        let call =
            tokio::spawn(async move { stored(worker.backup(stream).await?.into_inner()).await });
        sender.send(header("repo")).await.unwrap();
        for part in noise(5, 6 * CHUNK_BYTES).chunks(CHUNK_BYTES) {
            sender.send(chunk(part)).await.unwrap();
        }
        if gateway_dies {
            gateway.runtime.shutdown.abort();
            assert!(call.await.unwrap().is_err());
            break;
        }
        call.abort();
        // What a client does not close is still open for HTTP/2, though nobody waits for the answer any more.
        drop(sender);
        // The lock goes when the gateway has noticed.
        while files_below(&gateway.repo().join("locks")) > 0 {
            tokio::task::yield_now().await;
        }
    }
    let dir = gateway.kill().await;
    let repo = dir.path().join("repo");
    let listed = restic::restic(repo.to_str().unwrap(), &["snapshots", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_connection_is_cut_leaves_room_for_the_next() {
    let gateway = start_with(|config| config.max_streams = 1).await;
    // Its connection ends with its runtime, whatever is still open on it.
    let client = tokio::runtime::Runtime::new().unwrap();
    let mut worker = {
        let _inside = client.enter();
        gateway.worker(&gateway.grant("repo", Operation::Backup))
    };
    let unfinished = futures::stream::iter([header("repo"), chunk(b"x")]);
    let messages = unfinished.chain(futures::stream::pending());
    let call = client.spawn(async move { worker.backup(messages).await });
    let answer = call.await.unwrap().unwrap();
    assert_eq!(files_below(&gateway.repo().join("locks")), 1);
    client.shutdown_background();
    while files_below(&gateway.repo().join("locks")) > 0 {
        tokio::task::yield_now().await;
    }
    gateway.backup("repo", b"y").await.unwrap();
    assert_eq!(gateway.snapshot_count("repo").await, 1);
    drop(answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_nobody_reads_any_more_stops() {
    let gateway = start().await;
    gateway.backup("repo", &noise(11, 12 * CHUNK_BYTES)).await.unwrap();
    let mut worker = gateway.worker(&gateway.grant("repo", Operation::Restore));
    let mut stream = worker.restore(restore_request("repo", "latest")).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    assert_eq!(files_below(&gateway.repo().join("locks")), 1);
    drop(stream);
    while files_below(&gateway.repo().join("locks")) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_is_never_handed_out_as_whole() {
    let gateway = start().await;
    gateway.backup("repo", &noise(12, 3 * CHUNK_BYTES)).await.unwrap();
    let packs = std::fs::read_dir(gateway.repo().join("data")).unwrap();
    let packs = packs.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let largest = packs.map(|file| file.unwrap()).max_by_key(|file| file.metadata().unwrap().len());
    let path = largest.unwrap().path();
    let mut content = std::fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, content).unwrap();
    let damaged = gateway.restore("repo", "latest").await;
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_refused(damaged, Code::DataLoss, &["restore from Repository demo/repo", &name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let gateway = start().await;
    let missing = gateway.restore("repo", "latest").await;
    assert_refused(missing, Code::NotFound, &["Repository demo/repo", "there was no backup yet"]);
    gateway.backup("repo", b"x").await.unwrap();
    let missing = gateway.restore("repo", "0123abcd").await;
    assert_refused(missing, Code::NotFound, &["no snapshot matches the id 0123abcd"]);
    let request = RestoreRequest { path: "/x".to_owned(), ..restore_request("repo", "latest") };
    let missing = gateway.receive(request).await;
    assert_refused(missing, Code::NotFound, &["no file /x; it has /dump.rdb, /manifest.json"]);
    let request =
        RestoreRequest { host: "elsewhere".to_owned(), ..restore_request("repo", "latest") };
    assert_refused(gateway.receive(request).await, Code::NotFound, &["elsewhere"]);
    let other = gateway.backup("absent", b"x").await;
    assert_refused(other, Code::NotFound, &["there is no Repository demo/absent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded() {
    let gateway = start_with(|config| config.max_streams = 1).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut worker = gateway.worker(&gateway.grant("repo", Operation::Backup));
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|message| (message, receiver))
    });
    sender.send(header("repo")).await.unwrap();
    // The headers come before any data: the call is admitted, and the repository locked.
    let answer = worker.backup(stream).await.unwrap().into_inner();
    assert_eq!(files_below(&gateway.repo().join("locks")), 1);
    let refused = gateway.backup("repo", b"y").await;
    assert_refused(refused, Code::ResourceExhausted, &["1 backups and restores are running"]);
    sender.send(chunk(b"x")).await.unwrap();
    sender.send(finish(b"x")).await.unwrap();
    drop(sender);
    stored(answer).await.unwrap();
    gateway.backup("repo", b"y").await.unwrap();
    gateway.restore("repo", "latest").await.unwrap();

    let text = prometheus::TextEncoder::new()
        .encode_to_string(&gateway.runtime.registry.gather())
        .unwrap();
    assert!(text.contains("coffer_storage_bytes_total{operation=\"restore\"} 1"), "{text}");
    assert!(text.contains("coffer_storage_streams_running{operation=\"backup\"} 0"), "{text}");
}
