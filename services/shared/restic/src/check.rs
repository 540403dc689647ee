//! Check: is everything there that snapshots need, and is it what it claims to be?
//!
//! A check never stops at the first finding: each damaged object becomes a [`Problem`] that names it.
//! Only a store that does not answer is an error. It runs under a shared lock, beside backups: the
//! snapshots are listed first, then the index, then the packs, so that whatever an earlier list
//! refers to is in the later ones.
//!
//! With `read_data` no flipped bit, no cut and no deletion goes unnoticed, in whatever file. Two can
//! only be guessed at: a snapshot file that is deleted leaves blobs that nothing uses, as a forget
//! does (a note); and a key other than the one in use is not known to have been there.

use crate::catalog::{Catalog, content_of};
use crate::error::{Error, Kind, Result};
use crate::lock::{self, Continuity, Lock};
use crate::progress::Observer;
use crate::repository::Repository;
use crate::used::{self, MAX_FINDINGS, Walked};

mod data;
mod files;
mod subset;

pub use subset::Subset;

/// How deep to look.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Also read, decrypt and hash every blob of the packs.
    pub read_data: bool,
    /// With `read_data`: of which packs.
    pub subset: Subset,
    /// Is told how far it is.
    pub observer: Observer,
}

/// What was looked at and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots seen.
    pub snapshots: u64,
    /// Packs seen.
    pub packs: u64,
    /// Blobs seen in the index.
    pub blobs: u64,
    /// Bytes of pack data read (with `read_data`).
    pub bytes_read: u64,
    /// Damage: data is or may be lost. The first thousand; a last one says how many more there are.
    pub problems: Vec<Problem>,
    /// Oddities that lose nothing, such as packs no index lists (an interrupted backup's).
    pub notes: Vec<Problem>,
    /// Findings beyond those listed.
    more: u64,
}

impl Report {
    /// Whether the repository is sound.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, file: impl Into<String>, problem: impl Into<String>) {
        if self.problems.len() < MAX_FINDINGS {
            self.problems.push(Problem { file: file.into(), problem: problem.into() });
        } else {
            self.more += 1;
        }
    }

    fn note(&mut self, file: impl Into<String>, problem: impl Into<String>) {
        if self.notes.len() < MAX_FINDINGS {
            self.notes.push(Problem { file: file.into(), problem: problem.into() });
        }
    }

    /// Damage becomes a finding; anything else ends the check.
    fn note_failure(&mut self, file: String, error: Error) -> Result<()> {
        match error.kind() {
            Kind::Corrupt | Kind::NotFound | Kind::Invalid => {
                let problem = error.chain_about(&file);
                self.problem(file, problem);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn finish(mut self) -> Self {
        self.problems.sort();
        self.problems.dedup();
        self.notes.sort();
        if self.more > 0 {
            let problem = format!("and {} findings more, which are not listed", self.more);
            self.problems.push(Problem { file: "the repository".into(), problem });
        }
        self
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object it is about.
    pub file: String,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

impl Repository {
    /// Checks the whole repository.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::LockLost`] if others removed our lock meanwhile, because what was
    /// found may then be somebody's work in progress; errors of the store other than missing
    /// objects. Damage is no error but in the report.
    pub async fn check(&self, options: &Options) -> Result<Report> {
        let lock = self.inner.lock_for_reading().await?;
        let looked = async {
            let report = self.look(options).await?;
            self.confirm(lock.as_ref()).await?;
            Ok(report)
        };
        let looked = looked.await;
        lock::during(lock, async { looked }).await
    }

    async fn confirm(&self, lock: Option<&Lock>) -> Result<()> {
        let Some(lock) = lock else { return Ok(()) };
        match lock.continuity(&self.inner.locker).await? {
            Continuity::Unbroken => Ok(()),
            Continuity::Broken => {
                let problem = "it was removed by others during the check; check again".into();
                Err(Error::LockLost { problem })
            }
        }
    }

    /// The check itself, under whatever lock the caller holds.
    pub(crate) async fn look(&self, options: &Options) -> Result<Report> {
        let inner = &self.inner;
        let observer = &options.observer;
        let mut report = Report::default();
        files::check_config(inner, &mut report).await?;
        files::check_keys(inner, &mut report).await?;
        files::check_locks(inner, &mut report).await?;
        let snapshots = files::check_snapshots(inner, observer, &mut report).await?;
        files::check_index_names(inner, &mut report).await?;
        let (catalog, failed) = Catalog::load_what_can_be(inner, observer).await?;
        for (id, failure) in failed {
            report.note_failure(crate::store::FileKind::Index.name(&id), failure)?;
        }
        let present = files::check_packs(inner, &catalog, &mut report).await?;
        let walked = used::walk(inner, &catalog, &snapshots, observer).await;
        tell_walked(&catalog, walked, &mut report)?;
        if options.read_data {
            data::read(inner, &catalog, &present, options, &mut report).await?;
        }
        Ok(report.finish())
    }
}

fn tell_walked(catalog: &Catalog, walked: Walked, report: &mut Report) -> Result<()> {
    let Walked { used, failures, oddities, harmless, more } = walked;
    report.more += more;
    for failure in failures {
        report.note_failure("snapshots".into(), failure)?;
    }
    for (tree, problem) in oddities {
        report.problem(tree, problem);
    }
    for (tree, problem) in harmless {
        report.note(tree, problem);
    }
    let unused = catalog.blobs().filter(|at| !used.has(at.entry()));
    let (count, bytes) = unused.fold((0_u64, 0_u64), |(count, bytes), at| {
        (count + 1, bytes + content_of(&catalog.get(at).0))
    });
    report.blobs = catalog.blobs().count() as u64;
    if count > 0 {
        let problem = format!(
            "{count} blobs with {bytes} bytes of content are used by no snapshot: prune frees them; if nothing was \
             forgotten and no backup was interrupted, a snapshot file was lost"
        );
        report.note("index", problem);
    }
    Ok(())
}
