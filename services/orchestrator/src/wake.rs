//! Names of objects that are to be looked at: each once, however often it is named before its turn comes.

use std::{collections::HashSet, sync::Arc};

use futures::Stream;
use kube::{Resource, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Clones are the same; bounded by the objects that there are.
pub struct Wake<K: Resource<DynamicType = ()>>(Arc<Shared<K>>);

struct Shared<K: Resource<DynamicType = ()>> {
    named: Mutex<HashSet<ObjectRef<K>>>,
    more: Notify,
}

impl<K: Resource<DynamicType = ()>> Clone for Wake<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Resource<DynamicType = ()>> Default for Wake<K> {
    fn default() -> Self {
        Self(Arc::new(Shared { named: Mutex::default(), more: Notify::new() }))
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Wake<K> {
    /// Names an object.
    pub fn add(&self, object: ObjectRef<K>) {
        self.extend([object]);
    }

    /// Names several.
    pub fn extend(&self, objects: impl IntoIterator<Item = ObjectRef<K>>) {
        self.0.named.lock().extend(objects);
        self.0.more.notify_one();
    }

    /// Yields what is named, in no order. For one reader.
    pub fn calls(&self) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
        futures::stream::unfold((self.clone(), vec![]), |(wake, mut taken)| async move {
            loop {
                if let Some(next) = taken.pop() {
                    return Some((next, (wake, taken)));
                }
                taken = wake.0.named.lock().drain().collect();
                if taken.is_empty() {
                    wake.0.more.notified().await;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_api::Repository;
    use futures::{FutureExt as _, StreamExt as _};

    #[test]
    fn each_is_called_once_however_often_it_is_named() {
        let wake = Wake::<Repository>::default();
        let mut calls = Box::pin(wake.calls());
        let at = |name: &str| ObjectRef::new(name).within("demo");
        assert!(calls.next().now_or_never().is_none());
        wake.extend([at("one"), at("two"), at("one")]);
        wake.add(at("two"));
        let mut called: Vec<_> =
            (0..2).map(|_| calls.next().now_or_never().flatten().unwrap().name).collect();
        called.sort();
        assert_eq!(called, ["one", "two"]);
        assert!(calls.next().now_or_never().is_none());
        wake.add(at("one"));
        assert_eq!(calls.next().now_or_never().flatten().unwrap().name, "one");
    }
}
