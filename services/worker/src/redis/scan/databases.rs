//! Whether the databases that a scan is to be of are there. A mistyped number would make an empty backup each night.

use std::collections::BTreeSet;

use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;

use crate::filter::{Filter, named};
use crate::redis::error::first_word;
use crate::redis::{Client, Error, Server};

/// Makes sure that the server has the databases that are named. Gives back which of them hold no keys, for the user.
///
/// # Errors
/// When it has one of them not, or does not let the user go there.
pub(super) async fn without_keys(
    client: &mut Client,
    server: &Server,
    filter: &Filter,
) -> Result<Option<String>, Error> {
    let present: BTreeSet<u64> = server.databases.keys().copied().collect();
    let mut absent = filter.absent(&present);
    // The only one of a cluster, of which each of its servers may have no keys.
    absent.retain(|(first, _)| !server.cluster || *first != 0);
    for (database, _) in absent.iter().filter(|(first, _)| *first != 0) {
        let index = database.to_string();
        let select: [&[u8]; 2] = [b"SELECT", index.as_bytes()];
        match client.ask(&select).await? {
            Reply::Error(reply) if first_word(&reply) == "NOPERM" => {
                return Err(client.refused(&select, &reply));
            }
            Reply::Error(reply) => {
                let (address, reply) = (client.address().to_owned(), printable(&reply, 200));
                return Err(Error::NoDatabase { address, database: *database, reply });
            }
            _ => {}
        }
        client.run(&[b"SELECT", b"0"]).await?;
    }
    let present: Vec<_> = present.into_iter().map(|database| (database, database)).collect();
    Ok((!absent.is_empty()).then(|| {
        format!(
            "there is nothing to back up of {}: the server has keys in {}",
            named(&absent),
            named(&present)
        )
    }))
}
