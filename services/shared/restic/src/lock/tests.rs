//! Locks on a real directory, with shrunken times.

use std::path::Path;

use super::handle::Settled;
use super::*;
use crate::Kind;
use crate::config::Version;
use crate::crypto::SealingKey;
use crate::store::Store;

struct Place {
    _folder: tempfile::TempDir,
    vault: Arc<Vault>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let key = SealingKey::generate().unwrap();
        let vault = Arc::new(Vault { store, key, version: Version::V2 });
        Self { _folder: folder, vault }
    }

    fn locker(&self) -> Locker {
        let identity = Identity::new("test", "tester", None).unwrap();
        let timing = Timing {
            settle: Duration::from_millis(5),
            refresh: Duration::from_millis(30),
            first_retry: Duration::from_millis(10),
            max_retry: Duration::from_millis(50),
            ..Timing::default()
        };
        let vault = Arc::clone(&self.vault);
        Locker { timing, ..Locker::new(vault, identity, Duration::ZERO) }
    }

    async fn ids(&self) -> Vec<Id> {
        let listed = self.vault.store.list(FileKind::Lock).await.unwrap();
        listed.into_iter().map(|(id, _)| id).collect()
    }

    async fn until(&self, what: &str, condition: impl Fn(&[Id]) -> bool) -> Vec<Id> {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let ids = self.ids().await;
            if condition(&ids) {
                return ids;
            }
            assert!(std::time::Instant::now() < deadline, "{what}: {ids:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn shared_locks_get_along_and_exclusive_ones_do_not() {
    let place = Place::new();
    let locker = place.locker();
    let first = Lock::acquire(&locker, Mode::Shared).await.unwrap();
    let second = Lock::acquire(&place.locker(), Mode::Shared).await.unwrap();
    let error = Lock::acquire(&locker, Mode::Exclusive).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.to_string().contains("tester@test-"), "{error}");
    first.release().await;
    second.release().await;
    assert_eq!(place.ids().await, []);

    let exclusive = Lock::acquire(&locker, Mode::Exclusive).await.unwrap();
    for mode in [Mode::Shared, Mode::Exclusive] {
        assert_eq!(Lock::acquire(&locker, mode).await.unwrap_err().kind(), Kind::Locked);
    }
    let mut patient = place.locker();
    patient.wait = Duration::from_secs(10);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let patient = patient.telling(move |lock| hears.lock().push(lock.to_string()));
    let waiting = tokio::spawn(async move { Lock::acquire(&patient, Mode::Shared).await });
    place.until("a word of it", |_| !heard.lock().is_empty()).await;
    exclusive.release().await;
    waiting.await.unwrap().unwrap().release().await;
    // Once, however often it looked.
    let heard = heard.lock().clone();
    let [heard] = &heard[..] else { panic!("{heard:?}") };
    assert!(heard.starts_with("the exclusive lock ") && heard.contains("tester@test-"), "{heard}");
    assert!(heard.contains(", since 20"), "{heard}");
    assert_eq!(place.ids().await, []);
}

#[tokio::test]
async fn a_shared_lock_is_given_out_before_it_has_settled() {
    let place = Place::new();
    let mut slow = place.locker();
    slow.timing.settle = Duration::from_secs(3600);
    let begun = Lock::begin(&slow).await.unwrap();
    assert!(matches!(*begun.watch().settled.borrow(), Settled::NotYet));
    // It keeps others out already.
    let error = Lock::acquire(&place.locker(), Mode::Exclusive).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    begun.watch().ensure_held().unwrap();
    begun.release().await;
    assert_eq!(place.ids().await, []);

    // Where its file came too long after the look, it has settled when it is given out.
    let mut at_once = place.locker();
    at_once.timing.settle = Duration::ZERO;
    let settled = Lock::begin(&at_once).await.unwrap();
    assert!(matches!(*settled.watch().settled.borrow(), Settled::Yes));
}

#[tokio::test]
async fn who_comes_while_a_shared_lock_settles_is_to_give_way() {
    let place = Place::new();
    let mut locker = place.locker();
    locker.timing.settle = Duration::from_millis(200);
    locker.timing.refresh = Duration::from_secs(2);
    let lock = Lock::begin(&locker).await.unwrap();
    let other = write(&place.vault, &locker.identity, Mode::Exclusive).await.unwrap();
    let gives_way = async {
        let seen = |_: &[Id]| lock.watch().state.lock().removed_by_others;
        place.until("our second look", seen).await;
        place.vault.store.delete(&FileKind::Lock.name(&other)).await.unwrap();
    };
    let (settled, ()) = tokio::join!(lock.settled(), gives_way);
    settled.unwrap();
    // Whether he had begun is not known: what a snapshot needs is to be looked for.
    assert_eq!(lock.continuity(&locker).await.unwrap(), Continuity::Broken);
    lock.release().await;

    // One that stays is not waited for without end, and nothing is written any more.
    let lock = Lock::begin(&locker).await.unwrap();
    write(&place.vault, &locker.identity, Mode::Exclusive).await.unwrap();
    let error = lock.settled().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked, "{error}");
    assert_eq!(lock.watch().ensure_held().unwrap_err().kind(), Kind::Locked);
}

#[tokio::test]
async fn who_wants_the_repository_for_himself_gives_way_to_who_came_before_his_second_look() {
    let place = Place::new();
    let mut locker = place.locker();
    locker.timing.settle = Duration::from_millis(500);
    let wants = tokio::spawn(async move { Lock::acquire(&locker, Mode::Exclusive).await });
    place.until("his file", |ids| ids.len() == 1).await;
    let ours = write(&place.vault, &place.locker().identity, Mode::Shared).await.unwrap();
    assert_eq!(wants.await.unwrap().unwrap_err().kind(), Kind::Locked);
    assert_eq!(place.ids().await, [ours]);
}

