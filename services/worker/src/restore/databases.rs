//! Whether the databases that are asked for are those that the snapshot has. What is named and not there restores nothing,
//! and with `flush` it would be emptied for that.

use std::collections::BTreeSet;

use super::source::File;
use crate::error::Error;
use crate::filter::named;
use crate::options::Restore;
use crate::redis;

/// The databases that hold keys, if the manifest tells.
pub(super) fn told(files: &[File]) -> Option<BTreeSet<u64>> {
    let manifest = files.iter().find_map(File::manifest).filter(|manifest| manifest.counted)?;
    let held = manifest.databases.iter().filter(|database| database.keys.values().any(|n| *n > 0));
    Some(held.map(|database| u64::from(database.index)).collect())
}

/// Compares what is named with what the snapshot has. Gives back what a user should know.
///
/// # Errors
/// When a database would be emptied that nothing is restored into.
pub(super) fn check(present: &BTreeSet<u64>, options: &Restore) -> Result<Vec<String>, Error> {
    let has = format!("the snapshot has no keys there, but in {}", list(present));
    let absent = options.filter.absent(present);
    let gaps: BTreeSet<u64> = options.filter.databases.difference(present).copied().collect();
    let mut remarks = Vec::new();
    if !absent.is_empty() {
        if options.flush {
            return Err(Error::Redis(redis::Error::Unsupported {
                address: "the target".to_owned(),
                what: format!("what databases names: {}", named(&absent)),
                why: format!(
                    "{has}; flush would empty it and restore nothing into it: mend databases (args -db), or remove flush"
                ),
            }));
        }
        remarks.push(format!("nothing is restored of {}: {has}", named(&absent)));
    } else if options.flush && !gaps.is_empty() {
        remarks
            .push(format!("nothing is restored into {} (which flush empties): {has}", list(&gaps)));
    }
    let unmapped =
        |database: &u64| !present.contains(database) || !options.filter.takes_database(*database);
    let unmapped: BTreeSet<u64> = options.mapping.keys().copied().filter(unmapped).collect();
    if !unmapped.is_empty() {
        remarks.push(format!(
            "databaseMap names {}, of which nothing is restored: the snapshot has keys in {}",
            list(&unmapped),
            list(present)
        ));
    }
    Ok(remarks)
}

fn list(databases: &BTreeSet<u64>) -> String {
    named(&databases.iter().map(|database| (*database, *database)).collect::<Vec<_>>())
}
