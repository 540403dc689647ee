//! Events: the words for people, written on behalf of `apply.rs`. Their reasons are stable, so that one may alert on them.

use coffer_api::time;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Kept, api, subject};
use crate::{
    context::{Context, describe},
    plan::Notice,
};

/// An Event is for people; a session does not fail for want of it. The same word about the same object is counted, not
/// repeated.
pub(super) async fn emit<K: Kept>(ctx: &Context, object: &K, notice: &Notice) {
    let namespace = object.namespace().unwrap_or_default();
    let said = (object.uid(), notice.warning, notice.reason, &notice.message);
    let digest = hex::encode(Sha256::digest(format!("{said:?}")));
    let event = event(ctx, object, &namespace, digest[..16].to_owned(), notice);
    if let Err(error) = count(ctx, &namespace, &event).await {
        let error = describe(&error);
        tracing::warn!(object = subject(object), reason = notice.reason, error, "write an event");
    }
}

async fn count(ctx: &Context, namespace: &str, event: &Event) -> Result<(), kube::Error> {
    let events = api::<Event>(ctx, namespace);
    match events.create(&PostParams::default(), event).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let name = event.name_any();
            let seen = events.get(&name).await?.count.unwrap_or(1);
            let patch =
                json!({"count": seen.saturating_add(1), "lastTimestamp": event.last_timestamp});
            events.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
        }
        created => created.map(|_| ()),
    }
}

fn event<K: Resource<DynamicType = ()>>(
    ctx: &Context,
    object: &K,
    namespace: &str,
    suffix: String,
    notice: &Notice,
) -> Event {
    let now = time::from_clock(ctx.clock.now());
    Event {
        metadata: ObjectMeta {
            // Names have 253 characters at most, and some objects use all of them.
            name: Some(format!(
                "{}.{suffix}",
                object.name_any().get(..220).unwrap_or(&object.name_any())
            )),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(object.name_any()),
            namespace: object.namespace(),
            uid: object.uid(),
            resource_version: object.resource_version(),
            field_path: None,
        },
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(notice.reason.to_owned()),
        message: Some(shorten(&notice.message)),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some(format!("{} Controller", K::kind(&()))),
            host: None,
        }),
        ..Event::default()
    }
}

/// The API server takes messages of an Event up to 1024 bytes.
fn shorten(message: &str) -> String {
    if message.len() <= 1024 {
        return message.to_owned();
    }
    let mut end = 1020;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}
