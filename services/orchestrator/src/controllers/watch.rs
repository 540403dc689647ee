//! The watches: each feeds the cache of its kind, and then wakes whom the change concerns.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt as _, watcher},
};

use super::woken::{Wakes, Woken};
use crate::{apply::kind, context::Context};

/// Each ends never.
pub(super) fn all<'a>(ctx: &'a Arc<Context>, woken: &'a Woken) -> Vec<BoxFuture<'a, ()>> {
    vec![
        watch::<coffer_api::BackupConfiguration>(ctx, woken).boxed(),
        watch::<coffer_api::BackupSession>(ctx, woken).boxed(),
        watch::<coffer_api::RestoreSession>(ctx, woken).boxed(),
        watch::<coffer_api::Repository>(ctx, woken).boxed(),
        watch::<coffer_api::BackupBatch>(ctx, woken).boxed(),
        watch::<coffer_api::RestoreBatch>(ctx, woken).boxed(),
        watch::<coffer_api::AppBinding>(ctx, woken).boxed(),
        watch::<coffer_api::BackupBlueprint>(ctx, woken).boxed(),
    ]
}

async fn watch<K: Wakes>(ctx: &Context, woken: &Woken) {
    let events = watcher::watcher(Api::<K>::all(ctx.client.clone()), watcher::Config::default());
    // Who wrote which field is half of an object's size, and nobody here asks.
    let events = events.modify(|object| object.managed_fields_mut().clear()).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                for changed in K::cache(&ctx.caches).take(event) {
                    K::wake(&changed, &ctx.caches, woken);
                }
            }
            Err(error) => broke(kind::<K>(), &error),
        }
    }
}

/// Tells of a watch that is started again.
pub(super) fn broke(kind: &str, error: &(dyn std::error::Error + 'static)) {
    let error = coffer_runtime::fault::chain(error);
    tracing::warn!(kind, error, "a watch broke and is restarted");
}
