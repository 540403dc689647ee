//! Certificates, and the rustls configurations made of them.
//!
//! The crypto provider is always named, never taken from the process, so that a test or an embedding program needs no
//! global set-up. Certificates that come from files are read again when the files change, as cert-manager and mounted
//! Secrets renew them in place; a renewal that cannot be read leaves the old certificate in use and is logged.

use crate::secret::Secret;
use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What a connection is set up with fails to be usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or unreadable.
    #[error("read {}", path.display())]
    ReadFile {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text holds no certificate, or a broken one.
    #[error("{subject} holds no valid PEM certificate")]
    ParseCertificates {
        /// What was parsed.
        subject: &'static str,
    },
    /// The text holds no private key, or a broken one.
    #[error("the TLS key is no valid PEM private key")]
    ParseKey,
    /// A server cannot do without a certificate.
    #[error("a TLS server needs a certificate and a key")]
    NoIdentity,
    /// A client cannot verify anyone without a CA.
    #[error("a TLS client needs the CA's certificate to verify the server")]
    NoAuthority,
    /// rustls refuses the certificate and the key.
    #[error("use the TLS certificate and its key")]
    Configure(#[source] rustls::Error),
    /// rustls refuses the CA as a verifier of clients.
    #[error("verify client certificates with the CA")]
    VerifyClients(#[source] rustls::server::VerifierBuilderError),
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate first, then its intermediates.
    pub certificates: String,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: Secret,
}

/// Who we are and whom we trust.
#[derive(Debug, Clone)]
pub struct TlsOptions(Source);

#[derive(Debug, Clone)]
enum Source {
    Fixed { identity: Option<Identity>, ca: Option<String> },
    Files { identity: Option<(PathBuf, PathBuf)>, ca: Option<PathBuf> },
}

struct Material {
    identity: Option<Identity>,
    ca: Option<String>,
}

impl TlsOptions {
    /// Certificates that do not change. A server needs an identity; with `ca` it also verifies client certificates that
    /// are shown. A client needs `ca`; with an identity it shows it.
    #[must_use]
    pub fn new(identity: Option<Identity>, ca: Option<String>) -> Self {
        Self(Source::Fixed { identity, ca })
    }

    /// Certificates in files (`identity` is certificate and key), read again when they change.
    #[must_use]
    pub fn from_files(identity: Option<(PathBuf, PathBuf)>, ca: Option<PathBuf>) -> Self {
        Self(Source::Files { identity, ca })
    }

    /// The configuration for accepting connections. Client certificates are optional; one that is shown must verify.
    ///
    /// # Errors
    /// When a file or certificate is unusable.
    pub fn server(&self) -> Result<Reloading<ServerConfig>, Error> {
        Reloading::new(self.clone(), server_config)
    }

    /// The configuration for opening connections.
    ///
    /// # Errors
    /// When a file or certificate is unusable.
    pub fn client(&self) -> Result<Reloading<ClientConfig>, Error> {
        Reloading::new(self.clone(), client_config)
    }

    fn load(&self) -> Result<Material, Error> {
        match &self.0 {
            Source::Fixed { identity, ca } => {
                Ok(Material { identity: identity.clone(), ca: ca.clone() })
            }
            Source::Files { identity, ca } => {
                let identity = identity.as_ref().map(|(certificates, key)| {
                    Ok(Identity { certificates: read(certificates)?, key: read(key)?.into() })
                });
                let ca = ca.as_deref().map(read);
                Ok(Material { identity: identity.transpose()?, ca: ca.transpose()? })
            }
        }
    }

    /// Changes when a file changed. Followed through symbolic links, by which the kubelet swaps a mounted Secret.
    fn stamp(&self) -> Stamp {
        let Source::Files { identity, ca } = &self.0 else { return Vec::new() };
        let identity = identity.iter().flat_map(|(certificates, key)| [certificates, key]);
        identity
            .chain(ca)
            .map(|path| {
                let metadata = std::fs::metadata(path).ok()?;
                Some((metadata.modified().ok()?, metadata.len()))
            })
            .collect()
    }
}

/// The time and size of each file; `None` for one that is not there.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// A configuration that follows its files.
pub struct Reloading<T> {
    options: TlsOptions,
    build: fn(Material) -> Result<T, Error>,
    latest: Mutex<(Stamp, Arc<T>)>,
}

impl<T> Reloading<T> {
    fn new(options: TlsOptions, build: fn(Material) -> Result<T, Error>) -> Result<Self, Error> {
        let stamp = options.stamp();
        let first = Arc::new(build(options.load()?)?);
        Ok(Self { options, build, latest: Mutex::new((stamp, first)) })
    }

    /// The present configuration. Looks at the files' times, which costs microseconds; meant to be called once for every
    /// connection.
    pub fn current(&self) -> Arc<T> {
        let stamp = self.options.stamp();
        let mut latest = self.latest.lock();
        if latest.0 != stamp {
            match self.options.load().and_then(self.build) {
                Ok(fresh) => {
                    *latest = (stamp, Arc::new(fresh));
                    tracing::info!("TLS certificates were renewed");
                }
                // The stamp stays old: certificate and key change one after the other, and the next call tries again.
                Err(error) => tracing::warn!(
                    error = crate::fault::chain(&error),
                    "renewed TLS certificates are unusable, the old ones stay in use"
                ),
            }
        }
        latest.1.clone()
    }
}

/// The one provider that everything here uses.
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn server_config(material: Material) -> Result<ServerConfig, Error> {
    let Material { identity, ca } = material;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Configure)?;
    let builder = match ca {
        Some(ca) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&ca)?), provider())
                .allow_unauthenticated()
                .build()
                .map_err(Error::VerifyClients)?,
        ),
        None => builder.with_no_client_auth(),
    };
    let (certificates, key) = parse_identity(&identity.ok_or(Error::NoIdentity)?)?;
    let mut config = builder.with_single_cert(certificates, key).map_err(Error::Configure)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn client_config(material: Material) -> Result<ClientConfig, Error> {
    let Material { identity, ca } = material;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Configure)?
        .with_root_certificates(roots(&ca.ok_or(Error::NoAuthority)?)?);
    let mut config = match identity {
        Some(identity) => {
            let (certificates, key) = parse_identity(&identity)?;
            builder.with_client_auth_cert(certificates, key).map_err(Error::Configure)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(ca: &str) -> Result<RootCertStore, Error> {
    const SUBJECT: &str = "the CA";
    let mut roots = RootCertStore::empty();
    for certificate in parse_certificates(ca, SUBJECT)? {
        roots.add(certificate).map_err(|_| Error::ParseCertificates { subject: SUBJECT })?;
    }
    Ok(roots)
}

fn parse_identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let certificates = parse_certificates(&identity.certificates, "the TLS certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.reveal().as_bytes())
        .map_err(|_| Error::ParseKey)?;
    Ok((certificates, key))
}

fn parse_certificates(
    pem: &str,
    subject: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(Error::ParseCertificates { subject }),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|source| Error::ReadFile { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
