//! What is asked before a load writes anything: what is refused then has changed nothing.

use std::collections::BTreeSet;

use coffer_rdb::entries::Entry;
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;

use super::{Error, Loader};

impl Loader {
    /// Looks whether a key is there already.
    ///
    /// # Errors
    /// When it is, or the server does not say.
    pub async fn refuse_in_the_way(&mut self, entry: &Entry) -> Result<(), Error> {
        if !self.is_meant(entry) {
            return Ok(());
        }
        let lane = self.lanes.of(&entry.key);
        lane.select(self.options.target_of(entry.database)).await?;
        if !lane.holds_keys {
            return Ok(());
        }
        match lane.pipe.run(&[b"EXISTS", &entry.key]).await? {
            Reply::Integer(0) => Ok(()),
            _ => Err(Error::InTheWay { key: printable(&entry.key, 80), database: entry.database }),
        }
    }

    /// Whether two databases of the snapshot would go to the same one.
    ///
    /// # Errors
    /// Names them.
    pub fn check_databases(&self, databases: &BTreeSet<u64>) -> Result<(), Error> {
        let Some((one, other)) = self.options.collision(databases) else { return Ok(()) };
        Err(Error::Unsupported {
            address: "the target".to_owned(),
            what: format!("databases {one} and {other}"),
            why: "both would go to the same database and overwrite each other's keys; change databaseMap, or name \
                  what is wanted in databases"
                .to_owned(),
        })
    }

    /// The same for the databases of the keys that were looked at.
    ///
    /// # Errors
    /// Names them.
    pub fn refuse_merges(&self) -> Result<(), Error> {
        self.check_databases(&self.databases)
    }

    /// The databases of the keys that were looked at, if any were.
    #[must_use]
    pub fn seen(&self) -> Option<BTreeSet<u64>> {
        self.seen.clone()
    }

    /// Whether all databases are there that keys of these go to.
    ///
    /// # Errors
    /// Names one that is not.
    pub async fn refuse_databases(&mut self, databases: &BTreeSet<u64>) -> Result<(), Error> {
        let meant = databases.iter().filter(|one| self.options.filter.takes_database(**one));
        let targets: BTreeSet<u64> = meant.map(|one| self.options.target_of(*one)).collect();
        for lane in self.lanes.all() {
            for target in &targets {
                lane.select(*target).await?;
            }
        }
        Ok(())
    }

    /// Whether the servers have `RESTORE` and let the user run it.
    ///
    /// # Errors
    /// When one has not, or does not.
    pub async fn refuse_no_restore(&mut self) -> Result<(), Error> {
        for lane in self.lanes.all() {
            lane.may_restore().await?;
        }
        Ok(())
    }
}
