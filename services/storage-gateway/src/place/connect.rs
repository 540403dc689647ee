//! From a place to the object store that is there.

use super::{
    AzureContainer, AzureCredentials, B2Bucket, Backend, Bucket, Error, GcsBucket, Place, Prefix,
};
use crate::objects::b2;
use crate::objects::rest::RestServer;
use crate::objects::swift::Swift;
use crate::objects::transport::{Checksum, Transport};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use coffer_restic as restic;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut, resolve_bucket_region};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::HttpConnector as _;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// A host that does not answer the first packet in this time will not answer at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A server that sends nothing for so long has forgotten us.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// A pack of 16 MiB over a link of 32 KiB/s. The default of 30 s would fail slow links for good.
const REQUEST_LIMIT: Duration = Duration::from_secs(600);
/// Amazon's region of last resort, and what the others call theirs.
const DEFAULT_REGION: &str = "us-east-1";

/// Makes the store of a path in a place, as patient as it is told to be.
type Build<'a> =
    dyn Fn(RetryConfig, &Path) -> object_store::Result<Arc<dyn ObjectStore>> + Send + 'a;

fn maker<'a>(
    make: impl Fn(RetryConfig, &Path) -> object_store::Result<Arc<dyn ObjectStore>> + Send + 'a,
) -> Box<Build<'a>> {
    Box::new(make)
}

/// An object store whose root is the repository.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Rides out minutes of trouble: an hour's backup must not fail for one bad minute.
    pub objects: Arc<dyn ObjectStore>,
    /// The same place, but gives up after a few seconds: asks whether it can be reached at all.
    pub probe: Arc<dyn ObjectStore>,
    /// Where Coffer has put such a repository before ([`Prefix::former`]).
    pub former: Vec<Arc<dyn ObjectStore>>,
}

