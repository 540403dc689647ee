//! Where a repository lives.

use k8s_openapi::api::core::v1::Volume;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A storage Secret and exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Secret with `RESTIC_PASSWORD` and the backend's credentials, in the Repository's namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub storage_secret_name: String,
    /// A volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// S3, or what speaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Bucket>,
    /// Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// OpenStack Swift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swift: Option<Swift>,
    /// Backblaze B2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b2: Option<Bucket>,
    /// restic's REST server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
}

/// A directory in a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    /// Where the volume is mounted; the repository is at its root.
    pub mount_path: String,
    /// Directory of the volume that is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// The volume: any core/v1 VolumeSource.
    #[serde(flatten)]
    #[schemars(schema_with = "volume_source")]
    pub volume: LocalVolume,
}

/// A core/v1 VolumeSource, as its only field: `hostPath`, `persistentVolumeClaim`, `nfs` and so on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LocalVolume(pub serde_json::Map<String, serde_json::Value>);

impl LocalVolume {
    /// The name of the source, `hostPath`, and what it says.
    #[must_use]
    pub fn source(&self) -> Option<(&str, &serde_json::Value)> {
        self.0.iter().next().map(|(name, value)| (name.as_str(), value))
    }

    /// As a pod's volume of this name.
    ///
    /// # Errors
    /// When the source is none that Kubernetes knows.
    pub fn as_volume(&self, name: &str) -> Result<Volume, serde_json::Error> {
        let mut volume = self.0.clone();
        volume.insert("name".to_owned(), name.into());
        serde_json::from_value(volume.into())
    }
}

/// The schema of core/v1 Volume without its name, so that the CRD checks what it can.
fn volume_source(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Volume::json_schema(generator);
    if let Some(object) = schema.as_object_mut() {
        object.remove("description");
        object.remove("required");
        if let Some(properties) = object.get_mut("properties").and_then(|p| p.as_object_mut()) {
            properties.remove("name");
        }
    }
    schema
}

/// A bucket of S3 or of what speaks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// `s3.amazonaws.com`, or a URL.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Path in the bucket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Accepts any certificate.
    #[serde(default, rename = "insecureTLS", skip_serializing_if = "std::ops::Not::not")]
    pub insecure_tls: bool,
}

/// A bucket of GCS or B2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// Bucket.
    pub bucket: String,
    /// Path in the bucket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Connections at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i64>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// Container.
    pub container: String,
    /// Path in the container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Connections at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i64>,
}

/// A container of Swift.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Swift {
    /// Container.
    pub container: String,
    /// Path in the container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// restic's REST server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rest {
    /// URL of the repository.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
}

impl Backend {
    /// What the reference calls provider, container and prefix, of the first place that is set.
    #[must_use]
    pub fn location(&self) -> Option<Location<'_>> {
        let at = |provider, container, prefix| Location { provider, container, prefix };
        if let Some(b) = &self.local {
            return Some(at("local", b.mount_path.as_str(), ""));
        }
        if let Some(b) = &self.s3 {
            return Some(at("s3", &b.bucket, &b.prefix));
        }
        if let Some(b) = &self.gcs {
            return Some(at("gcs", &b.bucket, &b.prefix));
        }
        if let Some(b) = &self.azure {
            return Some(at("azure", &b.container, &b.prefix));
        }
        if let Some(b) = &self.swift {
            return Some(at("swift", &b.container, &b.prefix));
        }
        if let Some(b) = &self.b2 {
            return Some(at("b2", &b.bucket, &b.prefix));
        }
        self.rest.as_ref().map(|b| {
            let rest = b.url.split_once("://").map_or(b.url.as_str(), |(_, rest)| rest);
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            at("rest", host, path)
        })
    }

    /// The places that are set; a Repository needs exactly one.
    #[must_use]
    pub fn places(&self) -> Vec<&'static str> {
        [
            ("local", self.local.is_some()),
            ("s3", self.s3.is_some()),
            ("gcs", self.gcs.is_some()),
            ("azure", self.azure.is_some()),
            ("swift", self.swift.is_some()),
            ("b2", self.b2.is_some()),
            ("rest", self.rest.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
    }

    /// The S3 endpoint or REST URL.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.s3
            .as_ref()
            .map(|b| b.endpoint.as_str())
            .or_else(|| self.rest.as_ref().map(|b| b.url.as_str()))
    }

    /// The limit on connections, 0 where none is set.
    #[must_use]
    pub fn max_connections(&self) -> i64 {
        self.gcs
            .as_ref()
            .and_then(|b| b.max_connections)
            .or_else(|| self.azure.as_ref().and_then(|b| b.max_connections))
            .or_else(|| self.b2.as_ref().and_then(|b| b.max_connections))
            .unwrap_or(0)
    }
}

/// Where a backend points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// `local`, `s3`, `gcs`, `azure`, `swift`, `b2` or `rest`.
    pub provider: &'static str,
    /// Bucket, container, host or mount path.
    pub container: &'a str,
    /// Path within.
    pub prefix: &'a str,
}
