//! What the target cannot hold. It is listed before anything is written, unless it may be lost.

use coffer_rdb::entries::Entry;
use coffer_rdb::strings::printable;
use coffer_rdb::target::{Feature, Target};
use coffer_rdb::travel::{self, Loss, Travel};
use coffer_rdb::value::Kind;

use super::{Error, Loader};
use crate::options::OnLoss;

/// Losses that are named one by one.
const NAMED: usize = 10;

const WOULD: &str = "would lose";

/// What a server must be able to do for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// That.
    Feature(Feature),
    /// To have a field expire at that time, in milliseconds since 1970.
    FieldTime(i64),
}

/// What is lost: how much, and the first of it by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    count: usize,
    named: Vec<String>,
    last: String,
}

impl Losses {
    fn note(&mut self, loss: String) {
        // A key of several commands loses the same by each.
        if self.last == loss {
            return;
        }
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(loss.clone());
        }
        self.last = loss;
    }

    fn list(&self) -> Vec<String> {
        let mut all = self.named.clone();
        if self.count > all.len() {
            all.push(format!("and {} more losses", self.count - all.len()));
        }
        all
    }
}

impl Loader {
    /// What the target is, and what it can do.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Looks whether the target can hold a key as it is in the dump; [`Self::refuse_losses`] says what not.
    ///
    /// # Errors
    /// When its value cannot be read.
    pub fn look_at(&mut self, entry: &Entry) -> Result<(), Error> {
        self.seen.get_or_insert_default().insert(entry.database);
        if !self.is_meant(entry) {
            return Ok(());
        }
        self.databases.insert(entry.database);
        if let Travel::Partly(_, loss) | Travel::Lost(loss) = self.travel(entry)? {
            self.losses.note(of_key(&entry.key, entry.database, WOULD, &loss));
        }
        Ok(())
    }

    /// The same for function libraries.
    pub fn look_at_functions(&mut self) {
        if self.options.filter.takes_functions() && !self.target.can(Feature::Functions) {
            let loss = self.loss_of_functions("functions");
            self.losses.note(loss);
        }
    }

    /// The same for a command that writes a key; `first` of those of its key.
    pub(crate) fn look_at_command(
        &mut self,
        key: &[u8],
        kind: Kind,
        first: bool,
        needs: Option<Need>,
    ) {
        self.seen.get_or_insert_default().insert(self.database);
        if !self.takes(key) {
            return;
        }
        self.databases.insert(self.database);
        if let Some(loss) = self.loss_of_command(kind, needs)
            && (first || kind != Kind::Stream)
        {
            self.losses.note(of_key(key, self.database, WOULD, &loss));
        }
    }

    /// To be asked before anything is written.
    ///
    /// # Errors
    /// When something was found that the target cannot hold, and it must not be lost.
    pub fn refuse_losses(&mut self) -> Result<(), Error> {
        self.seen.get_or_insert_default();
        let found = std::mem::take(&mut self.losses);
        if found.count == 0 || self.options.on_loss == OnLoss::Report {
            return Ok(());
        }
        Err(self.too_much(&found))
    }

    fn too_much(&self, losses: &Losses) -> Error {
        Error::Unsupported {
            address: self.address(),
            what: "all of the snapshot".to_owned(),
            why: format!(
                "{}; use another server, or allow it with `onLoss: report`",
                losses.list().join("; ")
            ),
        }
    }

    /// What was lost: the first by name, and how many more.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        self.losses.list()
    }

    /// Takes a loss as the options say.
    pub(super) fn lose(&mut self, loss: String) -> Result<(), Error> {
        if self.options.on_loss == OnLoss::Fail {
            let mut only = Losses::default();
            only.note(loss);
            return Err(self.too_much(&only));
        }
        self.losses.note(loss);
        Ok(())
    }

    pub(super) fn lose_of(&mut self, entry: &Entry, loss: &Loss) -> Result<(), Error> {
        self.lose(of_key(&entry.key, entry.database, self.verb(), loss))
    }

    /// Whether a command of a dump can be sent. What servers do not keep that are too old for it is left
    /// out; what users stored is a loss.
    pub(crate) fn may_send(
        &mut self,
        key: &[u8],
        kind: Kind,
        first: bool,
        needs: Option<Need>,
    ) -> Result<bool, Error> {
        if let Some(loss) = self.loss_of_command(kind, needs) {
            if first || kind != Kind::Stream {
                self.lose(of_key(key, self.database, self.verb(), &loss))?;
            }
            self.tally.lost += u64::from(first);
            return Ok(false);
        }
        Ok(match needs {
            Some(Need::Feature(feature)) => self.target.can(feature),
            Some(Need::FieldTime(_)) | None => true,
        })
    }

    fn verb(&self) -> &'static str {
        if self.options.on_loss == OnLoss::Fail { WOULD } else { "lost" }
    }

    fn loss_of_command(&self, kind: Kind, needs: Option<Need>) -> Option<Loss> {
        if kind == Kind::Stream && !self.target.can(Feature::Streams) {
            return Some(Loss::Type { name: kind.name(), target: self.target.to_string() });
        }
        match needs? {
            Need::FieldTime(at_ms) => travel::loss_of_field_time(at_ms, &self.target),
            Need::Feature(_) => None,
        }
    }

    pub(super) fn travel(&self, entry: &Entry) -> Result<Travel, Error> {
        if entry.key.len() as u64 > self.largest_argument {
            let (limit, target) = (self.largest_argument, self.target.to_string());
            return Ok(Travel::Lost(Loss::TooLarge { limit, target }));
        }
        travel::travel(entry.value_type, &entry.body, &self.target, self.largest_argument)
            .map_err(|source| super::unreadable(entry, source))
    }

    pub(super) fn loss_of_functions(&self, what: &str) -> String {
        format!("{what} would be lost: {} has none", self.target)
    }
}

fn of_key(key: &[u8], database: u64, verb: &str, loss: &Loss) -> String {
    format!("key {} of database {database} {verb} {loss}", printable(key, 80))
}