impl Place {
    /// Connects to the place. For a directory, `create` makes it if it may be made.
    ///
    /// # Errors
    /// When the directory is unusable, or certificates or credentials are. An endpoint that cannot be reached shows on first
    /// use, but for B2, which is asked for its endpoint.
    pub async fn connect(&self, create: bool) -> Result<Connection, Error> {
        let mut signed = None;
        let build: Box<Build<'_>> = match &self.backend {
            Backend::Local(directory) => {
                let (directory, repository) = (directory.clone(), self.repository.clone());
                let ensured = tokio::task::spawn_blocking(move || {
                    directory.ensure(&repository, create)?;
                    LocalFileSystem::new_with_prefix(&directory.path)
                        .map(|files| files.with_fsync(true))
                        .map_err(|source| Error::Client { repository, source })
                });
                let files = ensured
                    .await
                    .map_err(|source| self.client(object_store::Error::JoinError { source }))??;
                let objects: Arc<dyn ObjectStore> = Arc::new(files);
                maker(move |_, _| Ok(objects.clone()))
            }
            Backend::S3(bucket) => {
                let options = self.client_options(&bucket.endpoint, bucket.insecure)?;
                let region = region(bucket, &options).await;
                let transport = self.transport(None, Checksum::Signed, bucket.insecure);
                let builder = s3(bucket, &region, self)
                    .with_http_connector(transport.clone())
                    .with_client_options(options);
                signed = Some(transport);
                maker(move |patience, path| {
                    let store = builder.clone().with_retry(patience).build()?;
                    Ok(below(store, path))
                })
            }
            Backend::Gcs(bucket) => {
                let builder = gcs(bucket, self)
                    .with_http_connector(self.transport(
                        bucket.connections,
                        Checksum::Google,
                        false,
                    ))
                    .with_client_options(self.client_options(&bucket.endpoint, false)?);
                maker(move |patience, path| {
                    let store = builder.clone().with_retry(patience).build()?;
                    Ok(below(store, path))
                })
            }
            Backend::Azure(container) => {
                let transport = self.transport(container.connections, Checksum::Azure, false);
                let builder = azure(container, self)
                    .with_http_connector(transport)
                    .with_client_options(self.client_options(&container.endpoint, false)?);
                maker(move |patience, path| {
                    let store = builder.clone().with_retry(patience).build()?;
                    Ok(below(store, path))
                })
            }
            Backend::B2(bucket) => {
                let options = self.client_options(&bucket.api, false)?;
                let transport = self.transport(bucket.connections, Checksum::Signed, false);
                let client = transport.connect(&options).map_err(|e| self.client(e))?;
                let (id, key) = (&bucket.key_id, bucket.key.reveal());
                let account = b2::endpoint(&client, &brief(), &bucket.api, id, key).await;
                let endpoint = account.map_err(|refusal| self.account(refusal))?;
                let options = self.client_options(&endpoint, false)?;
                let builder = b2_builder(bucket, &endpoint)
                    .with_http_connector(transport.clone())
                    .with_client_options(options);
                signed = Some(transport);
                maker(move |patience, path| {
                    let store = builder.clone().with_retry(patience).build()?;
                    Ok(below(store, path))
                })
            }
            Backend::Swift(swift) => {
                let options = self.client_options(swift.login.url(), false)?;
                let client = self.transport(None, Checksum::None, false).connect(&options);
                let client = client.map_err(|e| self.client(e))?;
                maker(move |patience, path| {
                    let (login, name) = (swift.login.clone(), &swift.container);
                    let store = Swift::new(client.clone(), patience, login, name);
                    Ok(below(store, path))
                })
            }
            Backend::Rest(rest) => {
                let options = self.client_options(&rest.url, false)?;
                let client = self.transport(None, Checksum::None, false).connect(&options);
                let client = client.map_err(|e| self.client(e))?;
                let authorization = rest.credentials.as_ref().map(|(user, password)| {
                    let pair = [user.as_bytes(), b":", password.reveal()].concat();
                    format!("Basic {}", BASE64.encode(pair))
                });
                maker(move |patience, _| {
                    let (client, authorization) = (client.clone(), authorization.clone());
                    let store = RestServer::new(client, patience, &rest.url, authorization);
                    Ok(Arc::new(store) as Arc<dyn ObjectStore>)
                })
            }
        };
        let prefix = self.backend.prefix();
        let root = Path::ROOT;
        let path = prefix.map_or(&root, Prefix::path);
        let objects = build(RetryConfig::default(), path).map_err(|e| self.client(e))?;
        let probe = build(brief(), path).map_err(|e| self.client(e))?;
        if let Some(transport) = signed {
            transport.try_with(&probe);
        }
        let former = prefix.map_or(&[][..], Prefix::former);
        let former = former.iter().map(|path| build(brief(), path));
        let former = former.collect::<Result<_, _>>().map_err(|e| self.client(e))?;
        Ok(Connection { objects, probe, former })
    }

    /// The engine's view of a connection to this place.
    ///
    /// # Errors
    /// When a directory is gone since it was connected to.
    pub fn store(&self, connection: &Connection) -> restic::Result<restic::Store> {
        let store = match &self.backend {
            // Lists a directory itself, and is strict about it.
            Backend::Local(directory) => restic::Store::local(&directory.path)?,
            _ => restic::Store::new(connection.objects.clone(), self.location()),
        };
        Ok(if self.append_only { store.append_only() } else { store })
    }

    fn client(&self, source: object_store::Error) -> Error {
        Error::Client { repository: self.repository.clone(), source }
    }

    fn account(&self, refusal: b2::Refusal) -> Error {
        let class = refusal.class();
        let problem = match class {
            coffer_runtime::fault::Class::Unavailable => refusal.to_string(),
            _ => format!(
                "{refusal}; check B2_ACCOUNT_ID and B2_ACCOUNT_KEY in Secret {}",
                self.secret
            ),
        };
        Error::Account { repository: self.repository.clone(), problem, class }
    }

    /// Who trusts everybody needs no certificates.
    fn transport(
        &self,
        connections: Option<usize>,
        checksum: Checksum,
        insecure: bool,
    ) -> Transport {
        let transport = Transport::new(connections, checksum);
        match &self.ca {
            Some(ca) if !insecure => transport.trusting(ca),
            _ => transport,
        }
    }

    fn client_options(&self, endpoint: &str, insecure: bool) -> Result<ClientOptions, Error> {
        let mut options = ClientOptions::new()
            .with_allow_http(endpoint.starts_with("http://"))
            .with_connect_timeout(CONNECT_LIMIT)
            .with_read_timeout(READ_LIMIT)
            .with_timeout(REQUEST_LIMIT);
        for certificate in self.ca.iter().flatten() {
            let certificate = Certificate::from_der(certificate).map_err(|e| self.client(e))?;
            options = options.with_root_certificate(certificate);
        }
        if insecure {
            options = options.with_allow_invalid_certificates(true);
        }
        Ok(options)
    }
}

