//! `patch`: three patch formats over the live object, and server-side apply.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::write::{self, Ownership, Refusal, Written};
use super::{TRIES, update};
use crate::apiserver::builtin::unknown_fields;
use crate::apiserver::kinds::Rules;
use crate::apiserver::server::Call;
use crate::apiserver::service::Body;
use crate::apiserver::status::Failure;
use crate::apiserver::store::Object;
use crate::apiserver::{apply, object, patch};

const CUSTOM: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
const BUILTIN: &str = "application/json-patch+json, application/merge-patch+json, \
    application/strategic-merge-patch+json, application/apply-patch+yaml";

/// Patches an object, or its status.
///
/// # Errors
/// As the API server refuses.
pub async fn run(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Failure> {
    let applying = call.content_type == "application/apply-patch+yaml";
    let patch: Value = if applying {
        serde_yaml::from_slice(&body)
            .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")))?
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?
    };
    for _ in 0..TRIES {
        let tried = if applying {
            server_side(call, patch.clone()).await
        } else {
            Box::pin(patched(call, &patch)).await
        };
        match tried {
            Ok(answer) => return Ok(answer),
            Err(Refusal::Stale) => {}
            Err(Refusal::Failed(failure)) => return Err(failure),
        }
    }
    Err(Failure::conflict(&call.kind, call.name()))
}

async fn patched(call: &Call<'_>, change: &Value) -> Result<Response<Body>, Refusal> {
    let live = update::live(call)?;
    let mut value = call.kind.present(&call.version.name, &live.value).into_owned();
    let builtin = matches!(call.kind.rules, Rules::Builtin(_));
    match call.content_type.as_str() {
        "application/merge-patch+json" => patch::merge(&mut value, change),
        "application/json-patch+json" => refused(call, patch::json(&mut value, change))?,
        "application/strategic-merge-patch+json" if builtin => {
            let gvk = call.kind.gvk(&call.version.name);
            refused(call, patch::strategic(&gvk, &mut value, change))?;
        }
        _ => {
            let accepted = if builtin { BUILTIN } else { CUSTOM };
            return Err(Failure::unsupported_media_type(accepted).into());
        }
    }
    let draft = write::decode(call, value)?;
    let written = update::replace(call, &live, draft.value, Ownership::Tracked).await?;
    Ok(write::show(call, 200, &written, draft.warnings))
}

fn refused(call: &Call<'_>, patched: Result<(), patch::Error>) -> Result<(), Failure> {
    patched.map_err(|error| {
        let reason = match error.code() {
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            _ => "BadRequest",
        };
        let message = match error.code() {
            422 => format!("{} {:?} is invalid: {error}", call.kind.qualified(), call.name()),
            _ => error.to_string(),
        };
        Failure::new(error.code(), reason, message)
    })
}

async fn server_side(call: &Call<'_>, mut applied: Value) -> Result<Response<Body>, Refusal> {
    if call.params.field_manager.is_empty() {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                       required for apply patch";
        return Err(Failure::new(422, "Invalid", message).into());
    }
    write::check_type(call, &mut applied)?;
    let warnings = prune(call, &mut applied)?;
    let key = call.kind.key(call.namespace(), call.name());
    let live = call.server.store.get(&key);
    if live.is_none() && call.target.subresource.is_some() {
        return Err(Failure::not_found(&call.kind, call.name()).into());
    }
    if object::name(&applied).is_empty() {
        object::set_meta(&mut applied, "name", call.name());
    }
    let merged = merge(call, live.as_deref(), &applied)?;
    // What the whole object has to say about its unknown fields is said already.
    let draft = write::decode(call, merged)?;
    let (code, written): (u16, Written) = match live {
        Some(live) => (200, update::replace(call, &live, draft.value, Ownership::Given).await?),
        None if !object::uid(&applied).is_empty() => {
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: ",
                object::uid(&applied)
            );
            return Err(Failure::conflict_because(&call.kind, call.name(), &why).into());
        }
        None => match write::insert(call, draft.value, Ownership::Given).await {
            // Somebody created it in between: apply to theirs.
            Err(Refusal::Failed(failure)) if failure.code == 409 => return Err(Refusal::Stale),
            written => (201, written?),
        },
    };
    Ok(write::show(call, code, &written, warnings))
}

fn merge(call: &Call<'_>, live: Option<&Object>, applied: &Value) -> Result<Value, Failure> {
    let kind = &call.kind;
    let Some(schema) = &call.version.schema else {
        let message = format!("server-side apply is not offered for {}", kind.qualified());
        return Err(Failure::new(415, "UnsupportedMediaType", message));
    };
    let live = live.map(|live| kind.present(&call.version.name, &live.value).into_owned());
    let merged = apply::server_side(
        schema,
        live.as_ref(),
        applied,
        &call.manager,
        call.params.force,
        object::now(),
        call.target.subresource.as_deref(),
    );
    let mut merged = merged.map_err(|error| {
        Failure::from_status(error.status(&kind.group, &kind.name, call.name()))
    })?;
    if object::meta(applied, "resourceVersion").is_empty()
        && let Some(live) = &live
    {
        object::copy_meta(live, &mut merged, "resourceVersion");
    }
    Ok(merged)
}

/// Removes the unknown fields of a partial object. A built-in type would fill in what it requires,
/// and the applier would then own it: so only fields are taken away.
fn prune(call: &Call<'_>, applied: &mut Value) -> Result<Vec<String>, Failure> {
    let unknown = match &call.kind.rules {
        Rules::Builtin(entry) => {
            let kept = entry.decode(applied).map_err(|why| {
                let (name, version) = (&call.kind.name, &call.version.name);
                Failure::bad_request(format!(
                    "{name} in version {version:?} cannot be handled as a {name}: {why}"
                ))
            })?;
            let unknown = unknown_fields(applied, &kept);
            retain_known(applied, &kept);
            unknown
        }
        Rules::Custom => {
            call.version.schema.as_ref().map(|schema| schema.prune(applied)).unwrap_or_default()
        }
    };
    write::told(call, &unknown)
}

fn retain_known(given: &mut Value, kept: &Value) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            given.retain(|name, _| kept.contains_key(name));
            for (name, value) in given {
                retain_known(value, &kept[name]);
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            given.iter_mut().zip(kept).for_each(|(given, kept)| retain_known(given, kept));
        }
        // Quantities written as numbers become text, as in the type.
        (given @ Value::Number(_), Value::String(text)) => *given = text.clone().into(),
        _ => {}
    }
}
