//! Reads a snapshot once without loading it, and refuses before anything is written what could not be
//! loaded, or must not be.

use coffer_proto::storage::v1 as proto;
use coffer_rdb::entries::{Entries, Event};
use coffer_rdb::strings::printable;

use super::source::{File, Source};
use crate::error::Error;
use crate::options::{self, OnConflict, OnLoss};
use crate::redis::{self, Loader, Server};

/// Whether a file may hold types that the server lacks.
pub(super) fn is_needed(files: &[File], server: &Server) -> bool {
    let read_by_server = u32::from(server.reads().number);
    files.iter().filter(|file| !file.path().ends_with(".resp")).any(|file| {
        match file.manifest().map_or(0, |manifest: &proto::Manifest| manifest.rdb_version) {
            // Not ours, or something in it could not be walked when it was made.
            0 => true,
            // From 12 on, the types of the two vendors differ.
            dumped @ 12.. => dumped != read_by_server,
            dumped => dumped > read_by_server,
        }
    })
}

/// Looks through all files.
pub(super) async fn run(
    source: &Source,
    files: &[File],
    loader: &mut Loader,
    options: &options::Restore,
) -> Result<(), Error> {
    tracing::info!("something may be in the way: looking through the snapshot first");
    for file in files {
        let path = file.path().to_owned();
        if path.ends_with(".resp") {
            // Its commands are checked one by one when they are sent.
            if options.on_conflict == OnConflict::Fail {
                return Err(Error::Flag {
                    flag: "on-conflict",
                    value: "fail".to_owned(),
                    problem: "a dump made by scan cannot be looked through beforehand: use replace or skip",
                });
            }
            continue;
        }
        let unreadable = |source| redis::Error::Rdb { path: path.clone(), source };
        let mut reading = source.look_through(file).await?;
        let mut entries = Entries::new(super::largest_value(loader));
        while let Some(chunk) = reading.next().await? {
            entries.feed(chunk);
            while let Some(event) = entries.next().map_err(unreadable)? {
                let Event::Entry(entry) = event else { continue };
                if options.on_loss == OnLoss::Fail {
                    loader.check_loss(&entry)?;
                }
                let fail = options.on_conflict == OnConflict::Fail;
                if fail && loader.is_in_the_way(&entry).await? {
                    return Err(redis::Error::InTheWay {
                        key: printable(&entry.key, 80),
                        database: entry.database,
                    }
                    .into());
                }
            }
        }
        entries.finish().map_err(unreadable)?;
    }
    Ok(())
}
