//! What the servers of a target can take, asked before anything is sent.

use coffer_rdb::resp::Reply;
use coffer_rdb::target::{DEFAULT_LARGEST_ARGUMENT, Modules, Target};

use crate::redis::error::first_word;
use crate::redis::{Client, Error, Server};

/// What all servers of the target can take.
#[derive(Default)]
pub(super) struct Limits {
    pub(super) target: Option<Target>,
    pub(super) largest_argument: Option<u64>,
    pub(super) may_ask_existing: bool,
    pub(super) evicted: u64,
}

impl Limits {
    pub(super) async fn learn(
        &mut self,
        client: &mut Client,
        server: &Server,
    ) -> Result<(), Error> {
        if let Some(master) = server.master.clone() {
            return Err(Error::Replica { address: client.address().to_owned(), master });
        }
        let largest = largest_argument(client).await?;
        // To say how many keys were replaced is a courtesy, not worth failing for a missing right.
        let probe = client.ask(&[b"EXISTS", b"coffer"]).await?;
        let may_ask =
            !matches!(&probe, Reply::Error(reply) if !matches!(first_word(reply), "MOVED" | "ASK"));
        let mut target = Target::from_info(&server.redis_version, server.valkey_version.as_deref());
        target.modules = modules(client).await?;
        let first = self.target.is_none();
        self.may_ask_existing = may_ask && (first || self.may_ask_existing);
        // Of servers in an upgrade, the oldest says what all of them can take.
        let oldest = self.target.take().filter(|known| known.release <= target.release);
        self.target = Some(oldest.unwrap_or(target));
        self.largest_argument =
            Some(self.largest_argument.map_or(largest, |known| known.min(largest)));
        self.evicted += server.evicted_keys;
        Ok(())
    }
}

/// The modules that the server has, where the user may ask.
async fn modules(client: &mut Client) -> Result<Modules, Error> {
    let Reply::Array(Some(list)) = client.ask(&[b"MODULE", b"LIST"]).await? else {
        return Ok(Modules::Unknown);
    };
    let name = |module: &Reply| {
        let Reply::Array(Some(fields)) = module else { return None };
        match fields.get(1)? {
            Reply::Bulk(Some(name)) => std::str::from_utf8(name).ok().map(str::to_owned),
            _ => None,
        }
    };
    Ok(Modules::Known(list.iter().filter_map(name).collect()))
}

/// What the server takes in one argument; its default where the user may not ask.
async fn largest_argument(client: &mut Client) -> Result<u64, Error> {
    let reply = client.ask(&[b"CONFIG", b"GET", b"proto-max-bulk-len"]).await?;
    let Reply::Array(Some(pair)) = reply else { return Ok(DEFAULT_LARGEST_ARGUMENT) };
    let Some(Reply::Bulk(Some(value))) = pair.get(1) else { return Ok(DEFAULT_LARGEST_ARGUMENT) };
    let value = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    Ok(value.unwrap_or(DEFAULT_LARGEST_ARGUMENT))
}
