//! A certificate authority for one machine: `coffer up` and the tests make their certificates with it. A cluster has
//! cert-manager or the chart's own job for that.
//!
//! Between the services a certificate's DNS name under [`SERVICE_DOMAIN`] says which service shows it. An ordinary host
//! name does not make its holder a service, so a CA may also certify workers and people.

use chrono::{DateTime, Datelike as _, Utc};

use crate::secret::Secret;
use crate::tls::{Identity, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

/// `orchestrator.service.coffer` in a verified client certificate is the service `orchestrator`.
pub const SERVICE_DOMAIN: &str = "service.coffer";

/// The authority cannot be made, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key or certificate could be made.
    #[error("make {subject}")]
    Make {
        /// What was to be made.
        subject: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// A file of the authority cannot be read or written.
    #[error("keep the certificate authority in {}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Half of the authority is gone.
    #[error(
        "{} has only one of ca.crt and ca.key; restore the other, or delete both for a new authority",
        dir.display()
    )]
    Incomplete {
        /// The folder.
        dir: PathBuf,
    },
}

/// A CA's certificate and key.
#[derive(Debug, Clone)]
pub struct Authority {
    certificate: String,
    key: Secret,
    validity: Option<Validity>,
}

/// The days between which an authority and its certificates hold, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From the beginning of this day, UTC.
    pub from: DateTime<Utc>,
    /// To the beginning of this day, UTC.
    pub until: DateTime<Utc>,
}

impl Validity {
    fn put(self, params: &mut CertificateParams) {
        let day = |at: DateTime<Utc>| {
            let small = |n: u32| u8::try_from(n).unwrap_or(1);
            rcgen::date_time_ymd(at.year(), small(at.month()), small(at.day()))
        };
        params.not_before = day(self.from);
        params.not_after = day(self.until);
    }
}

impl Authority {
    /// A new authority, in memory only.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, Error> {
        Self::make(None)
    }

    /// A new authority, in memory only, that ends.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn valid(validity: Validity) -> Result<Self, Error> {
        Self::make(Some(validity))
    }

    fn make(validity: Option<Validity>) -> Result<Self, Error> {
        let make = |source| Error::Make { subject: "a certificate authority".to_owned(), source };
        let key = KeyPair::generate().map_err(make)?;
        let mut params = ca_params();
        if let Some(validity) = validity {
            validity.put(&mut params);
        }
        let certificate = params.self_signed(&key).map_err(make)?.pem();
        Ok(Self { certificate, key: Secret::new(key.serialize_pem()), validity })
    }

    /// The authority kept in `dir` as `ca.crt` and `ca.key` (readable by the owner only), made if there is none.
    ///
    /// # Errors
    /// When the files cannot be read or written, or only one is there.
    pub fn load_or_create(dir: &Path) -> Result<Self, Error> {
        let (certificate_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        let keep = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Keep { path, source }
        };
        match (certificate_path.exists(), key_path.exists()) {
            (true, true) => Ok(Self {
                certificate: std::fs::read_to_string(&certificate_path)
                    .map_err(keep(&certificate_path))?,
                key: std::fs::read_to_string(&key_path).map_err(keep(&key_path))?.into(),
                validity: None,
            }),
            (false, false) => {
                let authority = Self::generate()?;
                std::fs::create_dir_all(dir).map_err(keep(dir))?;
                authority.key.write_new_file(&key_path).map_err(keep(&key_path))?;
                std::fs::write(&certificate_path, &authority.certificate)
                    .map_err(keep(&certificate_path))?;
                Ok(authority)
            }
            (true, false) | (false, true) => Err(Error::Incomplete { dir: dir.to_owned() }),
        }
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for the service `name`, valid for the hosts in `sans` (DNS names or IP addresses) as a server and,
    /// as a client, proof of being that service.
    ///
    /// # Errors
    /// When a name is no DNS name, or the authority's key is unusable.
    pub fn issue(&self, name: &str, sans: &[&str]) -> Result<Identity, Error> {
        let service = format!("{name}.{SERVICE_DOMAIN}");
        let names = sans.iter().map(|san| (*san).to_owned()).chain([service]);
        self.certify(name, names.collect())
    }

    /// A certificate that names no service: for somebody who must be verifiable, but gets no rights by it.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_plain(&self, name: &str, sans: &[&str]) -> Result<Identity, Error> {
        self.certify(name, sans.iter().map(|san| (*san).to_owned()).collect())
    }

    /// TLS options for the service `name`: its identity, and this authority as the only one trusted.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn options(&self, name: &str, sans: &[&str]) -> Result<TlsOptions, Error> {
        Ok(TlsOptions::new(Some(self.issue(name, sans)?), Some(self.certificate.clone())))
    }

    /// TLS options for a client that shows no certificate of its own.
    #[must_use]
    pub fn client_options(&self) -> TlsOptions {
        TlsOptions::new(None, Some(self.certificate.clone()))
    }

    fn certify(&self, name: &str, names: Vec<String>) -> Result<Identity, Error> {
        let make = |source| Error::Make { subject: format!("a certificate for {name}"), source };
        let ca_key = KeyPair::from_pem(self.key.reveal()).map_err(make)?;
        let ca = ca_params();
        let issuer = Issuer::from_params(&ca, ca_key);
        let mut params = CertificateParams::new(names).map_err(make)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(validity) = self.validity {
            validity.put(&mut params);
        }
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &issuer).map_err(make)?;
        Ok(Identity { certificates: certificate.pem(), key: Secret::new(key.serialize_pem()) })
    }
}

/// The same for every authority: with its key they make the issuer again, so that no X.509 parser is needed. The
/// certificates practically never expire: on one machine nobody would renew them, and deleting the folder revokes them.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Coffer local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn is_kept_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("pki");
        let first = Authority::load_or_create(&dir).unwrap();
        let again = Authority::load_or_create(&dir).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        let mode = std::fs::metadata(dir.join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("PRIVATE"));

        std::fs::remove_file(dir.join("ca.key")).unwrap();
        let error = Authority::load_or_create(&dir).unwrap_err();
        assert!(error.to_string().contains("only one of ca.crt and ca.key"), "{error}");
    }
}
