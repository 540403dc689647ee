//! Events about objects: what people read in `kubectl describe`.

use coffer_api::time;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt, api::PostParams};

use super::{Kept, api, create_or_get, subject};
use crate::{
    context::{Context, Error, describe},
    plan::Notice,
};

/// An Event is for people; a session does not fail for want of it.
pub(super) async fn emit<K: Kept>(ctx: &Context, object: &K, notice: &Notice) {
    let namespace = object.namespace().unwrap_or_default();
    let nanos = ctx.clock.now().timestamp_nanos_opt().unwrap_or_default();
    let event = event(ctx, object, &namespace, format!("{nanos:x}"), notice);
    if let Err(error) = api::<Event>(ctx, &namespace).create(&PostParams::default(), &event).await {
        let error = describe(&error);
        tracing::warn!(object = subject(object), reason = notice.reason, error, "write an event");
    }
}

/// An Event about a cluster-scoped object; such Events live in `default`. One for each generation.
pub async fn emit_once<K>(ctx: &Context, object: &K, notice: &Notice) -> Result<(), Error>
where
    K: Resource<DynamicType = ()>,
{
    const HOME: &str = "default";
    let generation = object.meta().generation.unwrap_or_default();
    let suffix = format!("{}.{generation}", K::kind(&()).to_lowercase());
    let event = event(ctx, object, HOME, suffix, notice);
    create_or_get(ctx, &event).await.map(|_| ())
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
            name: Some(format!("{}.{suffix}", object.name_any())),
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