fn brief() -> RetryConfig {
    RetryConfig {
        max_retries: 2,
        retry_timeout: Duration::from_secs(5),
        backoff: BackoffConfig::default(),
    }
}

fn below(store: impl ObjectStore, path: &Path) -> Arc<dyn ObjectStore> {
    Arc::new(PrefixStore::new(store, path.clone()))
}

fn s3(bucket: &Bucket, region: &str, place: &Place) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.bucket)
        .with_region(region)
        .with_virtual_hosted_style_request(bucket.in_host);
    // Amazon's general host answers for one region only; without an endpoint the builder makes the region's.
    if !bucket.amazon || bucket.endpoint != "https://s3.amazonaws.com" {
        builder = builder.with_endpoint(match bucket.endpoint.split_once("://") {
            Some((scheme, host)) if bucket.in_host => {
                format!("{scheme}://{}.{host}", bucket.bucket)
            }
            _ => bucket.endpoint.clone(),
        });
    }
    // A bucket with object lock takes no upload without a checksum of its own. Others may not know the header.
    if bucket.amazon || place.append_only {
        builder = builder.with_checksum_algorithm(object_store::aws::Checksum::SHA256);
    }
    if bucket.endpoint.ends_with(".backblazeb2.com") {
        builder = builder.with_conditional_put(S3ConditionalPut::Disabled);
    }
    match &bucket.credentials {
        Some((id, secret)) => builder
            .with_access_key_id(id)
            .with_secret_access_key(String::from_utf8_lossy(secret.reveal())),
        None => place.machine.of("AWS_").fold(builder, |builder, (name, value)| {
            match name.to_ascii_lowercase().parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            }
        }),
    }
}

fn b2_builder(bucket: &B2Bucket, endpoint: &str) -> AmazonS3Builder {
    // s3.us-west-004.backblazeb2.com
    let host = endpoint.split("//").last().unwrap_or_default();
    let region = host.strip_prefix("s3.").and_then(|rest| rest.split('.').next());
    AmazonS3Builder::new()
        .with_bucket_name(&bucket.bucket)
        .with_endpoint(endpoint)
        .with_region(region.unwrap_or(DEFAULT_REGION))
        .with_virtual_hosted_style_request(false)
        .with_conditional_put(S3ConditionalPut::Disabled)
        .with_access_key_id(&bucket.key_id)
        .with_secret_access_key(String::from_utf8_lossy(bucket.key.reveal()))
}

fn gcs(bucket: &GcsBucket, place: &Place) -> GoogleCloudStorageBuilder {
    let builder = GoogleCloudStorageBuilder::new().with_bucket_name(&bucket.bucket);
    match &bucket.key {
        Some(key) => builder.with_service_account_key(String::from_utf8_lossy(key.reveal())),
        None => place
            .machine
            .of("GOOGLE_")
            .fold(builder, |builder, (_, path)| builder.with_application_credentials(path)),
    }
}

