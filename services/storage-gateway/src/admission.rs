//! How many backups and restores run at a time: in all, and for one namespace, so that no tenant takes every place.
//!
//! What is over the limit is refused at once and not queued: a worker can tell its session why it waits, and asks again.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits, and what runs.
pub(crate) struct Admission {
    streams: Arc<Semaphore>,
    most: usize,
    most_in_namespace: usize,
    running: Arc<Mutex<HashMap<String, usize>>>,
}

/// A stream that may run; its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    _permit: OwnedSemaphorePermit,
    namespace: String,
    running: Arc<Mutex<HashMap<String, usize>>>,
}

/// There is no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error(
        "{0} backups and restores are running, which is this storage-gateway's limit (--max-streams); try again later"
    )]
    Gateway(usize),
    #[error(
        "{most} backups and restores of namespace {namespace} are running, which is this storage-gateway's limit for one \
         namespace (--max-streams-per-namespace); try again later"
    )]
    Namespace { namespace: String, most: usize },
}

impl Admission {
    pub(crate) fn new(most: usize, most_in_namespace: usize) -> Self {
        let running = Arc::default();
        Self { streams: Arc::new(Semaphore::new(most)), most, most_in_namespace, running }
    }

    /// Takes a place for a stream of this namespace.
    pub(crate) fn admit(&self, namespace: &str) -> Result<Admitted, Full> {
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            return Err(Full::Gateway(self.most));
        };
        let mut running = self.running.lock();
        let streams = running.entry(namespace.to_owned()).or_default();
        if *streams >= self.most_in_namespace {
            let most = self.most_in_namespace;
            return Err(Full::Namespace { namespace: namespace.to_owned(), most });
        }
        *streams += 1;
        Ok(Admitted {
            _permit: permit,
            namespace: namespace.to_owned(),
            running: self.running.clone(),
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if let Some(streams) = running.get_mut(&self.namespace) {
            *streams -= 1;
            if *streams == 0 {
                running.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_namespace() {
        let admission = Admission::new(3, 2);
        let first = admission.admit("a").unwrap();
        let _second = admission.admit("a").unwrap();
        let full = Full::Namespace { namespace: "a".to_owned(), most: 2 };
        assert_eq!(admission.admit("a").unwrap_err(), full);
        let other = admission.admit("b").unwrap();
        assert_eq!(admission.admit("c").unwrap_err(), Full::Gateway(3));
        drop(first);
        let _third = admission.admit("a").unwrap();
        drop(other);
        assert_eq!(admission.running.lock().len(), 1, "namespaces without streams are not kept");
    }
}
