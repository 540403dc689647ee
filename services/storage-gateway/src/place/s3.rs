//! An `s3` backend: the same bucket and prefix that restic would make of `s3:<endpoint>/<bucket>/<prefix>`.

use super::prefix::{escape, unescape};
use super::{Bytes, Error, Keys, Prefix};
use coffer_api::backend::S3;
use url::Url;

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// A resolved bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Scheme, host and port.
    pub endpoint: String,
    /// Whether the endpoint is Amazon's, whose regions have hosts of their own.
    pub amazon: bool,
    /// Whether the bucket's name is part of the host, as restic has it at Amazon, Google and Alibaba; elsewhere of the path.
    pub in_host: bool,
    /// The bucket.
    pub bucket: String,
    /// Path of the repository in it.
    pub prefix: Prefix,
    /// Whether the endpoint was written as a URL, in which restic takes `%` for an escape.
    pub is_url: bool,
    /// The region, if it is known.
    pub region: Option<String>,
    /// Key id and secret key; without them the machine's own identity is used, as Stash does.
    pub credentials: Option<(String, Bytes)>,
    /// Accept any certificate. Only where the Repository asks for it.
    pub insecure: bool,
}

impl Bucket {
    pub(super) fn resolve(keys: &Keys<'_>, spec: &S3) -> Result<Self, Error> {
        let field = |field, problem: &str| Error::BadField {
            repository: keys.repository.clone(),
            field,
            problem: problem.to_owned(),
        };
        let text = spec.endpoint.trim();
        // restic takes an endpoint without a scheme as https.
        let is_url = text.contains("://");
        let text = if is_url { text.to_owned() } else { format!("https://{text}") };
        let bad_endpoint = |problem| field("spec.backend.s3.endpoint", problem);
        let url = Url::parse(&text)
            .map_err(|_| bad_endpoint("it is neither a host like s3.amazonaws.com nor a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad_endpoint("its scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad_endpoint("credentials belong in the storage Secret"));
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(bad_endpoint("it has no host"));
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let endpoint = format!("{}://{host}{port}", url.scheme());

        // restic cuts the whole URL: the first part of its path is the bucket, wherever it was written.
        let words = clean(&format!("{}/{}/{}", url.path(), spec.bucket, spec.prefix)).join("/");
        let bad_prefix = |problem| field("spec.backend.s3.prefix", problem);
        let path = if is_url {
            if spec.prefix.contains(['#', '?']) {
                return Err(bad_prefix(
                    "behind a URL as endpoint restic ends the path at # and ?; write %23 and %3F for the characters themselves",
                ));
            }
            let path = unescape(&words).ok_or_else(|| {
                bad_prefix(
                    "behind a URL as endpoint restic takes % for the beginning of an escape, which this is not; write %25 for the \
                     character itself",
                )
            })?;
            clean(&path).join("/")
        } else {
            words.clone()
        };
        let (bucket, path) = path.split_once('/').unwrap_or((&path, ""));
        if bucket.is_empty() || spec.bucket.trim_matches('/').is_empty() {
            return Err(field("spec.backend.s3.bucket", "it is empty"));
        }
        let words = words.split_once('/').map_or("", |(_, words)| words);
        let (bucket, prefix) = (bucket.to_owned(), Prefix::new(path, words).map_err(bad_prefix)?);

        let in_host = is_in_host(url.scheme(), host, &bucket);
        let amazon = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        let region = Some(spec.region.clone()).filter(|region| !region.is_empty());
        let region = region.or_else(|| amazon.then(|| region_of(host)).flatten());
        let credentials = match (keys.text(ACCESS_KEY)?, keys.get(SECRET_KEY)) {
            (Some(id), Some(secret)) => {
                if std::str::from_utf8(secret).is_err() {
                    return Err(keys.bad(SECRET_KEY, "it is not UTF-8 text"));
                }
                Some((id.to_owned(), Bytes(secret.to_vec())))
            }
            (None, None) => None,
            (Some(_), None) => return Err(keys.missing(SECRET_KEY)),
            (None, Some(_)) => return Err(keys.missing(ACCESS_KEY)),
        };
        let insecure = spec.insecure_tls;
        Ok(Self {
            endpoint,
            amazon,
            in_host,
            bucket,
            prefix,
            is_url,
            region,
            credentials,
            insecure,
        })
    }

    /// A path in the bucket, in restic's words.
    pub(super) fn location(&self, path: &str) -> String {
        let Self { endpoint, bucket, .. } = self;
        format!("s3:{endpoint}/{bucket}/{}", escape(path)).trim_end_matches('/').to_owned()
    }
}

/// What restic's library for S3 decides: those who have a host for each bucket are asked there, Alibaba answers nowhere else. A
/// certificate of theirs covers no name with further dots, and a private endpoint of Amazon's only its own.
fn is_in_host(scheme: &str, host: &str, bucket: &str) -> bool {
    let amazon = host.starts_with("s3")
        && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"));
    let theirs = amazon || host == "storage.googleapis.com" || host.ends_with(".aliyuncs.com");
    let label = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    theirs && bucket.bytes().all(label) && !(scheme == "https" && bucket.contains('.'))
}

/// Go's `path.Clean`, as parts.
pub(super) fn clean(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part.to_owned()),
        }
    }
    parts
}

/// `s3.eu-central-1.amazonaws.com` and `s3-eu-west-1.amazonaws.com` name their region; `s3.amazonaws.com` names none.
fn region_of(host: &str) -> Option<String> {
    let (before, _) = host.split_once(".amazonaws.com")?;
    let region = before.rsplit('.').next().unwrap_or(before);
    let region = region.strip_prefix("s3-").unwrap_or(region);
    (region != "s3" && region.contains('-')).then(|| region.to_owned())
}
