//! The verbs of the REST API, one a file; `write` holds what all that change an object share.

pub mod create;
pub mod delete;
pub mod patch;
pub mod read;
pub mod update;
pub mod write;

use bytes::Bytes;
use serde_json::Value;

use super::protobuf;
use super::server::Call;
use super::status::Failure;

/// The largest number of tries of a change that others keep overtaking.
const TRIES: usize = 8;

/// The request's body as JSON.
fn parse(call: &Call<'_>, body: &Bytes) -> Result<Value, Failure> {
    let malformed = |why: String| {
        let message = format!("the object provided is unrecognized: {why}");
        Failure::bad_request(message)
    };
    match call.content_type.as_str() {
        "application/json" | "*/*" | "" => {
            serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))
        }
        "application/yaml" => {
            serde_yaml::from_slice(body).map_err(|error| malformed(error.to_string()))
        }
        protobuf::MEDIA_TYPE => {
            protobuf::decode(body).map_err(|error| malformed(error.to_string()))
        }
        _ => Err(Failure::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}
