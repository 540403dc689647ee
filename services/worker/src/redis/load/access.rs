//! Whether the user may write the keys of a snapshot: an ACL may give a user some patterns of keys alone.
//!
//! The server is asked to do what no server can, which it refuses for another reason to whoever may. That needs no right
//! to ask for rights, and counts whatever the ACL is made of.

use coffer_rdb::entries::Entry;
use coffer_rdb::resp::{self, Reply};
use coffer_rdb::strings::printable;

use super::answers::Expect;
use super::{Error, Loader};
use crate::redis::error::first_word;

/// Which command writes the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// `RESTORE`, asked with a payload that no server takes.
    Restore,
    /// The commands of the types, of which `SET` is asked for a key that is there and is not.
    Commands,
}

impl By {
    fn question(self, key: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Restore => vec![b"RESTORE", key, b"0", b""],
            Self::Commands => vec![b"SET", key, b"", b"NX", b"XX"],
        }
    }
}

/// Whether an error reply says that the user may not touch the key, rather than not run the command.
pub(super) fn is_about_key(reply: &[u8]) -> bool {
    first_word(reply) == "NOPERM" && !printable(reply, 300).contains("to run the")
}

impl Loader {
    /// Finds out whether the user may touch some keys only, so that each key has to be asked for.
    ///
    /// # Errors
    /// When a connection is lost.
    pub(crate) async fn find_limits_of_user(&mut self, by: By) -> Result<bool, Error> {
        for lane in self.lanes.all() {
            // Whoever may touch the key without a name may touch all: no other pattern than `*` fits it.
            if let Reply::Error(reply) = lane.pipe.ask(&by.question(b"")).await?
                && is_about_key(&reply)
            {
                self.asks_for_keys = Some(by);
            }
        }
        Ok(self.asks_for_keys.is_some())
    }

    /// Asks whether the user may write a key, unless that is known; [`Self::settle`] waits for the last answer.
    ///
    /// # Errors
    /// When an answer so far was that the user may not.
    pub(crate) async fn refuse_no_access(&mut self, entry: &Entry) -> Result<(), Error> {
        if !self.is_meant(entry) {
            return Ok(());
        }
        self.ask_for(&entry.key, entry.database).await
    }

    /// The same for the key of a command.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn refuse_no_access_to(&mut self, key: &[u8]) -> Result<(), Error> {
        if !self.takes(key) {
            return Ok(());
        }
        self.ask_for(key, self.database).await
    }

    async fn ask_for(&mut self, key: &[u8], database: u64) -> Result<(), Error> {
        let Some(by) = self.asks_for_keys else { return Ok(()) };
        let pipe = &mut self.lanes.of(key).pipe;
        pipe.admit(key.len(), Expect::Access { key: key.to_vec().into(), database }).await?;
        resp::write_command(&mut pipe.buffer, &by.question(key));
        pipe.flush_if_full().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_from_a_command() {
        for reply in [
            "NOPERM No permissions to access a key",
            "NOPERM this user has no permissions to access one of the keys used as arguments",
        ] {
            assert!(is_about_key(reply.as_bytes()), "{reply}");
        }
        for reply in [
            "NOPERM User limited has no permissions to run the 'restore' command",
            "NOPERM this user has no permissions to run the 'restore' command or its subcommand",
            "ERR syntax error",
            "BUSYKEY Target key name already exists.",
        ] {
            assert!(!is_about_key(reply.as_bytes()), "{reply}");
        }
    }
}
