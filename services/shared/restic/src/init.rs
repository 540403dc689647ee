//! Making a repository, only where there is none, and only one.
//!
//! The key is written first, the config last: a config without its key would lock everybody out. An
//! init that is killed in between leaves a key and nothing else. Such a beginning is completed under
//! the master key that it holds, provided that the password opens it; nothing can have been written
//! under another one, since whoever writes data has written the config before.
//!
//! Two that initialise at once must end with one master key. Where the store can create an object only
//! if it is not there, that decides. Where it cannot, the keys decide, as locks do: each writes its key
//! and then looks; who sees another's takes its own back and waits for the other's config. So at most
//! one goes on with a key of its own, and who completes another's uses the same master key as it.

use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::crypto::SealingKey;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::key::{KeyFile, Password};
use crate::options::{InitOptions, OpenOptions};
use crate::repository::{Repository, read_config};
use crate::store::{CONFIG, FileKind, Store};

/// How long another's init may take from its key to its config before we complete it.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOKS: u32 = 10;
/// How often colliding inits begin anew, at random distances.
const ATTEMPTS: u32 = 8;

impl Repository {
    /// Makes a repository and opens it.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialised`] if there is a `config`, also if somebody else made it meanwhile;
    /// [`Error::Remains`] if there is anything else of a repository, except a key that the password
    /// opens. Nothing is changed then. Errors of the store.
    pub async fn init(
        store: Store,
        password: &Password,
        init: &InitOptions,
        options: OpenOptions,
    ) -> Result<Self> {
        let maker = Maker { store: &store, password, init, options: &options };
        for _ in 0..ATTEMPTS {
            let begun = match maker.look().await? {
                keys if keys.is_empty() => maker.begin().await?,
                keys => Some(maker.adopt(&keys).await?),
            };
            if let Some((master, key)) = begun {
                let config = maker.write_config(&master, &key).await?;
                let key_id = Id::of(&key.1);
                return Self::assemble(store, master, key_id, config, options);
            }
        }
        let problem = "others initialise it at the same time, and nobody gets to the end";
        Err(Error::invalid(store.location(), problem))
    }
}

/// A key file: its name and its content.
type Key = (String, Bytes);

struct Maker<'a> {
    store: &'a Store,
    password: &'a Password,
    init: &'a InitOptions,
    options: &'a OpenOptions,
}

impl Maker<'_> {
    fn occupied(&self) -> Error {
        let location = self.store.location().into();
        Error::AlreadyInitialised { location, found: CONFIG.into() }
    }

    fn remains(&self, found: &str, problem: &str) -> Error {
        let (location, found) = (self.store.location().into(), found.into());
        Error::Remains { location, found, problem: problem.into() }
    }

    /// The keys of an init that did not get to its config; fails if there is more than that.
    async fn look(&self) -> Result<Vec<Id>> {
        if read_config(self.store).await?.is_some() {
            return Err(self.occupied());
        }
        for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack, FileKind::Lock] {
            if let Some(found) = self.store.any(kind).await? {
                return Err(self.remains(&found, "is not initialised over"));
            }
        }
        self.keys().await
    }

    async fn keys(&self) -> Result<Vec<Id>> {
        let mut keys = Vec::new();
        for name in self.store.list_names(FileKind::Key).await? {
            match name.strip_prefix("keys/").and_then(|id| id.parse().ok()) {
                Some(id) => keys.push(id),
                None => return Err(self.remains(&name, "that is not a key of a repository")),
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Writes a new key; `None` if somebody else does so at the same time.
    async fn begin(&self) -> Result<Option<(SealingKey, Key)>> {
        let master = SealingKey::generate()?;
        let file: Bytes = {
            let (master, password) = (master.clone(), self.password.clone());
            let (kdf, host) = (self.init.kdf, self.options.host.clone());
            let username = self.options.username.clone();
            let create = move || KeyFile::create(&master, &password, kdf, &host, &username);
            self.options.resources.compute("derive a key", create).await??.encode()?.into()
        };
        let id = Id::of(&file);
        let name = FileKind::Key.name(&id);
        self.store.put(&name, file.clone()).await?;
        if self.keys().await? == [id] {
            return Ok(Some((master, (name, file))));
        }
        self.take_back(&name).await;
        tokio::time::sleep(PATIENCE.mul_f64(rand::random_range(0.1..0.5))).await;
        Ok(None)
    }

    async fn take_back(&self, name: &str) {
        if let Err(left) = self.store.delete(name).await {
            // It opens nothing that will ever be written; who opens the repository passes it over.
            tracing::warn!(error = left.chain(), "an unused key is left behind");
        }
    }

    /// The master key of a beginning that nobody seems to finish. Of several the lowest, so that all who
    /// complete it choose the same.
    async fn adopt(&self, keys: &[Id]) -> Result<(SealingKey, Key)> {
        for _ in 0..LOOKS {
            tokio::time::sleep(PATIENCE / LOOKS).await;
            if read_config(self.store).await?.is_some() {
                return Err(self.occupied());
            }
        }
        for id in keys {
            let name = FileKind::Key.name(id);
            let file = match self.store.get(&name).await {
                Ok(file) => file,
                Err(error) if error.is_not_found_in_store() => continue,
                Err(error) => return Err(error),
            };
            let (password, content) = (self.password.clone(), file.clone());
            let described = self.store.describe(&name);
            let open = move || KeyFile::decode(&described, &content)?.open(&described, &password);
            if let Some(master) = self.options.resources.compute("derive a key", open).await?? {
                tracing::warn!(key = name, "completing an init that did not get to its config");
                return Ok((master, (name, file)));
            }
        }
        let found = keys.first().map(|id| FileKind::Key.name(id)).unwrap_or_default();
        Err(self.remains(&found, "the password does not open that key"))
    }

    async fn write_config(&self, master: &SealingKey, (name, file): &Key) -> Result<Config> {
        let config = Config::generate(self.init.version)?;
        let sealed: Bytes = master.seal(&config.encode()?)?.into();
        // If this fails the config may be there all the same: the key has to stay, and can be adopted.
        self.store.create(CONFIG, sealed.clone()).await?;
        if self.store.get(CONFIG).await? != sealed {
            // The other's config may be sealed under our master key, if our key was adopted: it stays.
            return Err(self.occupied());
        }
        // Whoever began with the key that we adopted may have taken it back.
        if !self.store.exists(name).await? {
            self.store.put(name, file.clone()).await?;
        }
        Ok(config)
    }
}