#[tokio::test]
async fn a_lock_that_is_removed_before_it_has_settled_is_written_again() {
    let place = Place::new();
    let mut locker = place.locker();
    locker.timing.settle = Duration::from_millis(200);
    let lock = Lock::begin(&locker).await.unwrap();
    remove(&locker, true).await.unwrap();
    lock.settled().await.unwrap();
    assert_eq!(place.ids().await.len(), 1);
    assert_eq!(lock.continuity(&locker).await.unwrap(), Continuity::Broken);
}

#[tokio::test]
async fn a_lock_is_refreshed_and_goes_with_its_holder() {
    let place = Place::new();
    let lock = Lock::acquire(&place.locker(), Mode::Shared).await.unwrap();
    let first = place.ids().await;
    place.until("refresh", |ids| ids.len() == 1 && ids != first).await;
    assert_eq!(lock.continuity(&place.locker()).await.unwrap(), Continuity::Unbroken);
    drop(lock);
    place.until("deletion after drop", <[_]>::is_empty).await;
}

#[tokio::test]
async fn dropping_the_wait_leaves_no_lock() {
    let place = Place::new();
    let mut locker = place.locker();
    locker.timing.settle = Duration::from_secs(3600);
    let waiting = tokio::spawn(async move { Lock::acquire(&locker, Mode::Exclusive).await });
    place.until("the lock being written", |ids| ids.len() == 1).await;
    waiting.abort();
    place.until("deletion", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_removed_lock_is_noticed_even_after_a_refresh() {
    let place = Place::new();
    let locker = place.locker();
    let lock = Lock::acquire(&locker, Mode::Shared).await.unwrap();
    remove(&locker, true).await.unwrap();
    place.until("the refresh's new file", |ids| ids.len() == 1).await;
    assert_eq!(lock.continuity(&locker).await.unwrap(), Continuity::Broken);
    lock.release().await;
    assert_eq!(place.ids().await, []);
}

#[tokio::test]
async fn a_lock_that_cannot_be_refreshed_is_lost() {
    let place = Place::new();
    let mut locker = place.locker();
    locker.timing.give_up = TimeDelta::milliseconds(80);
    let lock = Lock::acquire(&locker, Mode::Shared).await.unwrap();
    // A file where the folder should be: no lock can be written any more.
    let folder = Path::new(place.vault.store.location()).join("locks");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, b"").unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let error = loop {
        match lock.watch().ensure_held() {
            Err(error) => break error,
            Ok(()) => assert!(std::time::Instant::now() < deadline),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(error.kind(), Kind::Locked, "{error}");
}

#[tokio::test]
async fn who_takes_away_under_a_removed_lock_stops() {
    let place = Place::new();
    let mut locker = place.locker();
    locker.timing.refresh = Duration::from_secs(3600);
    locker.timing.watch = Duration::from_millis(10);
    let lock = Lock::acquire(&locker, Mode::Exclusive).await.unwrap();
    lock.watch().ensure_held().unwrap();
    remove(&place.locker(), true).await.unwrap();
    place.until("the look", |_| lock.watch().ensure_held().is_err()).await;
    let error = lock.watch().ensure_held().unwrap_err();
    assert_eq!(error.kind(), Kind::Locked, "{error}");
}

const STALE: &str = r#"{"time":"2020-01-01T00:00:00Z","exclusive":true,"hostname":"h","username":"u","pid":1,"uid":5}"#;

#[tokio::test]
async fn unlock_removes_the_stale_or_all_and_empty_files_do_not_count() {
    let place = Place::new();
    let locker = place.locker();
    place.vault.save(FileKind::Lock, STALE.as_bytes()).await.unwrap();
    place.vault.store.put(&FileKind::Lock.name(&Id::of(b"")), bytes::Bytes::new()).await.unwrap();
    let ours = write(&place.vault, &locker.identity, Mode::Shared).await.unwrap();
    let stale: Vec<bool> = list(&locker).await.unwrap().iter().map(|l| l.stale).collect();
    assert_eq!((stale.len(), stale.iter().filter(|s| **s).count()), (2, 1));
    assert_eq!(remove(&locker, false).await.unwrap(), 1);
    assert!(place.ids().await.contains(&ours));
    assert_eq!(remove(&locker, true).await.unwrap(), 2);
}

#[tokio::test]
async fn a_stale_lock_keeps_nobody_out_and_a_living_one_does() {
    let place = Place::new();
    let locker = place.locker();
    place.vault.save(FileKind::Lock, STALE.as_bytes()).await.unwrap();
    Lock::acquire(&locker, Mode::Shared).await.unwrap().release().await;
    assert_eq!(place.ids().await, []);

    place.vault.save(FileKind::Lock, STALE.as_bytes()).await.unwrap();
    let living = write(&place.vault, &locker.identity, Mode::Shared).await.unwrap();
    let error = Lock::acquire(&locker, Mode::Exclusive).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.to_string().contains("tester@test-"), "{error}");
    assert_eq!(place.ids().await, [living]);
}

#[tokio::test]
async fn a_damaged_lock_is_an_error_that_names_it() {
    let place = Place::new();
    let name = FileKind::Lock.name(&Id::of(b"x"));
    place.vault.store.put(&name, bytes::Bytes::from_static(b"junk")).await.unwrap();
    let error = Lock::acquire(&place.locker(), Mode::Shared).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains(&name), "{error}");
}
