//! `load: replica`: the file goes to the target as it is, and the target loads it.

use coffer_api::outcome::Restored;
use coffer_rdb::target::Target;
use coffer_rdb::walk::Walk;

use super::source::File;
use super::{Restore, convert, survey};
use crate::error::Error;
use crate::progress::Stage;
use crate::redis::{self, Serving, Topology};

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
        if survey::is_needed(std::slice::from_ref(&file), &node.server) {
            return Err(refuse(
                "the dump was written by another or a newer kind of server than the target, which would not \
                 load the file",
            ));
        }
        let attached = serving.insert(Serving::prepare(node, self.options.flush).await?);
        let (bytes, summary) = self.hand_out(attached, &mut file).await?;
        let server = attached.finish(warnings).await?;
        *serving = None;
        let read = summary.total();
        if server.keys > read {
            return Err(file
                .differs(format!("{read} keys were in it, and the target holds {}", server.keys)));
        }
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
        let verified = self.verify(std::slice::from_ref(&file), target).await?;
        let words = [words.to_owned()].into_iter().chain(found).collect::<Vec<_>>();
        Ok(Restored {
            snapshot_id: file.snapshot_id(),
            path: file.path().trim_start_matches('/').to_owned(),
            bytes,
            restored: totals,
            expired: read - server.keys,
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

fn refuse(why: &str) -> Error {
    Error::Redis(redis::Error::Replication {
        address: "the target".to_owned(),
        why: format!("{why}; use `load: keys`"),
    })
}
