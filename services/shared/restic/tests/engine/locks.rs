//! Locks between programs: who waits for whom, and whose lock is nobody's any more.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{PASSWORD, Place, backup, options};
use chrono::DateTime;
use coffer_restic::{
    BackupOptions, Instance, OpenOptions, Password, Repository, UnlockScope, Version, prune,
};
use tokio::runtime::Runtime;

async fn open(place: &Place, options: OpenOptions) -> Repository {
    Repository::open(place.store(), &Password::new(PASSWORD), options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_prune_waits_for_restics_backup_to_end() {
    let place = Place::new();
    place.init(Version::V2).await;
    let patient = OpenOptions { lock_wait: Duration::from_secs(60), ..options() };
    let repository = open(&place, patient).await;
    backup(&repository, BackupOptions::default(), &[("/a", b"1")]).await.unwrap();
    let mut child = place
        .restic(["backup", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Under its final name: what restic is still writing is no lock yet, for us neither.
    let placed = || place.files("locks").iter().any(|file| file.file_name().unwrap().len() == 64);
    crate::support::until("restic's lock", placed).await;
    let pruning = tokio::spawn(async move { repository.prune(&prune::Options::default()).await });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"still coming").unwrap();
    assert!(!pruning.is_finished());
    drop(stdin);
    assert!(child.wait().unwrap().success());
    pruning.await.unwrap().unwrap();
    place.restic_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_removes_the_locks_of_its_predecessor_and_of_nobody_else() {
    let place = Place::new();
    place.init(Version::V2).await;
    let named = async |name: &str, started: i64| {
        let started = DateTime::from_timestamp(started, 0).unwrap();
        let instance = Some(Instance { name: name.to_owned(), started });
        open(&place, OpenOptions { instance, ..options() }).await
    };
    // Its lock stands, and nobody refreshes it or finds it gone, as with a killed process.
    let predecessor = named("gateway-0", 1000).await;
    let (process, dies) = (Runtime::new().unwrap(), predecessor.clone());
    let killed =
        process.spawn(async move { dies.backup(BackupOptions::default()).await.unwrap() }).await;
    process.shutdown_background();
    let neighbour = named("gateway-1", 1000).await;
    let at_work = neighbour.backup(BackupOptions::default()).await.unwrap();
    let successor = named("gateway-0", 2000).await;
    let twin = named("gateway-0", 2000).await;
    let own = twin.backup(BackupOptions::default()).await.unwrap();

    assert_eq!(predecessor.unlock(UnlockScope::Stale).await.unwrap(), 0);
    assert_eq!(successor.unlock(UnlockScope::Stale).await.unwrap(), 1);
    assert_eq!(successor.locks().await.unwrap().len(), 2);
    // restic does not judge them before they are old.
    place.run(&["unlock"]).await;
    assert_eq!(place.files("locks").len(), 2);
    drop(killed);
    for writer in [at_work, own] {
        writer.abort().await;
    }
}
