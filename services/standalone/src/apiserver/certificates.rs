//! The server's certificate authority, kept in the data directory, and a certificate from it.
//!
//! The authority is made once, so that kubeconfigs stay valid; the server's own certificate is made
//! anew at each start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::private_file;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the authority cannot be read or written.
    #[error("keep the certificate authority in {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate cannot be made.
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
    /// The TLS library refuses the certificate.
    #[error("configure TLS")]
    Tls(#[source] rustls::Error),
}

/// The authority.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    key: String,
}

impl Authority {
    /// Reads the authority from `dir`, or makes one.
    ///
    /// # Errors
    /// When its files cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let (pem_file, key_file) = (dir.join("ca.crt"), dir.join("ca.key"));
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { path: path.to_owned(), source }),
        };
        if let (Some(pem), Some(key)) = (read(&pem_file)?, read(&key_file)?) {
            return Ok(Self { pem, key });
        }
        let key = KeyPair::generate().map_err(Error::Make)?;
        let certificate = authority_params().self_signed(&key).map_err(Error::Make)?;
        let made = Self { pem: certificate.pem(), key: key.serialize_pem() };
        for (path, text) in [(key_file, &made.key), (pem_file, &made.pem)] {
            private_file::write(&path, text.as_bytes())
                .map_err(|source| Error::File { path, source })?;
        }
        Ok(made)
    }

    /// The authority's certificate, which clients trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS for a server under these names and addresses, and under those of the loopback.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn server(&self, names: &[String]) -> Result<ServerConfig, Error> {
        let mut all: Vec<String> =
            ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc"].map(str::to_owned).into();
        all.extend(names.iter().cloned());
        let mut params = CertificateParams::new(all).map_err(Error::Make)?;
        params.distinguished_name.push(DnType::CommonName, "coffer");
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params.use_authority_key_identifier_extension = true;
        let authority = KeyPair::from_pem(&self.key).map_err(Error::Make)?;
        let issuer = Issuer::new(authority_params(), authority);
        let key = KeyPair::generate().map_err(Error::Make)?;
        let certificate = params.signed_by(&key, &issuer).map_err(Error::Make)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|why| Error::Tls(rustls::Error::General(why.to_owned())))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(Error::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The same for each start: with the same key they are the same authority.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "coffer standalone");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}
