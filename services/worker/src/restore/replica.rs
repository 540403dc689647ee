//! `load: replica`: the file goes to the target as it is, and the target loads it.

use coffer_api::outcome::Restored;
use coffer_rdb::target::Target;
use coffer_rdb::walk::Walk;

use super::source::File;
use super::{Restore, convert, survey};
use crate::error::Error;
use crate::progress::Stage;
use crate::redis::{self, Holder, Loaded, Serving, Topology};

impl Restore<'_> {
    /// Serves the snapshot's only file to the target, which is in `serving` meanwhile.
    pub(super) async fn serve(
        &self,
        topology: Topology,
        mut files: Vec<File>,
        serving: &mut Option<Serving>,
        warnings: &mut Vec<String>,
    ) -> Result<Restored, Error> {
        let Topology { nodes, found, .. } = topology;
        let mut nodes = nodes.into_iter();
        let (Some(node), None) = (nodes.next(), nodes.next()) else {
            return Err(refuse(
                "the target has several masters, and REPLICAOF is not allowed in a cluster",
            ));
        };
        let mut file = match files.pop() {
            Some(file) if files.is_empty() && file.path().ends_with(".rdb") => file,
            _ => return Err(refuse("the snapshot is not one RDB file")),
        };
        if !survey::is_read_by(&self.source, &file, &node.server).await? {
            return Err(refuse(
                "the dump was written by another or a newer kind of server than the target, which would not \
                 load the file",
            ));
        }
        let address = node.client.address().to_owned();
        let evicted_before = node.server.evicted_keys;
        let attached = serving.insert(Serving::prepare(node, self.options.flush).await?);
        let (bytes, summary) = self.hand_out(attached, &mut file).await?;
        let loaded = attached.finish(warnings).await?;
        *serving = None;
        let (read, held) = (summary.total(), loaded.attached.keys);
        if held != read {
            let problem = format!("{read} keys were in it, and the target holds {held} of them");
            return Err(file.differs(problem));
        }
        let expired = keeps(&loaded, &address, evicted_before)?;
        let server = loaded.promoted;
        self.are_kept(&[Holder::alone(address, server.clone())]).await?;
        let mut totals = std::collections::BTreeMap::new();
        for database in summary.databases.values() {
            let counts = database.keys.iter().map(|(kind, count)| (*kind, *count));
            for (name, count) in convert::by_name(counts) {
                *totals.entry(name).or_default() += count;
            }
        }
        let words =
            "the target attached to this Job as a replica, loaded the file and was promoted";
        let target = Target::from_info(&server.redis_version, server.valkey_version.as_deref());
        // No value was an argument.
        let target = Target { largest_argument: u64::MAX, ..target };
        let verified = self.verify(std::slice::from_ref(&file), target).await?;
        let words = [words.to_owned()].into_iter().chain(found).collect::<Vec<_>>();
        Ok(Restored {
            snapshot_id: file.snapshot_id(),
            path: file.path().trim_start_matches('/').to_owned(),
            bytes,
            restored: totals,
            expired,
            functions: summary.functions,
            remark: self.remark(Some(words.join("; ")), verified),
            verified,
            ..Restored::default()
        })
    }

    async fn hand_out(
        &self,
        serving: &mut Serving,
        file: &mut File,
    ) -> Result<(u64, coffer_rdb::walk::Summary), Error> {
        self.progress.stage(Stage::Load);
        self.progress.update(|state| state.total_bytes = file.size());
        let path = file.path().to_owned();
        let unreadable = |source| redis::Error::Rdb { path: path.clone(), source };
        let mut pouring = self.source.download(file).await?;
        serving.attach(file.size()).await?;
        let (mut walk, mut bytes) = (Walk::new(), 0);
        // The last piece is held back until the whole is known to be what was stored: a target that has
        // not got all of the file has loaded nothing for good.
        let mut held = None;
        while let Some(piece) = pouring.next().await? {
            walk.feed(&piece).map_err(unreadable)?;
            bytes += piece.len() as u64;
            if let Some(before) = held.replace(piece) {
                serving.send(&before).await?;
            }
            self.progress.update(|state| {
                state.bytes = bytes;
                state.keys = walk.so_far().total();
            });
        }
        let summary = walk.finish().map_err(unreadable)?;
        if let Some(last) = held {
            serving.send(&last).await?;
        }
        Ok((bytes, summary))
    }
}

/// Whether a target keeps what it has loaded. Gives back the keys that it removed since, because their time had passed.
fn keeps(loaded: &Loaded, address: &str, evicted_before: u64) -> Result<u64, redis::Error> {
    let Loaded { attached, promoted } = loaded;
    let address = address.to_owned();
    let keys = promoted.evicted_keys.saturating_sub(evicted_before);
    // It has only begun with that when it answers.
    let exceeded_by = attached.memory_exceeded_by().max(promoted.memory_exceeded_by());
    if exceeded_by > 0 {
        return Err(redis::Error::Full { address, exceeded_by, maxmemory: promoted.maxmemory });
    }
    if keys > 0 {
        return Err(redis::Error::Evicted { address, keys });
    }
    Ok(promoted.expired_keys.saturating_sub(attached.expired_keys))
}

fn refuse(why: &str) -> Error {
    Error::Redis(redis::Error::Replication {
        address: "the target".to_owned(),
        why: format!("{why}; use `load: keys`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Server;

    #[test]
    fn what_is_thrown_away_is_no_key_whose_time_has_passed() {
        let server = |used, evicted, expired| Server {
            maxmemory: 100,
            used_memory: used,
            evicted_keys: evicted,
            expired_keys: expired,
            keys: 1000,
            ..Server::default()
        };
        let keeps = |attached, promoted| keeps(&Loaded { attached, promoted }, "a", 5);
        assert_eq!(keeps(server(100, 5, 7), server(90, 5, 9)).ok(), Some(2));
        // It has begun to, or had no time for it yet.
        let full = keeps(server(101, 5, 7), server(90, 6, 9));
        assert!(matches!(full, Err(redis::Error::Full { exceeded_by: 1, .. })));
        let full = keeps(server(100, 5, 7), server(102, 5, 9));
        assert!(matches!(full, Err(redis::Error::Full { exceeded_by: 2, .. })));
        // As a replica that was told to look after its memory itself.
        let evicted = keeps(server(90, 8, 7), server(90, 8, 9));
        assert!(matches!(evicted, Err(redis::Error::Evicted { keys: 3, .. })));
    }
}
