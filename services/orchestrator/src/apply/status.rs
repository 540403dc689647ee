//! The status of an object, written on behalf of `apply.rs`.

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Kept, api, leads, subject};
use crate::{
    cache::Cached,
    context::{Context, Error},
    gather,
};

/// Times that a status is written on top of what others wrote into the rest of the object, before the pass is repeated.
const WRITES: usize = 4;

/// Writes a status when it differs from the one that was decided on; refused when somebody wrote the status meanwhile. A label
/// that somebody set meanwhile is no reason to refuse it: what a call did (a hook, a retention) would be done again.
pub async fn status<K: Kept + Cached, S: Serialize>(
    ctx: &Context,
    object: &K,
    old: Option<&S>,
    new: &S,
) -> Result<(), Error> {
    leads(ctx)?;
    let json = |source| Error::Json { what: "a status", source };
    let old = old.map(serde_json::to_value).transpose().map_err(json)?.unwrap_or(Value::Null);
    let mut new = serde_json::to_value(new).map_err(json)?;
    if old == new {
        return Ok(());
    }
    // A merge patch removes nothing that it does not name.
    if let (Some(old), Some(new)) = (old.as_object(), new.as_object_mut()) {
        for key in old.keys() {
            new.entry(key.clone()).or_insert(Value::Null);
        }
    }
    let mut version = object.resource_version();
    for left in (0..WRITES).rev() {
        let patch = json!({"metadata": {"resourceVersion": version}, "status": new});
        let written = api::<K>(ctx, &object.namespace().unwrap_or_default())
            .patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::cluster(format!("write the status of {}", subject(object))));
        match written {
            Ok(written) => {
                K::cache(&ctx.caches).wrote(&written);
                break;
            }
            Err(error) if error.is_conflict() && left > 0 => {
                version = Some(same_status(ctx, object, &old).await?.ok_or(error)?);
                leads(ctx)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The version that an object has by now, if its status is still `old`.
async fn same_status<K: Kept>(
    ctx: &Context,
    object: &K,
    old: &Value,
) -> Result<Option<String>, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let found = gather::get::<K>(ctx, &namespace, &name).await?;
    let Some(now) = found.filter(|now| now.uid() == object.uid()) else { return Ok(None) };
    let json =
        serde_json::to_value(&now).map_err(|source| Error::Json { what: "an object", source })?;
    Ok((json.get("status").unwrap_or(&Value::Null) == old)
        .then(|| now.resource_version())
        .flatten())
}
