//! We and the restic program on the same repositories: each reads, checks, deduplicates against and
//! is kept out by the other.

use std::os::unix::ffi::OsStrExt;

use crate::support::{Place, backup, data, everyone, latest, read, snapshot};
use coffer_restic::{
    BackupOptions, Compression, GroupBy, KeepPolicy, Kind, Observer, ReadOptions, Repository,
    SnapshotRef, UnlockScope, Version, check, prune,
};
use serde_json::Value;

fn tagged(tags: &[&str]) -> BackupOptions {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    BackupOptions { host: "host-0".into(), tags, ..BackupOptions::default() }
}

async fn restic_reads_what_we_write(version: Version, compression: Compression) {
    let place = Place::new();
    let repository = place.init(version).await;
    let dump = data(1, 21_000_000);
    let options = BackupOptions { compression, ..tagged(&["session=a", "method=replication"]) };
    let files: &[(&str, &[u8])] =
        &[("/dump.rdb", &dump), ("/manifest.json", b"{}"), ("/empty", b""), ("/more/x", b"y")];
    let summary = backup(&repository, options, files).await.unwrap();
    assert_eq!(summary.files, 4);
    assert_eq!(summary.total_bytes_processed, 21_000_003);
    assert!(summary.data_added >= 21_000_003 && summary.tree_blobs == 2, "{summary:?}");

    place.restic_check().await;
    let listed: Value = serde_json::from_slice(&place.run(&["snapshots", "--json"]).await).unwrap();
    let snapshot = &listed[0];
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(snapshot["id"], summary.snapshot.to_string());
    assert_eq!(snapshot["tags"], serde_json::json!(["session=a", "method=replication"]));
    assert_eq!(snapshot["hostname"], "host-0");
    for (path, content) in files {
        assert!(place.run(&["dump", "latest", path]).await == *content, "{path} differs");
    }
    let stats = place.run(&["stats", "--mode", "raw-data", "--json"]).await;
    let stats: Value = serde_json::from_slice(&stats).unwrap();
    let ours = repository.stats().await.unwrap();
    assert_eq!(stats["total_size"], ours.raw_size);
    assert_eq!(stats["total_blob_count"], ours.blobs);
    assert_eq!(ours.snapshots, 1);
    assert_eq!(summary.data_added_packed, ours.raw_size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restic_reads_our_v2() {
    restic_reads_what_we_write(Version::V2, Compression::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restic_reads_our_v2_without_compression() {
    restic_reads_what_we_write(Version::V2, Compression::Off).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restic_reads_our_v1() {
    restic_reads_what_we_write(Version::V1, Compression::default()).await;
}

async fn we_read_what_restic_writes(version: &str) {
    let place = Place::new();
    place.run(&["init", "--repository-version", version]).await;
    let dump = data(2, 19_000_000);
    let stdin = ["backup", "--stdin", "--stdin-filename", "dumpfile.resp", "--host", "host-0"];
    place.run_with_input(&stdin, &dump).await;
    let repository = place.open().await;
    assert_eq!(repository.version().number().to_string(), version);
    let snapshot = latest(&repository).await;
    assert_eq!(
        (snapshot.paths[0].as_str(), snapshot.hostname.as_str()),
        ("/dumpfile.resp", "host-0")
    );
    let listed = repository.snapshots_with_files(&everyone()).await.unwrap();
    let files = &listed[0].1;
    assert_eq!((listed.len(), files.len(), files[0].size), (1, 1, dump.len() as u64));
    let whole =
        read(&repository, &snapshot, "/dumpfile.resp", ReadOptions::default()).await.unwrap();
    assert!(whole == dump, "the content differs");
    for (offset, length) in
        [(0, Some(0)), (0, Some(1)), (7_000_000, Some(5_000_000)), (18_999_999, None)]
    {
        let options = ReadOptions { offset, length, ahead: 2 };
        let part = read(&repository, &snapshot, "/dumpfile.resp", options).await.unwrap();
        let start = usize::try_from(offset).unwrap();
        let end = length.map_or(dump.len(), |length| start + usize::try_from(length).unwrap());
        assert!(part == dump[start..end], "{offset} {length:?}");
    }

    // The same data again is all there already: our cuts are restic's.
    let summary = backup(&repository, tagged(&[]), &[("/dumpfile.resp", &dump)]).await.unwrap();
    assert_eq!((summary.data_blobs, summary.tree_blobs), (0, 1), "{summary:?}");
    let report = repository
        .check(&check::Options { read_data: true, ..check::Options::default() })
        .await
        .unwrap();
    assert!(report.is_ok() && report.notes.is_empty(), "{report:?}");
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_read_restics_v1() {
    we_read_what_restic_writes("1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_read_restics_v2() {
    we_read_what_restic_writes("2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_shown_and_read_by_their_names_whatever_restic_makes_of_them() {
    let place = Place::new();
    place.run(&["init"]).await;
    let folder = tempfile::tempdir().unwrap();
    let names: [(&[u8], &str); 5] = [
        (b"plain name", "plain name"),
        ("käse".as_bytes(), "käse"),
        (br#"quote"back\slash"#, r#"quote"back\slash"#),
        // Neither is for a terminal.
        (b"with\nnewline", r"with\nnewline"),
        (b"no text \xff", r"no text \xff"),
    ];
    for (name, _) in names {
        let file = folder.path().join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(file, name).unwrap();
    }
    let root = folder.path().to_str().unwrap();
    place.run(&["backup", root]).await;
    let repository = place.open().await;
    let snapshot = latest(&repository).await;
    let held = repository.hold(&snapshot).await.unwrap();
    let mut shown = names.map(|(_, shown)| format!("{root}/{shown}"));
    shown.sort();
    assert_eq!(held.files().into_iter().map(|file| file.path).collect::<Vec<_>>(), shown);
    for (name, shown) in names {
        let real = str::from_utf8(name).unwrap_or(shown);
        for path in
            [format!("{root}/{shown}"), format!("{root}/{real}"), format!(".{root}//{real}")]
        {
            let content = read(&repository, &snapshot, &path, ReadOptions::default()).await;
            assert_eq!(content.unwrap(), name, "{path}");
            assert_eq!(held.file(&path).unwrap().path, format!("{root}/{shown}"));
        }
        if str::from_utf8(name).is_ok() {
            let theirs = place.run(&["dump", "latest", &format!("{root}/{real}")]).await;
            assert_eq!(theirs, name, "{real}");
        }
    }
    held.release().await;

    let stdin = ["backup", "--stdin", "--stdin-filename", "dump.rdb"];
    place.run_with_input(&stdin, b"content").await;
    assert_eq!(place.run(&["dump", "latest", "dump.rdb"]).await, b"content");
    let snapshot = latest(&repository).await;
    let content = read(&repository, &snapshot, "dump.rdb", ReadOptions::default()).await.unwrap();
    assert_eq!(content, b"content");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restic_deduplicates_against_us() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let dump = data(3, 15_000_000);
    backup(&repository, tagged(&[]), &[("/dump.rdb", &dump)]).await.unwrap();
    let args = ["backup", "--stdin", "--stdin-filename", "dump.rdb", "--json"];
    let output = place.run_with_input(&args, &dump).await;
    let last = output.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).unwrap();
    let summary: Value = serde_json::from_slice(last).unwrap();
    assert_eq!(summary["data_blobs"], 0, "{summary}");
    // Both snapshots are ours to tell apart, by id and by time.
    let snapshots = repository.snapshots(&everyone()).await.unwrap();
    assert_eq!(snapshots.len(), 2);
    let done = snapshots[0].summary.as_ref().unwrap();
    assert_eq!((done.files_new, done.total_bytes_processed), (1, 15_000_000));
    assert!(done.data_blobs > 1 && done.backup_start < done.backup_end, "{done:?}");
    let by_id = SnapshotRef::Prefix(snapshots[0].id.short());
    assert_eq!(snapshot(&repository, &by_id).await.unwrap(), snapshots[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_files_and_parallel_backups() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let one = async |seed: u64| {
        let (a, b) = (data(seed, 6_000_000), data(seed + 1, 4_000_000));
        let mut snapshot = repository.backup(tagged(&[])).await.unwrap();
        let (mut x, mut y) = (snapshot.file("/a").unwrap(), snapshot.file("/b").unwrap());
        for (p, q) in a.chunks(90_000).zip(b.chunks(60_000)) {
            x.write(p.to_vec().into()).await.unwrap();
            y.write(q.to_vec().into()).await.unwrap();
        }
        y.finish().await.unwrap();
        x.finish().await.unwrap();
        (snapshot.commit().await.unwrap().snapshot, a, b)
    };
    let written = futures::join!(one(10), one(20), one(30));
    for (id, a, b) in [written.0, written.1, written.2] {
        let wanted = SnapshotRef::Prefix(id.to_string());
        let snapshot = snapshot(&repository, &wanted).await.unwrap();
        assert!(read(&repository, &snapshot, "/a", ReadOptions::default()).await.unwrap() == a);
        assert!(read(&repository, &snapshot, "/b", ReadOptions::default()).await.unwrap() == b);
    }
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restics_prune_respects_our_lock_and_we_respect_restics() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let writer = repository.backup(tagged(&[])).await.unwrap();
    let refused = place.restic(["prune"]).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("already locked"), "{said}");
    writer.abort().await;
    place.run(&["prune"]).await;
    assert_eq!(repository.locks().await.unwrap(), []);

    // restic holds a shared lock for as long as its standard input stays open.
    let mut child = place
        .restic(["backup", "--stdin"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::support::until("restic's lock", || !place.files("locks").is_empty()).await;
    backup(&repository, tagged(&[]), &[("/shared", b"is fine")]).await.unwrap();
    let error = repository.prune(&prune::Options::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked, "{error}");
    assert_eq!(repository.unlock(UnlockScope::Stale).await.unwrap(), 0);
    let theirs = repository.locks().await.unwrap();
    assert_eq!((theirs.len(), theirs[0].pid), (1, child.id()));
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"restic refuses to store nothing").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    repository.prune(&prune::Options::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forget_and_prune_leave_what_restic_finds_sound() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let base = data(4, 12_000_000);
    let mut changed = base.clone();
    changed[6_000_000..].copy_from_slice(&data(5, 6_000_000));
    backup(&repository, tagged(&["old"]), &[("/dump.rdb", &base)]).await.unwrap();
    backup(&repository, tagged(&["new"]), &[("/dump.rdb", &changed)]).await.unwrap();
    let before = repository.stats().await.unwrap();

    let policy = KeepPolicy { last: 1, ..KeepPolicy::default() };
    let plan = repository
        .forget(&everyone(), GroupBy::default(), &policy, true, &Observer::default())
        .await
        .unwrap();
    assert_eq!(repository.snapshots(&everyone()).await.unwrap().len(), 2);
    let done = repository
        .forget(&everyone(), GroupBy::default(), &policy, false, &Observer::default())
        .await
        .unwrap();
    assert_eq!((plan.removed.len(), &plan), (1, &done));

    let max_unused = prune::MaxUnused::Percent(0.0);
    let dry = prune::Options { max_unused, dry_run: true, ..prune::Options::default() };
    let planned = repository.prune(&dry).await.unwrap();
    let pruned = repository.prune(&prune::Options { dry_run: false, ..dry.clone() }).await.unwrap();
    assert_eq!(planned, pruned);
    assert!(pruned.packs_repacked >= 1 && pruned.bytes_unused == 0, "{pruned:?}");
    place.restic_check().await;
    let after = repository.stats().await.unwrap();
    assert!(after.raw_size < before.raw_size, "{before:?} {after:?}");
    let snapshot = latest(&repository).await;
    let content = read(&repository, &snapshot, "/dump.rdb", ReadOptions::default()).await.unwrap();
    assert!(content == changed);
    let again = repository.prune(&dry).await.unwrap();
    assert_eq!((again.packs_deleted, again.packs_repacked), (0, 0));

    repository.delete_snapshots(&[snapshot.id], &Observer::default()).await.unwrap();
    repository.prune(&prune::Options::default()).await.unwrap();
    assert_eq!(place.files("data").len() + place.files("index").len(), 0);
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_prune_what_restic_wrote_and_the_other_way_round() {
    let place = Place::new();
    place.run(&["init"]).await;
    let stdin = ["backup", "--stdin", "--stdin-filename", "dump"];
    place.run_with_input(&stdin, &data(6, 9_000_000)).await;
    place.run_with_input(&stdin, &data(7, 9_000_000)).await;
    let repository: Repository = place.open().await;
    let snapshots = repository.snapshots(&everyone()).await.unwrap();
    repository.delete_snapshots(&[snapshots[0].id], &Observer::default()).await.unwrap();
    repository.prune(&prune::Options::default()).await.unwrap();
    place.restic_check().await;

    let ours = backup(&repository, tagged(&[]), &[("/x", &data(8, 9_000_000))]).await.unwrap();
    place.run(&["forget", "--prune", &snapshots[1].id.to_string()]).await;
    let snapshot = latest(&repository).await;
    assert_eq!(snapshot.id, ours.snapshot);
    let content = read(&repository, &snapshot, "/x", ReadOptions::default()).await.unwrap();
    assert!(content == data(8, 9_000_000));
    let report = repository
        .check(&check::Options { read_data: true, ..check::Options::default() })
        .await
        .unwrap();
    assert!(report.is_ok(), "{report:?}");
}
