//! Function libraries: they belong to no key, and to no database.

use bytes::Bytes;
use coffer_rdb::payload::{self, Payload};
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;
use coffer_rdb::target::Feature;

use super::{Error, Loader};

impl Loader {
    /// Loads a function library, in place of one of that name; none when only a part of the keys is meant.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn function(&mut self, source: &[u8]) -> Result<(), Error> {
        let head = source.split(|byte| *byte == b'\n').next().unwrap_or_default();
        self.load_functions(
            &[b"FUNCTION", b"LOAD", b"REPLACE", source],
            &format!("the function library `{}`", printable(head, 80)),
        )
        .await
    }

    /// Loads what `FUNCTION DUMP` gave.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn functions(&mut self, payload: &[u8]) -> Result<(), Error> {
        let unreadable =
            |source| Error::Rdb { path: "the dump of the function libraries".to_owned(), source };
        let Payload { type_code, body, .. } =
            payload::parse(Bytes::copy_from_slice(payload)).map_err(unreadable)?;
        // As with values, a server takes them with the footer of its own version only.
        let footer = payload::footer(type_code, &body, self.target().reads.number);
        let payload = [&[type_code], &body[..], &footer].concat();
        self.load_functions(
            &[b"FUNCTION", b"RESTORE", &payload, b"REPLACE"],
            "the function libraries",
        )
        .await
    }

    async fn load_functions(&mut self, command: &[&[u8]], what: &str) -> Result<(), Error> {
        if !self.options.filter.is_all() || self.options.dry_run {
            return Ok(());
        }
        if !self.target.can(Feature::Functions) {
            let loss = self.loss_of_functions(what);
            self.tally.lost += 1;
            return self.lose(loss);
        }
        for lane in self.lanes.all() {
            let address = lane.pipe.address.clone();
            match lane.pipe.ask(command).await? {
                Reply::Error(reply) if reply.starts_with(b"NOPERM") => {
                    return Err(Error::from_reply(&address, "FUNCTION LOAD", &reply));
                }
                Reply::Error(reply) => {
                    let (what, why) = (what.to_owned(), printable(&reply, 300));
                    return Err(Error::Unsupported { address, what, why });
                }
                _ => {}
            }
        }
        self.tally.functions += 1;
        Ok(())
    }
}
