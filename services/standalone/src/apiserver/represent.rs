//! How an answer looks: whole objects, tables for kubectl, metadata only; JSON or YAML.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::kinds::{Kind, Version};
use super::object;
use super::service::{Body, full};
use super::status::Failure;
use super::table::{self, IncludeObject};

/// What of an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// All of it.
    #[default]
    Whole,
    /// A row of a `meta.k8s.io/v1` Table.
    Table,
    /// `PartialObjectMetadata`.
    Metadata,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// application/json.
    #[default]
    Json,
    /// application/yaml.
    Yaml,
}

/// What the client accepts, of what is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accept {
    /// What of an object.
    pub form: Form,
    /// In which encoding.
    pub encoding: Encoding,
}

impl Accept {
    /// The first entry of the `Accept` header that can be met. Protobuf and CBOR cannot; every
    /// client that asks for them also takes JSON.
    ///
    /// # Errors
    /// When no entry can be met.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        let entries: Vec<&str> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        if entries.is_empty() {
            return Ok(Self::default());
        }
        entries.into_iter().find_map(Self::entry).ok_or_else(Failure::not_acceptable)
    }

    fn entry(entry: &str) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let encoding = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            _ => return None,
        };
        let form = match parts.find_map(|part| part.strip_prefix("as=")) {
            None => Form::Whole,
            Some("Table") if entry.contains("v=v1") && !entry.contains("v=v1beta1") => Form::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Form::Metadata,
            Some(_) => return None,
        };
        Some(Self { form, encoding })
    }
}

/// Objects as they are listed. They are borrowed, since a list may have ten thousand.
#[derive(Serialize)]
#[serde(untagged)]
pub enum List<'a> {
    /// For people.
    Table(Value),
    /// For programs.
    #[serde(rename_all = "camelCase")]
    Items {
        /// Of the list.
        api_version: String,
        /// Of the list.
        kind: String,
        /// Of the list.
        metadata: Value,
        /// What is in it.
        items: Vec<Cow<'a, Value>>,
    },
}

/// Shows objects of one kind and version.
pub struct View<'a> {
    /// The kind.
    pub kind: &'a Kind,
    /// The version that the client asked for.
    pub version: &'a Version,
    /// What the client accepts.
    pub accept: Accept,
    /// The query parameter `includeObject`.
    pub include_object: &'a str,
}

impl View<'_> {
    /// One stored object.
    pub fn object<'v>(&self, stored: &'v Value) -> Cow<'v, Value> {
        match self.accept.form {
            Form::Whole => self.kind.present(&self.version.name, stored),
            Form::Metadata => Cow::Owned(metadata_only(stored)),
            Form::Table => {
                let version = &stored["metadata"]["resourceVersion"];
                Cow::Owned(self.table(&[stored], &json!({"resourceVersion": version})))
            }
        }
    }

    /// Stored objects as a list.
    pub fn list<'v>(&self, stored: impl Iterator<Item = &'v Value>, metadata: &Value) -> List<'v> {
        let (api_version, kind, items) = match self.accept.form {
            Form::Table => return List::Table(self.table(&stored.collect::<Vec<_>>(), metadata)),
            Form::Metadata => (
                "meta.k8s.io/v1".to_owned(),
                "PartialObjectMetadataList".to_owned(),
                stored.map(|value| Cow::Owned(metadata_only(value))).collect(),
            ),
            // Items carry no apiVersion and kind in Kubernetes' lists of built-in kinds, but do for custom ones; every
            // client takes them.
            Form::Whole => (
                self.kind.api_version(&self.version.name),
                self.kind.list_name.clone(),
                stored.map(|value| self.kind.present(&self.version.name, value)).collect(),
            ),
        };
        List::Items { api_version, kind, metadata: metadata.clone(), items }
    }

    fn table(&self, stored: &[&Value], metadata: &Value) -> Value {
        let show = |value: &&Value| self.kind.present(&self.version.name, value).into_owned();
        let shown: Vec<Value> = stored.iter().map(show).collect();
        let include = match self.include_object {
            "Object" => IncludeObject::Object,
            "None" => IncludeObject::None,
            _ => IncludeObject::Metadata,
        };
        let gvk = self.kind.gvk(&self.version.name);
        let columns = self.version.columns.as_deref();
        table::render(&gvk, columns, &shown, include, metadata, object::now())
    }
}

fn metadata_only(stored: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": stored["metadata"],
    })
}

/// An answer with a JSON or YAML body.
pub fn respond(
    code: u16,
    value: &impl Serialize,
    encoding: Encoding,
    warnings: &[String],
) -> Response<Body> {
    let (text, content_type) = match encoding {
        Encoding::Json => (serde_json::to_string(value).unwrap_or_default(), "application/json"),
        Encoding::Yaml => (serde_yaml::to_string(value).unwrap_or_default(), "application/yaml"),
    };
    let mut response = raw(code, content_type, text.into());
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// An answer with any body.
pub fn raw(code: u16, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A refusal.
pub fn refuse(failure: &Failure) -> Response<Body> {
    respond(failure.code, &failure.status, Encoding::Json, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<Accept, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        Accept::parse(&headers)
    }

    #[test]
    fn kubectl_gets_tables_and_everybody_gets_json() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl).unwrap().form, Form::Table);
        let go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(accept(go).unwrap(), Accept::default());
        let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        assert_eq!(accept(metadata).unwrap().form, Form::Metadata);
        assert_eq!(accept("text/html").unwrap_err().code, 406);
    }
}
