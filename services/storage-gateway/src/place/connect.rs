//! From a place to the object store that is there.

use super::{Backend, Bucket, Error, Place};
use object_store::aws::{AmazonS3Builder, resolve_bucket_region};
use object_store::local::LocalFileSystem;
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

/// An object store whose root is the repository.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Rides out minutes of trouble: an hour's backup must not fail for one bad minute.
    pub objects: Arc<dyn ObjectStore>,
    /// The same place, but gives up after a few seconds: asks whether it can be reached at all.
    pub probe: Arc<dyn ObjectStore>,
}

impl Place {
    /// Connects to the place. For a directory, `create` makes it if it may be made.
    ///
    /// # Errors
    /// When the directory is unusable, or the certificates are. An endpoint that cannot be reached shows on first use.
    pub async fn connect(&self, create: bool) -> Result<Connection, Error> {
        let client = |source| Error::Client { repository: self.repository.clone(), source };
        match &self.backend {
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
                    .map_err(|source| client(object_store::Error::JoinError { source }))??;
                let objects: Arc<dyn ObjectStore> = Arc::new(files);
                Ok(Connection { probe: objects.clone(), objects })
            }
            Backend::S3(bucket) => {
                let options = self.client_options(bucket)?;
                let region = region(bucket, &options).await;
                let store = |patience| {
                    let store = builder(bucket, &region, options.clone())
                        .with_retry(patience)
                        .build()
                        .map_err(client)?;
                    let prefix = object_store::path::Path::from(bucket.prefix.as_str());
                    Ok::<Arc<dyn ObjectStore>, Error>(Arc::new(PrefixStore::new(store, prefix)))
                };
                let patient = RetryConfig::default();
                let brief = RetryConfig {
                    max_retries: 2,
                    retry_timeout: Duration::from_secs(5),
                    backoff: BackoffConfig::default(),
                };
                Ok(Connection { objects: store(patient)?, probe: store(brief)? })
            }
        }
    }

    fn client_options(&self, bucket: &Bucket) -> Result<ClientOptions, Error> {
        let mut options = ClientOptions::new()
            .with_allow_http(bucket.endpoint.starts_with("http://"))
            .with_connect_timeout(CONNECT_LIMIT)
            .with_read_timeout(READ_LIMIT)
            .with_timeout(REQUEST_LIMIT);
        if let Some(ca) = &bucket.ca {
            let certificates =
                Certificate::from_pem_bundle(ca.as_bytes()).map_err(|error| Error::BadKey {
                    repository: self.repository.clone(),
                    secret: self.secret.clone(),
                    key: "CA_CERT_DATA",
                    problem: error.to_string(),
                })?;
            for certificate in certificates {
                options = options.with_root_certificate(certificate);
            }
        }
        if bucket.insecure {
            options = options.with_allow_invalid_certificates(true);
        }
        Ok(options)
    }
}

fn builder(bucket: &Bucket, region: &str, options: ClientOptions) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.bucket)
        .with_region(region)
        .with_virtual_hosted_style_request(false)
        .with_client_options(options);
    // Amazon's general host answers for one region only; without an endpoint the builder makes the region's.
    if !bucket.amazon || bucket.endpoint != "https://s3.amazonaws.com" {
        builder = builder.with_endpoint(&bucket.endpoint);
    }
    if let Some((id, secret)) = &bucket.credentials {
        builder = builder
            .with_access_key_id(id)
            .with_secret_access_key(String::from_utf8_lossy(secret.reveal()));
    }
    builder
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
