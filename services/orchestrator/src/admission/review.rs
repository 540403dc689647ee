//! From a question of the API server to its answer.

use http::StatusCode;
use kube::core::{
    DynamicObject, Status,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation},
};
use serde::de::DeserializeOwned;

use super::judge;
use crate::context::Context;

/// The answer, as JSON.
///
/// # Errors
/// With an HTTP code, when the question cannot be understood, or not be answered now.
pub(super) async fn answer(ctx: &Context, body: &[u8]) -> Result<String, (StatusCode, String)> {
    let unclear = |error: &dyn std::fmt::Display| (StatusCode::BAD_REQUEST, error.to_string());
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(|error| unclear(&error))?;
    let request: AdmissionRequest<DynamicObject> =
        review.try_into().map_err(|error| unclear(&error))?;
    let response = AdmissionResponse::from(&request);
    let judged = match question(&request) {
        Some(object) => judged(ctx, &request, object).await,
        None => Ok(Ok(())),
    };
    let response = match judged {
        Ok(Ok(())) => response,
        Ok(Err(why)) => refused(response, &why),
        Err(error) => return Err((StatusCode::SERVICE_UNAVAILABLE, error.describe())),
    };
    serde_json::to_string(&response.into_review())
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// The object that is to be judged: one that is new, or whose spec has changed. Who sets a finalizer or a label on an
/// object of old is not held to rules that it never met, and one that is being deleted must be able to go.
fn question(request: &AdmissionRequest<DynamicObject>) -> Option<&DynamicObject> {
    let object = request.object.as_ref()?;
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    match request.operation {
        Operation::Create => Some(object),
        Operation::Update => {
            let old = request.old_object.as_ref()?;
            (old.data["spec"] != object.data["spec"]).then_some(object)
        }
        Operation::Delete | Operation::Connect => None,
    }
}

async fn judged(
    ctx: &Context,
    request: &AdmissionRequest<DynamicObject>,
    object: &DynamicObject,
) -> judge::Judgement {
    // The path's namespace counts: the object's own may be left out.
    let mut object = object.clone();
    object.metadata.namespace.clone_from(&request.namespace);
    match request.kind.kind.as_str() {
        "BackupConfiguration" => Box::pin(judge::backup_configuration(ctx, typed(object)?)).await,
        "BackupBatch" => Box::pin(judge::backup_batch(ctx, typed(object)?)).await,
        "BackupBlueprint" => Ok(judge::backup_blueprint(&typed(object)?)),
        "RestoreSession" => Box::pin(judge::restore_session(ctx, typed(object)?)).await,
        "RestoreBatch" => judge::restore_batch(ctx, typed(object)?).await,
        _ => Ok(Ok(())),
    }
}

/// The schema has been checked before we are asked.
fn typed<K: DeserializeOwned>(object: DynamicObject) -> Result<K, crate::context::Error> {
    let json = |source| crate::context::Error::Json { what: "the object in question", source };
    serde_json::from_value(serde_json::to_value(object).map_err(json)?).map_err(json)
}

fn refused(response: AdmissionResponse, why: &str) -> AdmissionResponse {
    let mut response = response.deny(why);
    response.result = Status::failure(why, "Forbidden").with_code(403);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn asks(operation: &str, new: Value, old: Value) -> bool {
        let object = |spec: Value| {
            let mut object = json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupBatch",
                "metadata": {"name": "a"}});
            if spec == "deleted" {
                object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                object["spec"] = json!({"schedule": "changed"});
            } else {
                object["spec"] = spec;
            }
            object
        };
        let kind =
            json!({"group": "stash.appscode.com", "version": "v1beta1", "kind": "BackupBatch"});
        let mut review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "kind": kind, "name": "a", "namespace": "demo", "operation": operation, "dryRun": false,
            "resource": {"group": "stash.appscode.com", "version": "v1beta1", "resource": "backupbatches"},
            "userInfo": {"username": "me"}, "object": object(new)}});
        if !old.is_null() {
            review["request"]["oldObject"] = object(old);
        }
        let review: AdmissionReview<DynamicObject> = serde_json::from_value(review).unwrap();
        question(&review.try_into().unwrap()).is_some()
    }

    #[test]
    fn only_new_objects_and_changed_specs_are_judged() {
        let spec = |schedule: &str| json!({ "schedule": schedule });
        assert!(asks("CREATE", spec("a"), Value::Null));
        assert!(asks("UPDATE", spec("b"), spec("a")));
        assert!(!asks("UPDATE", spec("a"), spec("a")));
        assert!(!asks("UPDATE", json!("deleted"), spec("a")));
        assert!(!asks("DELETE", spec("a"), spec("a")));
    }
}
