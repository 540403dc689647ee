//! `get` and `list`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use serde::Serialize;
use serde_json::{Value, json};

use crate::apiserver::represent::respond;
use crate::apiserver::selector::Selector;
use crate::apiserver::server::Call;
use crate::apiserver::service::Body;
use crate::apiserver::status::Failure;
use crate::apiserver::store::Object;

/// One object.
///
/// # Errors
/// When it is not there.
pub fn one(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let live = super::update::live(call)?;
    Ok(answer(call, call.view().object(&live.value).as_ref()))
}

/// The objects that a request selects, with the version of the view.
pub(in crate::apiserver) fn selected(
    call: &Call<'_>,
    selector: &Selector,
) -> (u64, Vec<Arc<Object>>) {
    let (version, mut objects) =
        call.server.store.list(&call.kind.resource, call.target.namespace.as_deref());
    objects.retain(|object| selector.matches(&object.value));
    (version, objects)
}

/// A list, or a page of one.
///
/// # Errors
/// When a selector, a version or a continue token makes no sense.
pub fn list(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let params = &call.params;
    let selector = Selector::parse(&call.kind, &params.label_selector, &params.field_selector)?;
    let (current, mut objects) = selected(call, &selector);
    check_version(call, current)?;
    let mut version = current;
    if !params.continue_token.is_empty() {
        let token = Continue::parse(&params.continue_token)?;
        // The first page's version: a watch from there tells of everything that changed while the
        // pages were read.
        version = token.version;
        objects.retain(|object| {
            (object.key.namespace.as_str(), object.key.name.as_str())
                > (token.namespace.as_str(), token.name.as_str())
        });
    }
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if params.limit > 0 && objects.len() > params.limit {
        let remaining = objects.len() - params.limit;
        objects.truncate(params.limit);
        if let Some(last) = objects.last() {
            let token = Continue {
                version,
                namespace: last.key.namespace.clone(),
                name: last.key.name.clone(),
            };
            metadata["continue"] = token.text().into();
        }
        if selector == Selector::default() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let values = objects.iter().map(|object| &object.value);
    Ok(answer(call, &call.view().list(values, &metadata)))
}

fn answer(call: &Call<'_>, value: &impl Serialize) -> Response<Body> {
    let warnings: Vec<String> = call.version.deprecation.clone().into_iter().collect();
    respond(200, value, call.accept.encoding, &warnings)
}

fn check_version(call: &Call<'_>, current: u64) -> Result<(), Failure> {
    let params = &call.params;
    let Some(wanted) = parse_version(&params.resource_version)? else { return Ok(()) };
    if wanted > current {
        return Err(too_large(wanted, current));
    }
    if params.resource_version_match == "Exact" && wanted != current && wanted != 0 {
        let message = format!(
            "The provided resource version is too old: {wanted}; only the current one ({current}) \
             can be listed exactly"
        );
        return Err(Failure::expired(message));
    }
    Ok(())
}

/// 504, on which clients list again.
pub(in crate::apiserver) fn too_large(wanted: u64, current: u64) -> Failure {
    Failure::with_details(
        504,
        "Timeout",
        format!("Too large resource version: {wanted}, current: {current}"),
        json!({"causes": [{"reason": "ResourceVersionTooLarge",
            "message": "Too large resource version"}], "retryAfterSeconds": 1}),
    )
}

/// A resource version from a query; `None` when there is none.
pub(in crate::apiserver) fn parse_version(text: &str) -> Result<Option<u64>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Failure::bad_request(format!("Invalid value: {text:?}: invalid resource version"))
    })
}

/// Where the next page begins.
struct Continue {
    version: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn text(&self) -> String {
        let token = json!({"rv": self.version, "ns": self.namespace, "name": self.name});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let parse = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let token: Value = serde_json::from_slice(&bytes).ok()?;
            Some(Self {
                version: token["rv"].as_u64()?,
                namespace: token["ns"].as_str()?.to_owned(),
                name: token["name"].as_str()?.to_owned(),
            })
        };
        parse().ok_or_else(|| Failure::bad_request("continue key is not valid"))
    }
}
