//! What messages say of a place: its name as restic has it, what to look at when it refuses or does not answer. Never what
//! opens it.

use super::{
    AzureContainer, AzureCredentials, B2Bucket, Backend, GcsBucket, Place, Prefix, RestRepository,
    SwiftContainer, prefix,
};

impl Place {
    /// The place as restic would name it. Holds no credentials.
    #[must_use]
    pub fn location(&self) -> String {
        self.location_of(self.backend.prefix().map_or("", |prefix| prefix.path().as_ref()))
    }

    /// Another path in the same bucket, as restic would name it.
    fn location_of(&self, path: &str) -> String {
        match &self.backend {
            Backend::Local(directory) => directory.path.display().to_string(),
            Backend::S3(bucket) => bucket.location(path),
            Backend::Gcs(GcsBucket { bucket, .. }) => format!("gs:{bucket}:/{path}"),
            Backend::Azure(AzureContainer { account, container, .. }) => {
                format!("azure:{container}:/{path} of {account}")
            }
            Backend::Swift(SwiftContainer { container, login, .. }) => {
                format!("swift:{container}:/{path} of {}", login.url())
            }
            Backend::B2(B2Bucket { bucket, .. }) => format!("b2:{bucket}:/{path}"),
            Backend::Rest(RestRepository { url, .. }) => format!("rest:{url}"),
        }
    }

    /// For each place where Coffer has put such a repository before: its name, and how it is written as a prefix.
    pub(crate) fn former(&self) -> Vec<(String, String)> {
        let former = self.backend.prefix().map_or(&[][..], Prefix::former);
        let named = former.iter().map(|path| {
            let path: &str = path.as_ref();
            let written = match &self.backend {
                Backend::S3(bucket) if bucket.is_url => prefix::escape(path),
                _ => path.to_owned(),
            };
            (self.location_of(path), written)
        });
        named.collect()
    }

    /// What to look at when the store refuses: the keys that the Secret has, or who counts without them. Nothing for a
    /// directory.
    pub(crate) fn opened_with(&self) -> Option<String> {
        let secret = &self.secret;
        let keys = |keys: &str| format!("{keys} in Secret {secret}");
        let machine = |key: &str| {
            format!(
                "the storage-gateway's own identity, which counts because Secret {secret} has no {key}"
            )
        };
        Some(match &self.backend {
            Backend::Local(_) => return None,
            Backend::S3(bucket) => match &bucket.credentials {
                Some(_) => keys("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
                None => machine("AWS_ACCESS_KEY_ID"),
            },
            Backend::Gcs(bucket) => match &bucket.key {
                Some(_) => keys("GOOGLE_SERVICE_ACCOUNT_JSON_KEY"),
                None => machine("GOOGLE_SERVICE_ACCOUNT_JSON_KEY"),
            },
            Backend::Azure(container) => match &container.credentials {
                AzureCredentials::Key(_) => keys("AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_KEY"),
                AzureCredentials::Sas(_) => keys("AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_SAS"),
                AzureCredentials::Machine => machine("AZURE_ACCOUNT_KEY and no AZURE_ACCOUNT_SAS"),
            },
            Backend::Swift(container) => keys(container.keys),
            Backend::B2(_) => keys("B2_ACCOUNT_ID and B2_ACCOUNT_KEY"),
            Backend::Rest(repository) => match &repository.credentials {
                Some(_) => keys("REST_SERVER_USERNAME and REST_SERVER_PASSWORD"),
                None => format!(
                    "whether Secret {secret} needs a REST_SERVER_USERNAME, which it has not"
                ),
            },
        })
    }

    /// What to look at when the store does not answer; nothing for a directory.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        match &self.backend {
            Backend::Local(_) => None,
            Backend::S3(bucket) => Some(&bucket.endpoint),
            Backend::Gcs(bucket) => Some(&bucket.endpoint),
            Backend::Azure(container) => Some(&container.endpoint),
            Backend::Swift(container) => Some(container.login.url()),
            Backend::B2(bucket) => Some(&bucket.api),
            Backend::Rest(repository) => Some(&repository.url),
        }
    }

    /// A hint for somebody whose password does not open the repository.
    pub(crate) fn password_ends_in_line_break(&self) -> bool {
        self.password.reveal().last() == Some(&b'\n')
    }
}
