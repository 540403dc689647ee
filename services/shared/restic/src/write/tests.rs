//! The promises that the compiler can keep.

use super::*;
use crate::{FileReader, ReadOptions, Store};

fn is_send<T: Send>(_: &T) {}
fn is_shared<T: Send + Sync + Clone + 'static>() {}

#[test]
fn handles_and_futures_travel_between_threads() {
    is_shared::<Repository>();
    is_shared::<Store>();
    fn futures(repository: &Repository, mut writer: SnapshotWriter, snapshot: &Snapshot) {
        is_send(&repository.backup(BackupOptions::default()));
        is_send(&repository.read(snapshot, "/x", ReadOptions::default()));
        is_send(&repository.prune(&crate::prune::Options::default()));
        is_send(&repository.check(&crate::check::Options::default()));
        is_send(&repository.stats());
        is_send(&repository.clone().wipe());
        if let Ok(mut file) = writer.file("/x") {
            is_send(&file.write(bytes::Bytes::new()));
            is_send(&file.finish());
        }
        is_send(&writer.commit());
    }
    let _ = futures;
    fn readers<T: Send>() {}
    readers::<FileReader>();
}
