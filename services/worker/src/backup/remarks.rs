//! What a user should know about a backup that is going to be whole, or is.

use super::part::Part;
use crate::options::Method;
use crate::redis::Node;

/// Before: a fork that the machine may have no room for. The copy shares its memory with the server, and
/// what is written meanwhile is there twice.
pub(super) fn before(node: &Node, method: Method) -> Option<String> {
    let server = &node.server;
    let needed = server.resident_memory + server.used_memory / 5;
    let tight = server.system_memory > 0 && needed > server.system_memory;
    (method == Method::Replication && tight).then(|| {
        format!(
            "the fork of Redis at {} may not fit: its process takes {} of its machine's {} MiB; prefer a replica, or \
             set `method: scan`",
            node.client.address(),
            server.resident_memory >> 20,
            server.system_memory >> 20,
        )
    })
}

/// After: what is remarkable about a dump that is whole.
pub(super) fn after(part: &Part) -> Vec<String> {
    let mut remarks = part.remarks.clone();
    for (index, database) in &part.summary.databases {
        if let Some((keys, _)) = database.announced.filter(|(keys, _)| *keys != database.total()) {
            remarks.push(format!(
                "the server announced {keys} keys in database {index} and sent {}, in a dump whose end \
                 and checksum are right",
                database.total()
            ));
        }
    }
    if part.summary.version.is_some() && !part.summary.checksummed {
        remarks.push(
            "the server wrote no checksum (rdbchecksum no): the dump is whole, damage inside a value \
             would not have been noticed"
                .to_owned(),
        );
    }
    remarks
}
