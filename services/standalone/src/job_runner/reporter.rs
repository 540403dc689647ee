//! The one writer of a Pod's status.

use std::time::Duration;

use chrono::Utc;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

use super::status::State;

/// How often a status is offered to an API server that does not take it, over about a minute.
const TRIES: u32 = 40;

/// Holds the state of a Pod and publishes every change of it.
pub(super) struct Reporter {
    api: Api<Pod>,
    name: String,
    uid: String,
    state: Mutex<State>,
    /// Statuses leave in the order of the changes.
    writing: tokio::sync::Mutex<()>,
}

impl Reporter {
    pub(super) fn new(api: Api<Pod>, name: String, uid: String, state: State) -> Self {
        Self { api, name, uid, state: Mutex::new(state), writing: tokio::sync::Mutex::new(()) }
    }

    /// Reads the state.
    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock())
    }

    /// Changes the state and publishes it.
    pub(super) async fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        let _order = self.writing.lock().await;
        let status = self.state.lock().render(Utc::now());
        let patch = Patch::Merge(json!({"metadata": {"uid": self.uid}, "status": status}));
        for attempt in 0..TRIES {
            match self.api.patch_status(&self.name, &PatchParams::default(), &patch).await {
                Ok(_) => return,
                // The Pod is gone, or another one has its name: nobody is left to tell.
                Err(kube::Error::Api(status)) if [404, 409, 422].contains(&status.code) => {
                    tracing::debug!(pod = self.name, reason = status.reason, "status not taken");
                    return;
                }
                Err(error) if attempt + 1 == TRIES => {
                    tracing::error!(pod = self.name, %error, "cannot write the status of a Pod");
                }
                Err(_) => {
                    let pause = Duration::from_millis(50 << attempt.min(5));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}
