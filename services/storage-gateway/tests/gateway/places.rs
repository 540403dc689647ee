//! Directories, buckets and Secrets that are wrong, missing, or change under an open repository.

use crate::support::s3::{ACCESS_KEY, SECRET_KEY};
use crate::support::*;
use serde_json::json;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_a_repository_that_restic_reads() {
    let gateway = start().await;
    let root = gateway.dir.path().join("s3");
    std::fs::create_dir_all(root.join("backups")).unwrap();
    let endpoint = s3::serve(&root).await;
    let keys = |id, key| {
        [("RESTIC_PASSWORD", PASSWORD), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", key)]
    };
    let spec = |secret: &str, endpoint: &str, bucket: &str| {
        let s3 = json!({"endpoint": endpoint, "bucket": bucket, "prefix": "/demo//orders/"});
        json!({"storageSecretName": secret, "s3": s3})
    };
    let cluster = &gateway.cluster;
    cluster.secret("s3", &keys(ACCESS_KEY, SECRET_KEY));
    cluster.secret("s3-wrong", &keys(ACCESS_KEY, "wrong"));
    cluster.repository("s3", spec("s3", &endpoint, "backups"));
    cluster.repository("s3-wrong", spec("s3-wrong", &endpoint, "backups"));
    cluster.repository("s3-no-bucket", spec("s3", &endpoint, "nowhere"));
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    cluster.repository("s3-silent", spec("s3", &format!("http://{unused}"), "backups"));

    let data = noise(6, 3_000_000);
    assert!(gateway.backup("s3", &data).await.unwrap().repository_created);
    assert!(gateway.restore("s3", "latest").await.unwrap().data == data);
    let place = format!("s3:{endpoint}/backups/demo/orders");
    let environment = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let dumped = tokio::task::spawn_blocking(move || {
        restic::restic_with(&place, &["check", "--read-data"], &environment, &[]);
        restic::restic_with(&place, &["dump", "latest", "/dump.rdb"], &environment, &[])
    });
    assert!(dumped.await.unwrap() == data);

    let wrong = gateway.backup("s3-wrong", b"x").await;
    assert_refused(wrong, Code::PermissionDenied, &["Secret demo/s3-wrong", "AWS_ACCESS_KEY_ID"]);
    let none = gateway.backup("s3-no-bucket", b"x").await;
    assert_refused(none, Code::NotFound, &["the bucket does not exist", "nowhere"]);
    let silent = gateway.backup("s3-silent", b"x").await;
    assert_refused(silent, Code::Unavailable, &["check the endpoint http://127.0.0.1"]);
}

/// Coffer once encoded some characters of the prefix, which restic does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_at_the_encoded_prefix_is_not_made_anew_where_restic_has_it() {
    let gateway = start().await;
    let root = gateway.dir.path().join("s3");
    std::fs::create_dir_all(root.join("backups")).unwrap();
    let endpoint = s3::serve(&root).await;
    let cluster = &gateway.cluster;
    let keys = [
        ("RESTIC_PASSWORD", PASSWORD),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    cluster.secret("s3", &keys);
    let register = |name: &str, prefix: &str| {
        let s3 = json!({"endpoint": endpoint, "bucket": "backups", "prefix": prefix});
        cluster.repository(name, json!({"storageSecretName": "s3", "s3": s3}));
    };
    register("encoded", "k%25C3%25A4se");
    gateway.backup("encoded", b"x").await.unwrap();
    assert!(root.join("backups/k%C3%A4se/config").exists());

    register("plain", "käse");
    let parts = [
        &*format!("no repository at s3:{endpoint}/backups/käse of Repository demo/plain"),
        &*format!("at s3:{endpoint}/backups/k%25C3%25A4se"),
        "set the prefix in spec.backend to \"k%25C3%25A4se\"",
    ];
    assert_refused(gateway.backup("plain", b"y").await, Code::InvalidArgument, &parts);
    assert_refused(gateway.restore("plain", "latest").await, Code::InvalidArgument, &parts);
    assert!(!root.join("backups/käse").exists());

    std::fs::rename(root.join("backups/k%C3%A4se"), root.join("backups/käse")).unwrap();
    assert!(!gateway.backup("plain", b"y").await.unwrap().repository_created);
    assert_eq!(gateway.snapshot_count("plain").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_opens_nothing_and_changes_nothing() {
    let gateway = start().await;
    gateway.backup("repo", b"x").await.unwrap();
    let config = std::fs::read(gateway.repo().join("config")).unwrap();
    let files = files_below(&gateway.repo());
    gateway.cluster.secret("store", &[("RESTIC_PASSWORD", "another\n")]);
    let refused = gateway.backup("repo", b"y").await;
    let parts = ["the password opens none of the 1 keys", "Secret demo/store ends in a line break"];
    assert_refused(refused, Code::InvalidArgument, &parts);
    assert_refused(gateway.restore("repo", "latest").await, Code::InvalidArgument, &parts);
    assert_eq!(std::fs::read(gateway.repo().join("config")).unwrap(), config);
    assert_eq!(files_below(&gateway.repo()), files);

    // Once it is corrected, the very next call works.
    gateway.cluster.secret("store", &[("RESTIC_PASSWORD", PASSWORD)]);
    assert_eq!(gateway.restore("repo", "latest").await.unwrap().data, b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_backends_that_are_wrong_are_named() {
    let gateway = start().await;
    let cluster = &gateway.cluster;
    cluster.secret("empty", &[("AWS_ACCESS_KEY_ID", "x")]);
    let local = json!({"mountPath": "/m", "hostPath": {"path": gateway.repo()}});
    cluster.repository("no-secret", json!({"storageSecretName": "gone", "local": local}));
    cluster.repository("no-password", json!({"storageSecretName": "empty", "local": local}));
    let two = json!({"storageSecretName": "store", "gcs": {"bucket": "b"}, "local": local});
    cluster.repository("two", two);
    let empty_dir = json!({"mountPath": "/m", "emptyDir": {}});
    let claim = json!({"mountPath": "/m", "persistentVolumeClaim": {"claimName": "disk"}});
    cluster.repository("no-claim", json!({"storageSecretName": "store", "local": claim}));
    cluster.repository("empty-dir", json!({"storageSecretName": "store", "local": empty_dir}));
    let cases = [
        ("no-secret", Code::NotFound, "the storage Secret demo/gone of Repository demo/no-secret"),
        ("no-password", Code::InvalidArgument, "demo/empty of Repository demo/no-password has no"),
        ("two", Code::InvalidArgument, "Repository demo/two sets local and gcs as its backend"),
        (
            "no-claim",
            Code::NotFound,
            "the PersistentVolumeClaim demo/disk of Repository demo/no-cl",
        ),
        ("empty-dir", Code::InvalidArgument, "emptyDir is not available without a cluster"),
    ];
    for (repository, code, expected) in cases {
        assert_refused(gateway.backup(repository, b"x").await, code, &[expected]);
    }
    assert!(!gateway.repo().exists());
    cluster.claim("disk");
    gateway.backup("no-claim", b"x").await.unwrap();
    assert!(gateway.dir.path().join("volumes/demo/disk/config").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_cannot_be_used_are_named() {
    let gateway = start().await;
    let file = gateway.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let host = |path: &std::path::Path, kind: &str| {
        let local = json!({"mountPath": "/m", "hostPath": {"path": path, "type": kind}});
        json!({"storageSecretName": "store", "local": local})
    };
    let cluster = &gateway.cluster;
    cluster.repository("in-file", host(&file.join("sub"), ""));
    cluster.repository("missing", host(&gateway.dir.path().join("missing"), "Directory"));
    // No directory can be made there, not even by root.
    cluster.repository("sealed", host(std::path::Path::new("/proc/coffer"), ""));
    cluster.repository("read-only", host(std::path::Path::new("/sys"), ""));
    let cases = [
        ("in-file", Code::InvalidArgument, "is no directory, or lies in something that is none"),
        ("missing", Code::NotFound, "mount the volume, or make the directory"),
        ("sealed", Code::NotFound, "the directory /proc/coffer of Repository demo/sealed"),
        (
            "read-only",
            Code::PermissionDenied,
            "make the directory writable for the storage-gateway",
        ),
    ];
    for (repository, code, expected) in cases {
        assert_refused(gateway.backup(repository, b"x").await, code, &[expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_commits_nothing() {
    // A file system of two megabytes, if this machine lets us have one.
    let gateway = start().await;
    let repo = gateway.repo();
    std::fs::create_dir(&repo).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&repo)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let unmount = Unmount(repo.clone());
    let kept = gateway.backup("repo", b"the last complete one").await.unwrap();
    let refused = gateway.backup("repo", &noise(7, 8 * 1024 * 1024)).await;
    assert_refused(refused, Code::ResourceExhausted, &["free some space", "Repository demo/repo"]);
    let latest = gateway.restore("repo", "latest").await.unwrap();
    assert_eq!(latest.header.snapshot.unwrap().id, kept.snapshot_id);
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_vanished_is_noticed_though_it_was_open() {
    let gateway = start().await;
    gateway.backup("repo", b"x").await.unwrap();
    std::fs::remove_dir_all(gateway.repo()).unwrap();
    assert_refused(gateway.restore("repo", "latest").await, Code::NotFound, &["demo/repo"]);
    let data = noise(8, 100_000);
    assert!(gateway.backup("repo", &data).await.unwrap().repository_created);
    restic::check(&gateway.repo());

    // Replaced by another one with the same password: packs of the old key would be lost in it.
    std::fs::remove_dir_all(gateway.repo()).unwrap();
    restic::restic(gateway.repo().to_str().unwrap(), &["init"]);
    assert!(!gateway.backup("repo", &data).await.unwrap().repository_created);
    restic::check(&gateway.repo());
}

#[tokio::test(flavor = "multi_thread")]
async fn remains_of_a_repository_are_not_buried() {
    let gateway = start().await;
    gateway.backup("repo", b"x").await.unwrap();
    std::fs::remove_file(gateway.repo().join("config")).unwrap();
    let files = files_below(&gateway.repo());
    let refused = gateway.backup("repo", b"y").await;
    assert_refused(refused, Code::DataLoss, &["holds snapshots/", "but no config"]);
    assert_eq!(files_below(&gateway.repo()), files);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_backups_at_the_same_time_make_one_repository() {
    let gateway = start().await;
    let (one, two) = (noise(9, 50_000), noise(10, 50_000));
    let (first, second) = tokio::join!(gateway.backup("repo", &one), gateway.backup("repo", &two));
    let created = [first.unwrap(), second.unwrap()].map(|response| response.repository_created);
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
    assert_eq!(gateway.snapshot_count("repo").await, 2);
    restic::check(&gateway.repo());
}
