//! `create`, the posted reviews, and tokens of service accounts.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::write::{self, Ownership};
use super::{TRIES, parse};
use crate::apiserver::represent::respond;
use crate::apiserver::server::Call;
use crate::apiserver::service::Body;
use crate::apiserver::status::Failure;
use crate::apiserver::{object, reviews};

/// Creates an object.
///
/// # Errors
/// As the API server refuses.
pub async fn run(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Failure> {
    if call.kind.namespaced && call.target.namespace.is_none() {
        return Err(Failure::method_not_allowed());
    }
    let draft = write::decode(call, parse(call, &body)?)?;
    if call.kind.create_only() {
        let namespace = call.target.namespace.as_deref();
        let answer = reviews::answer(call.server, &call.user, &call.kind, namespace, draft.value)?;
        return Ok(respond(201, &answer, call.accept.encoding, &draft.warnings));
    }
    let generated = object::name(&draft.value).is_empty();
    for _ in 0..TRIES {
        match write::insert(call, draft.value.clone(), Ownership::Tracked).await {
            Ok(written) => return Ok(write::show(call, 201, &written, draft.warnings)),
            // A generated name met an old one: another will not.
            Err(write::Refusal::Failed(failure)) if generated && failure.code == 409 => {}
            Err(refusal) => return Err(refusal.into_failure(&call.kind, call.name())),
        }
    }
    let message = "the generated names are all taken; try again";
    Err(Failure::new(409, "AlreadyExists", message))
}

/// `serviceaccounts/<name>/token`: a TokenRequest.
///
/// # Errors
/// When there is no such account, or the request asks for what is not offered.
pub async fn token(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Failure> {
    let mut request = parse(call, &body)?;
    let account = super::update::live(call)?;
    let uid = object::uid(&account.value);
    let audiences = object::strings(&request["spec"]["audiences"]);
    let seconds = request["spec"]["expirationSeconds"].as_i64();
    let issued = call
        .server
        .tokens
        .issue(&call.server.store, (call.namespace(), call.name(), uid), &audiences, seconds)
        .await?;
    let audiences: Vec<String> = audiences.into_iter().map(str::to_owned).collect();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    request["metadata"] = json!({
        "name": call.name(), "namespace": call.namespace(),
        "creationTimestamp": object::timestamp(object::now()),
    });
    let lifetime = (issued.expires - object::now()).num_seconds();
    request["spec"] = json!({
        "audiences": audiences, "expirationSeconds": seconds.unwrap_or(lifetime + 1),
        "boundObjectRef": Value::Null,
    });
    request["status"] = json!({
        "token": issued.token, "expirationTimestamp": object::timestamp(issued.expires),
    });
    Ok(respond(201, &request, call.accept.encoding, &[]))
}