fn azure(container: &AzureContainer, place: &Place) -> MicrosoftAzureBuilder {
    let builder = MicrosoftAzureBuilder::new()
        .with_account(&container.account)
        .with_container_name(&container.container)
        .with_endpoint(container.endpoint.clone());
    match &container.credentials {
        AzureCredentials::Key(key) => {
            builder.with_access_key(String::from_utf8_lossy(key.reveal()))
        }
        AzureCredentials::Sas(sas) => {
            builder.with_config(AzureConfigKey::SasKey, String::from_utf8_lossy(sas.reveal()))
        }
        AzureCredentials::Machine => {
            place.machine.of("AZURE_").fold(builder, |builder, (name, value)| {
                match name.to_ascii_lowercase().parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                }
            })
        }
    }
}

/// Asks Amazon where the bucket is, as restic does, when nothing names the region. A failed question is no failure: the
/// first real request tells more of its reason.
async fn region(bucket: &Bucket, options: &ClientOptions) -> String {
    if let Some(region) = &bucket.region {
        return region.clone();
    }
    if !bucket.amazon {
        return DEFAULT_REGION.to_owned();
    }
    match resolve_bucket_region(&bucket.bucket, options).await {
        Ok(region) => region,
        Err(error) => {
            tracing::debug!(bucket = bucket.bucket, %error, "the bucket's region is not known");
            DEFAULT_REGION.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::LocalVolumes;
    use coffer_runtime::grant::RepositoryRef;
    use k8s_openapi::ByteString;
    use object_store::signer::Signer as _;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn a_bucket_is_in_the_host_where_restic_has_it_there() {
        coffer_runtime::process::install_crypto_provider();
        for (endpoint, name, expected) in [
            ("s3.amazonaws.com", "b", "https://b.s3.eu-west-1.amazonaws.com/p/x?"),
            ("s3.eu-west-1.amazonaws.com", "b", "https://b.s3.eu-west-1.amazonaws.com/p/x?"),
            ("s3.amazonaws.com", "b.c", "https://s3.eu-west-1.amazonaws.com/b.c/p/x?"),
            (
                "s3.amazonaws.com",
                "Old_Bucket",
                "https://s3.eu-west-1.amazonaws.com/Old_Bucket/p/x?",
            ),
            (
                "bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com",
                "b",
                "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com/b/p/x?",
            ),
            ("storage.googleapis.com", "b", "https://b.storage.googleapis.com/p/x?"),
            ("oss-cn-hangzhou.aliyuncs.com", "b", "https://b.oss-cn-hangzhou.aliyuncs.com/p/x?"),
            ("http://minio:9000", "b", "http://minio:9000/b/p/x?"),
            ("https://minio.example", "b", "https://minio.example/b/p/x?"),
        ] {
            let repository = RepositoryRef { namespace: "demo".into(), name: "repo".into() };
            let s3_spec = serde_json::json!({"endpoint": endpoint, "bucket": name, "prefix": "p"});
            let spec = serde_json::json!({"storageSecretName": "s", "s3": s3_spec});
            let spec = serde_json::from_value(spec).unwrap();
            let keys = ["RESTIC_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
            let data: BTreeMap<_, _> =
                keys.map(|key| (key.to_owned(), ByteString(b"x".to_vec()))).into();
            let place = Place::resolve(&repository, &spec, &data, &LocalVolumes::None).unwrap();
            let Backend::S3(bucket) = &place.backend else { panic!("not s3") };
            let options = ClientOptions::new().with_allow_http(true);
            let store =
                s3(bucket, "eu-west-1", &place).with_client_options(options).build().unwrap();
            let path = Path::from("p/x");
            let url = store.signed_url(http::Method::GET, &path, Duration::from_secs(60)).await;
            let url = url.unwrap().to_string();
            assert!(url.starts_with(expected), "{endpoint} {name}: {url}");
        }
    }
}
