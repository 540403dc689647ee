//! Reads a snapshot once without loading it, and refuses before anything is written what could not be
//! loaded, or must not be.

use coffer_proto::storage::v1 as proto;
use coffer_rdb::entries::{Entries, Event};
use coffer_rdb::payload::FOOTER_LEN;
use coffer_rdb::target::{Feature, Target};
use coffer_rdb::value::Kind;

use super::source::{File, Source};
use crate::error::Error;
use crate::options::{self, OnConflict};
use crate::redis::{self, Loader, Replay, Server};

/// Whether two databases may become one without a manifest that could tell.
pub(super) fn may_merge(files: &[File], options: &options::Restore) -> bool {
    let told = |file: &File| file.manifest().is_some_and(|manifest| manifest.counted);
    !options.mapping.is_empty() && !files.iter().all(told)
}

/// Whether a value may be larger than what the servers take at once. Typed commands hold no value as a whole.
pub(super) fn may_be_too_large(files: &[File], loader: &Loader) -> bool {
    // A scan counts the footer to the value, too.
    let limit = loader.largest_argument().saturating_sub(1 + FOOTER_LEN as u64);
    files.iter().filter(|file| !file.is_typed()).any(|file| {
        let told = file.manifest().map(|manifest| manifest.largest_value_bytes);
        told.filter(|bytes| *bytes > 0).unwrap_or(u64::MAX).min(file.size()) > limit
    })
}

/// Whether a file may hold what the server has no place for.
pub(super) fn is_needed(files: &[File], server: &Server) -> bool {
    files.iter().any(|file| match file.manifest() {
        // Typed commands of another program: strings, lists, sets, hashes, sorted sets.
        None => !file.path().ends_with(".resp"),
        Some(manifest) => {
            // Whether it has the module that a value belongs to, only the value tells.
            let modules = manifest.databases.iter().any(|database| {
                database.keys.get(Kind::Module.name()).is_some_and(|keys| *keys > 0)
            });
            modules || is_of_another(manifest, server)
        }
    })
}

fn is_of_another(manifest: &proto::Manifest, server: &Server) -> bool {
    if manifest.method == options::Method::Portable.name() {
        let valkey = server.valkey_version.as_deref();
        let target = Target::from_info(&server.redis_version, valkey);
        let dumped = manifest.server.clone().unwrap_or_default();
        let dumped = match dumped.software.as_str() {
            "valkey" => Target::from_info("", Some(&dumped.version)),
            _ => Target::from_info(&dumped.version, None),
        };
        let features = [Feature::Streams, Feature::Functions];
        return features.into_iter().any(|one| dumped.can(one) && !target.can(one))
            || dumped.latest_field_time() > target.latest_field_time();
    }
    is_newer(manifest.rdb_version, server)
}

fn is_newer(dumped: u32, server: &Server) -> bool {
    let read_by_server = u32::from(server.reads().number);
    match dumped {
        // Something in it could not be walked when it was made.
        0 => true,
        // From 12 on, the types of the two vendors differ.
        dumped @ 12.. => dumped != read_by_server,
        dumped => dumped > read_by_server,
    }
}

/// Whether a server would load an RDB file as it is. Without a manifest the file says of which version it is; whether the
/// server has the modules of its values, only the server finds out.
pub(super) async fn is_read_by(
    source: &Source,
    file: &File,
    server: &Server,
) -> Result<bool, Error> {
    if file.manifest().is_some() {
        return Ok(!is_needed(std::slice::from_ref(file), server));
    }
    let unreadable = |source| redis::Error::Rdb { path: file.path().to_owned(), source };
    let mut reading = source.look_through(file).await?;
    let mut entries = Entries::new(redis::LARGEST_VALUE_BYTES);
    while let Some(chunk) = reading.next().await? {
        entries.feed(chunk);
        if let Some(Event::Version(version)) = entries.next().map_err(unreadable)? {
            return Ok(!is_newer(u32::from(version.number), server));
        }
    }
    Ok(false)
}

/// Looks through all files.
pub(super) async fn run(
    source: &Source,
    files: &[File],
    loader: &mut Loader,
    options: &options::Restore,
) -> Result<(), Error> {
    tracing::info!("something may be in the way: looking through the snapshot first");
    let fail = options.on_conflict == OnConflict::Fail;
    for file in files {
        let path = file.path().to_owned();
        let mut reading = source.look_through(file).await?;
        if path.ends_with(".resp") {
            let mut replay = Replay::new(&path, super::LARGEST_COMMAND_BYTES)
                .of_coffer(file.manifest().is_some());
            while let Some(chunk) = reading.next().await? {
                replay.look_through(&chunk, loader, fail).await?;
                loader.flush().await?;
            }
            replay.finish()?;
            continue;
        }
        let unreadable = |source| redis::Error::Rdb { path: path.clone(), source };
        let mut entries = Entries::new(redis::LARGEST_VALUE_BYTES);
        while let Some(chunk) = reading.next().await? {
            entries.feed(chunk);
            while let Some(event) = entries.next().map_err(unreadable)? {
                match event {
                    Event::Function(source) => {
                        loader.look_at_functions();
                        if fail {
                            loader.refuse_function_in_the_way(&source).await?;
                        }
                    }
                    Event::Entry(entry) => {
                        loader.look_at(&entry)?;
                        loader.refuse_no_access(&entry).await?;
                        if fail {
                            loader.refuse_in_the_way(&entry).await?;
                        }
                    }
                    _ => {}
                }
            }
            // A question that waits in our buffer is none that the server is late to answer.
            loader.flush().await?;
        }
        entries.finish().map_err(unreadable)?;
    }
    loader.settle().await?;
    loader.refuse_merges()?;
    Ok(loader.refuse_losses()?)
}
