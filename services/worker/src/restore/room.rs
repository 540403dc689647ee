//! Whether the target's memory limit has room for the snapshot, as far as that shows from outside.

use super::source::File;
use crate::error::Error;
use crate::options::Restore;
use crate::redis::{self, Node};

/// Refuses a limit that is too small for certain: data take more memory than their file, where nothing in
/// it is compressed. Where keys are there already that may be the same ones, it can only be a warning.
pub(super) fn check(
    nodes: &[Node],
    files: &[File],
    options: &Restore,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let size: u64 = files.iter().map(File::size).sum();
    let limited = nodes.iter().all(|node| node.server.maxmemory > 0);
    let limit: u64 = nodes.iter().map(|node| node.server.maxmemory).sum();
    let keys: u64 = nodes.iter().map(|node| node.server.keys).sum();
    let used: u64 = nodes.iter().map(|node| node.server.used_memory).sum();
    let Some(first) = nodes.first() else { return Ok(()) };
    let empty = keys == 0;
    let needed = if empty { used + size } else { size };
    if !limited || !options.filter.is_all() || options.dry_run || needed <= limit {
        return Ok(());
    }
    let why = format!(
        "the snapshot has {} MiB and maxmemory is {} MiB, of which {} are in use; raise maxmemory",
        size >> 20,
        limit >> 20,
        used >> 20
    );
    if empty || options.flush {
        return Err(redis::Error::Unsupported {
            address: first.client.address().to_owned(),
            what: "the snapshot".to_owned(),
            why,
        }
        .into());
    }
    warnings.push(format!("it may not fit into the target: {why}"));
    Ok(())
}
