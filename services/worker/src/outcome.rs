//! The job's result, left where the kubelet looks for it.

use std::path::Path;

use coffer_api::outcome::{Failed, Outcome, Result as Ended};
use coffer_runtime::fault::{self, Fault as _};

use crate::error::Error;

/// A failure as a result.
pub(crate) fn failed(error: &Error, keys_written: u64) -> Ended {
    let (class, error) = (error.class().reason().to_owned(), fault::chain(error));
    Ended::Failed(Failed { class, error, keys_written })
}

/// Writes the termination message. Written in place, not renamed into it: in a container the file is a
/// mount of the kubelet's.
pub(crate) async fn write(path: &Path, outcome: &Outcome) -> std::io::Result<()> {
    tokio::fs::write(path, outcome.to_message()).await
}
