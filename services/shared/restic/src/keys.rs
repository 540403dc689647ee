//! The keys of a repository: who else opens it, and with which password.
//!
//! Each key file holds the same master key under a password of its own. Two rules: the key in use is
//! never removed, and a new key is read back and opened before an old one goes, so that at every
//! instant some password opens the repository.

use chrono::{DateTime, FixedOffset};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::key::{Kdf, KeyFile, Password};
use crate::lock::{self, Lock, Mode};
use crate::repository::{Inner, Repository};
use crate::store::FileKind;

/// A key file. The key itself is not in here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The id of the file.
    pub id: Id,
    /// When it was made; `None` if the file says nothing sensible.
    pub created: Option<DateTime<FixedOffset>>,
    /// The user who made it.
    pub username: String,
    /// The host it was made on.
    pub hostname: String,
    /// Whether it is the one that this repository was opened with.
    pub current: bool,
}

impl Repository {
    /// The keys, the oldest first.
    ///
    /// # Errors
    /// [`Error::Locked`]; errors of the store; [`Error::Damaged`] for a key that cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>> {
        let lock = self.inner.lock_for_reading().await?;
        lock::during(lock, self.inner.list_keys()).await
    }

    /// Adds a key for another password.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty password; [`Error::Locked`]; errors of the store;
    /// [`Error::Damaged`] if the store does not give back what was written.
    pub async fn add_key(
        &self,
        password: &Password,
        kdf: Kdf,
        host: &str,
        username: &str,
    ) -> Result<KeyInfo> {
        let lock = Lock::acquire(&self.inner.locker, Mode::Shared).await?;
        lock::during(Some(lock), self.inner.write_key(password, kdf, host, username)).await
    }

    /// Removes the key whose id begins so.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is the key in use, or if no key or several begin so;
    /// [`Error::Locked`]; errors of the store.
    pub async fn remove_key(&self, prefix: &str) -> Result<Id> {
        let inner = &self.inner;
        inner.vault.store.may_take_away("remove a key")?;
        let lock = Lock::acquire(&inner.locker, Mode::Exclusive).await?;
        let removed = async {
            let keys = inner.list_keys().await?;
            let doomed = pick(&keys, prefix)?;
            inner.vault.store.delete(&FileKind::Key.name(&doomed)).await?;
            Ok(doomed)
        };
        lock::during(Some(lock), removed).await
    }

    /// Replaces the key in use by one for another password. When it fails, both passwords may open
    /// the repository, never none.
    ///
    /// # Errors
    /// As [`add_key`](Self::add_key).
    pub async fn change_key(
        &self,
        password: &Password,
        kdf: Kdf,
        host: &str,
        username: &str,
    ) -> Result<KeyInfo> {
        let inner = &self.inner;
        inner.vault.store.may_take_away("change the key")?;
        let lock = Lock::acquire(&inner.locker, Mode::Exclusive).await?;
        let changed = async {
            let new = inner.write_key(password, kdf, host, username).await?;
            let old = std::mem::replace(&mut *inner.key_id.lock(), new.id);
            inner.vault.store.delete(&FileKind::Key.name(&old)).await?;
            Ok(KeyInfo { current: true, ..new })
        };
        lock::during(Some(lock), changed).await
    }
}

/// The key that begins so, if it may be removed.
fn pick(keys: &[KeyInfo], prefix: &str) -> Result<Id> {
    let refused = |problem: &str| Error::invalid(format!("key {prefix:?}"), problem);
    let mut matching =
        keys.iter().filter(|key| !prefix.is_empty() && key.id.to_string().starts_with(prefix));
    let key = matching.next().ok_or_else(|| refused("is not the id of a key, or its beginning"))?;
    if matching.next().is_some() {
        return Err(refused("is ambiguous: several keys begin so"));
    }
    if key.current {
        return Err(refused(
            "is the key in use: add another, use its password, and remove this one then",
        ));
    }
    if !keys.iter().any(|key| key.current) {
        return Err(refused("stays, because the key in use is gone: this may be the last one"));
    }
    Ok(key.id)
}

impl Inner {
    async fn list_keys(&self) -> Result<Vec<KeyInfo>> {
        let mut keys = Vec::new();
        let in_use = *self.key_id.lock();
        for (id, _) in self.vault.store.list(FileKind::Key).await? {
            let name = FileKind::Key.name(&id);
            let file = KeyFile::decode(
                &self.vault.store.describe(&name),
                &self.vault.store.get(&name).await?,
            )?;
            keys.push(describe(id, &file, id == in_use));
        }
        keys.sort_by_key(|key| (key.created, key.id));
        Ok(keys)
    }

    /// Writes a key file, and believes it when it has been read back and opened.
    async fn write_key(
        &self,
        password: &Password,
        kdf: Kdf,
        host: &str,
        username: &str,
    ) -> Result<KeyInfo> {
        if password.is_empty() {
            return Err(Error::invalid("the new password", "is empty"));
        }
        let json = {
            let (master, password) = (self.vault.key.clone(), password.clone());
            let (host, username) = (host.to_owned(), username.to_owned());
            let create = move || KeyFile::create(&master, &password, kdf, &host, &username);
            self.resources.compute("derive a key", create).await??.encode()?
        };
        let id = Id::of(&json);
        let name = FileKind::Key.name(&id);
        let written = self.confirm_key(id, &name, json, password).await;
        if written.is_err()
            && let Err(left) = self.vault.store.delete(&name).await
        {
            tracing::warn!(
                error = left.chain(),
                "a key that could not be confirmed is left behind"
            );
        }
        written
    }

    async fn confirm_key(
        &self,
        id: Id,
        name: &str,
        json: Vec<u8>,
        password: &Password,
    ) -> Result<KeyInfo> {
        let store = &self.vault.store;
        store.put(name, json.into()).await?;
        let read = store.get(name).await?;
        let described = store.describe(name);
        let file = KeyFile::decode(&described, &read)?;
        let info = describe(id, &file, false);
        let (password, path) = (password.clone(), described.clone());
        let open = move || file.open(&path, &password);
        match self.resources.compute("derive a key", open).await?? {
            Some(master) if master == self.vault.key && Id::of(&read) == id => Ok(info),
            _ => Err(Error::damaged(described, "does not open what was just written to it")),
        }
    }
}

fn describe(id: Id, file: &KeyFile, current: bool) -> KeyInfo {
    KeyInfo {
        id,
        created: DateTime::parse_from_rfc3339(&file.created).ok(),
        username: file.username.clone(),
        hostname: file.hostname.clone(),
        current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_in_use_and_the_last_one_stay() {
        let key = |name: u8, current| KeyInfo {
            id: Id::from_bytes([name; 32]),
            created: None,
            username: String::new(),
            hostname: String::new(),
            current,
        };
        let keys = [key(0x11, true), key(0x12, false), key(0xff, false)];
        assert_eq!(pick(&keys, "ff").unwrap(), keys[2].id);
        assert_eq!(pick(&keys, "12").unwrap(), keys[1].id);
        for (prefix, reason) in
            [("11", "in use"), ("1", "ambiguous"), ("", "not the id"), ("a", "not the id")]
        {
            let error = pick(&keys, prefix).unwrap_err().to_string();
            assert!(error.contains(reason), "{prefix}: {error}");
        }
        assert!(pick(&keys[1..], "12").unwrap_err().to_string().contains("gone"));
    }
}
