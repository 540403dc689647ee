//! From format 1 to format 2, as restic's migration `upgrade_repo_v2` does it: the version in the
//! config, and nothing else. What is there stays as it is; what is written from then on is
//! compressed.
//!
//! The config is what opens the repository, so it is kept under another name until the new one has
//! been read back. An object store replaces an object whole or not at all: at every instant one of
//! the two configs is in place.

use bytes::Bytes;

use crate::check;
use crate::config::{Config, Version};
use crate::error::{Error, Result};
use crate::lock::{self, Continuity, Lock, Mode};
use crate::progress::Observer;
use crate::repository::{Inner, Repository};
use crate::store::CONFIG;
use crate::vault::Vault;

/// The name under which the old config is kept meanwhile.
pub(crate) const OLD_CONFIG: &str = "config-format-1";

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// The repository has format 2 now. Open it again: this handle goes on writing uncompressed.
    Done,
    /// It had format 2 before.
    NotNeeded,
}

impl Repository {
    /// Upgrades a repository of format 1 to format 2.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::Damaged`] if a check of the structure finds anything, before
    /// anything is changed; errors of the store, after which the old config is in place or named.
    pub async fn migrate(&self, observer: &Observer) -> Result<Migration> {
        if self.version() == Version::V2 {
            // What a migration that was cut off at its very end has left.
            let store = &self.inner.vault.store;
            if store.exists(OLD_CONFIG).await? {
                store.delete(OLD_CONFIG).await?;
            }
            return Ok(Migration::NotNeeded);
        }
        self.inner.vault.store.may_take_away("migrate")?;
        let lock = Lock::acquire(&self.inner.locker, Mode::Exclusive).await?;
        let migrated = async {
            // Somebody else may have migrated it since it was opened.
            if current(&self.inner).await?.1.version == Version::V2 {
                return Ok(Migration::NotNeeded);
            }
            let options = check::Options { observer: observer.clone(), ..Default::default() };
            let report = self.look(&options).await?;
            if let Some(problem) = report.problems.first() {
                let count = report.problems.len();
                let problem = format!("a check finds {count} problems, such as: {problem}");
                return Err(Error::damaged(self.location(), format!("{problem}; repair it first")));
            }
            upgrade(&self.inner, &lock).await
        };
        let migrated = migrated.await;
        lock::during(Some(lock), async { migrated }).await
    }
}

async fn upgrade(inner: &Inner, lock: &Lock) -> Result<Migration> {
    let store = &inner.vault.store;
    let key = &inner.vault.key;
    let (old, config) = current(inner).await?;
    let upgraded = Config { version: Version::V2, ..config };
    let new: Bytes = key.seal(&upgraded.encode()?)?.into();
    store.put(OLD_CONFIG, old.clone()).await?;
    if store.get(OLD_CONFIG).await? != old {
        let file = store.describe(OLD_CONFIG);
        return Err(Error::damaged(file, "is not what was just written; nothing was changed"));
    }
    if lock.continuity(&inner.locker).await? == Continuity::Broken {
        let problem = "it was removed by others; the config was not changed".into();
        return Err(Error::LockLost { problem });
    }
    let replaced = store.replace(CONFIG, new).await;
    if let Err(failure) = &replaced {
        // Whether the new one arrived is unknown: none but the old one is known to be whole.
        if let Err(error) = store.replace(CONFIG, old).await {
            let problem = format!(
                "may be damaged ({}) and could not be put back; as it was, it is kept as {OLD_CONFIG} beside it: copy that \
                 over it",
                failure.chain()
            );
            return Err(Error::damaged_by(store.describe(CONFIG), problem, error));
        }
    }
    store.delete(OLD_CONFIG).await?;
    replaced.map(|()| Migration::Done)
}

/// The config as it lies in the store, and what it says.
async fn current(inner: &Inner) -> Result<(Bytes, Config)> {
    let store = &inner.vault.store;
    let sealed = store.get(CONFIG).await?;
    let config = Config::decode(&Vault::open_config(&inner.vault.key, store, &sealed)?)?;
    Ok((sealed, config))
}
