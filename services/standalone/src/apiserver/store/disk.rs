//! The file: one redb table of objects, one of counters.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use super::state::{Key, Object, State};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const VERSION: &str = "version";
const FORMAT: &str = "format";
const THIS_FORMAT: u64 = 1;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the file.
    #[error(
        "open {0}: another process uses this data directory; stop it or choose another --data-dir"
    )]
    InUse(PathBuf),
    /// The file cannot be opened as a store.
    #[error("open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// The file's directory or permissions cannot be set.
    #[error("prepare {path}")]
    Prepare {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file was written by a program that this one does not know.
    #[error("open {path}: it has format {found}, this program reads format {THIS_FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A row is not an object.
    #[error("open {path}: row {row} is damaged: {why}; restore the data directory from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The row's key.
        row: String,
        /// What is wrong with it.
        why: String,
    },
    /// The writer thread could not be started.
    #[error("start the object store's thread")]
    Thread(#[source] std::io::Error),
}

/// The open file.
pub(super) struct Disk {
    database: Database,
    path: PathBuf,
}

/// One row to write: the object's bytes, or `None` to remove the row.
pub(super) type Row<'a> = (&'a Key, Option<Vec<u8>>);

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        create_private(path)
            .map_err(|source| OpenError::Prepare { path: path.to_owned(), source })?;
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.to_owned()),
            other => OpenError::Open { path: path.to_owned(), source: Box::new(other.into()) },
        })?;
        Ok(Self { database, path: path.to_owned() })
    }

    fn failed(&self, error: impl Into<redb::Error>) -> OpenError {
        OpenError::Open { path: self.path.clone(), source: Box::new(error.into()) }
    }

    /// Reads every object, and makes the tables of a new file.
    pub(super) fn load(&self) -> Result<State, OpenError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            transaction.open_table(OBJECTS).map_err(|error| self.failed(error))?;
            let mut counters =
                transaction.open_table(COUNTERS).map_err(|error| self.failed(error))?;
            let found =
                counters.get(FORMAT).map_err(|error| self.failed(error))?.map(|v| v.value());
            match found {
                None => {
                    counters.insert(FORMAT, THIS_FORMAT).map_err(|error| self.failed(error))?;
                }
                Some(THIS_FORMAT) => {}
                Some(found) => return Err(OpenError::Format { path: self.path.clone(), found }),
            }
        }
        transaction.commit().map_err(|error| self.failed(error))?;

        let view = self.database.begin_read().map_err(|error| self.failed(error))?;
        let counters = view.open_table(COUNTERS).map_err(|error| self.failed(error))?;
        let version = counters.get(VERSION).map_err(|error| self.failed(error))?;
        let version = version.map_or(0, |guard| guard.value());
        let table = view.open_table(OBJECTS).map_err(|error| self.failed(error))?;
        let mut objects = Vec::new();
        for row in table.iter().map_err(|error| self.failed(error))? {
            let (row, bytes) = row.map_err(|error| self.failed(error))?;
            objects.push(self.parse(row.value(), bytes.value())?);
        }
        Ok(State::loaded(version, objects))
    }

    fn parse(&self, row: &str, bytes: &[u8]) -> Result<Object, OpenError> {
        let damaged = |why: &str| OpenError::Damaged {
            path: self.path.clone(),
            row: row.to_owned(),
            why: why.to_owned(),
        };
        let parts: Vec<&str> = row.split('/').collect();
        let [group, plural, namespace, name] = parts[..] else {
            return Err(damaged("its key has not four parts"));
        };
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        let version = value["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
        Ok(Object {
            key: Key::new(&format!("{group}/{plural}").into(), namespace, name),
            version: version.ok_or_else(|| damaged("it has no resource version"))?,
            value,
        })
    }

    /// Writes rows and the counter in one transaction, and returns when they are on the disk.
    pub(super) fn write(&self, rows: &[Row<'_>], version: u64) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for (key, bytes) in rows {
                let row = format!("{}/{}/{}", key.resource, key.namespace, key.name);
                match bytes {
                    Some(bytes) => objects.insert(row.as_str(), bytes.as_slice())?,
                    None => objects.remove(row.as_str())?,
                };
            }
            transaction.open_table(COUNTERS)?.insert(VERSION, version)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Makes the directory (0700) and the file (0600): Secrets are kept in it.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}
