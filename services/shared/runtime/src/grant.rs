//! The session grant: what a worker may do, signed by the orchestrator.
//!
//! A worker has no rights in the cluster. It shows a short-lived JWT (EdDSA, Ed25519) that names its session, one
//! repository, one operation and, for a restore, the snapshot; nothing else is opened by it. Whoever verifies needs only
//! the public key. Expiry is judged by the clock that is passed in, since tests step it.

use crate::secret::Secret;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

const ISSUER: &str = "coffer-orchestrator";
const AUDIENCE: &str = "coffer";

/// A grant cannot be signed, or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key could be made.
    #[error("make a key for session grants")]
    Generate(#[source] rcgen::Error),
    /// The text is no Ed25519 private key.
    #[error("the key for session grants is no Ed25519 private key in PEM")]
    ParsePrivate(#[source] rcgen::Error),
    /// The private key cannot sign JWTs.
    #[error("sign session grants with the key")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// The text is no Ed25519 public key.
    #[error("the public key for session grants is no Ed25519 public key in PEM")]
    ParsePublic(#[source] jsonwebtoken::errors::Error),
    /// The text holds no key at all.
    #[error("no PEM public key to verify session grants with")]
    NoPublicKey,
    /// The key file cannot be read or written.
    #[error("keep the key for session grants in {}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A token is not a valid grant.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not signed by us, not for us, or no grant at all.
    #[error("the session grant is not valid")]
    Invalid(#[source] jsonwebtoken::errors::Error),
    /// It was valid once.
    #[error("the session grant of {session} expired at {expired}")]
    Expired {
        /// Whose it was.
        session: SessionRef,
        /// Until when.
        expired: DateTime<Utc>,
    },
}

/// A valid grant does not open what was asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session grant of {session} is for {granted}, not for {asked}")]
pub struct NotCovered {
    session: SessionRef,
    granted: String,
    asked: String,
}

/// The session a grant belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionRef {
    /// `BackupSession` or `RestoreSession`.
    pub kind: String,
    /// The session's namespace.
    pub namespace: String,
    /// The session's name.
    pub name: String,
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        write!(f, "{kind} {namespace}/{name}")
    }
}

/// The repository a grant opens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepositoryRef {
    /// The Repository's namespace.
    pub namespace: String,
    /// The Repository's name.
    pub name: String,
}

impl fmt::Display for RepositoryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name } = self;
        write!(f, "{namespace}/{name}")
    }
}

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Add one snapshot.
    Backup,
    /// Read snapshots.
    Restore,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        })
    }
}

/// What one session's worker may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose worker.
    pub session: SessionRef,
    /// Which repository.
    pub repository: RepositoryRef,
    /// What with it.
    pub operation: Operation,
    /// For a restore, the only snapshot that may be read (an id or `latest`); none for any.
    pub snapshot: Option<String>,
    /// Since when, to the second.
    pub issued: DateTime<Utc>,
    /// Until when, to the second.
    pub expires: DateTime<Utc>,
}

impl Grant {
    /// Checks that the grant opens this repository for this operation.
    ///
    /// # Errors
    /// Says what it is for instead.
    pub fn covers(
        &self,
        repository: &RepositoryRef,
        operation: Operation,
    ) -> Result<(), NotCovered> {
        if self.repository == *repository && self.operation == operation {
            return Ok(());
        }
        Err(self.not_covered(
            format!("{} of Repository {}", self.operation, self.repository),
            format!("{operation} of Repository {repository}"),
        ))
    }

    /// Checks that the grant opens this snapshot, as the caller named it.
    ///
    /// What `latest` stood for may be asked for by its id: a restore that reads it twice must not be given another the
    /// second time. The moment returned is then a condition: the snapshot was `latest` at it, or later.
    ///
    /// # Errors
    /// Says which one it is for instead.
    pub fn covers_snapshot(&self, snapshot: &str) -> Result<Option<DateTime<Utc>>, NotCovered> {
        let is_id = snapshot.len() == 64 && snapshot.bytes().all(|digit| digit.is_ascii_hexdigit());
        match self.snapshot.as_deref() {
            None => Ok(None),
            Some(granted) if granted == snapshot => Ok(None),
            Some("latest") if is_id => Ok(Some(self.issued)),
            Some(beginning) if is_id && snapshot.starts_with(beginning) => Ok(None),
            Some(granted) => {
                Err(self
                    .not_covered(format!("snapshot {granted}"), format!("snapshot {snapshot:?}")))
            }
        }
    }

    /// Checks that the grant is this session's.
    ///
    /// # Errors
    /// Says whose it is.
    pub fn covers_session(&self, session: &SessionRef) -> Result<(), NotCovered> {
        if self.session == *session {
            return Ok(());
        }
        Err(self.not_covered("that session".to_owned(), session.to_string()))
    }

    fn not_covered(&self, granted: String, asked: String) -> NotCovered {
        NotCovered { session: self.session.clone(), granted, asked }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    /// Not in the grants of earlier versions.
    iat: Option<i64>,
    exp: i64,
    session: SessionRef,
    repository: RepositoryRef,
    operation: Operation,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
}

/// Signs grants. Held by the orchestrator only.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    private_pem: Secret,
    public_pem: String,
}

impl Signer {
    /// A signer with a new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair =
            rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(KeyError::Generate)?;
        Self::from_pem(&Secret::new(pair.serialize_pem()))
    }

    /// A signer with the given Ed25519 key (PKCS#8, PEM), as `openssl genpkey -algorithm ed25519` makes them too.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn from_pem(pem: &Secret) -> Result<Self, KeyError> {
        let pair = rcgen::KeyPair::from_pem_and_sign_algo(pem.reveal(), &rcgen::PKCS_ED25519)
            .map_err(KeyError::ParsePrivate)?;
        Ok(Self {
            key: EncodingKey::from_ed_der(pair.serialized_der()),
            private_pem: pem.clone(),
            public_pem: pair.public_key_pem(),
        })
    }

    /// The signer whose key is in the file; a missing file is made, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds no such key.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let keep = |source| KeyError::Keep { path: path.to_owned(), source };
        match std::fs::read_to_string(path) {
            Ok(pem) => Self::from_pem(&pem.into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let signer = Self::generate()?;
                signer.private_pem.write_new_file(path).map_err(keep)?;
                Ok(signer)
            }
            Err(error) => Err(keep(error)),
        }
    }

    /// The public key that verifies what this signs, PEM.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_pem
    }

    /// Signs a grant.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(&self, grant: &Grant) -> Result<Secret, KeyError> {
        let Grant { session, repository, operation, snapshot, issued, expires } = grant.clone();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: format!("{}/{}/{}", session.kind, session.namespace, session.name),
            iat: Some(issued.timestamp()),
            exp: expires.timestamp(),
            session,
            repository,
            operation,
            snapshot,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)
            .map(Secret::new)
            .map_err(KeyError::Sign)
    }
}

/// Verifies grants. Knows several keys while the orchestrator's is being replaced.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<DecodingKey>,
}

impl Verifier {
    /// A verifier with the public keys in the text (PEM, one block after another).
    ///
    /// # Errors
    /// When there is none, or one is no Ed25519 public key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        const END: &str = "-----END PUBLIC KEY-----";
        let keys = pem
            .split_inclusive(END)
            .filter(|block| block.contains(END))
            .map(|block| DecodingKey::from_ed_pem(block.trim().as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(KeyError::ParsePublic)?;
        if keys.is_empty() {
            return Err(KeyError::NoPublicKey);
        }
        Ok(Self { keys })
    }

    /// A verifier with the public keys in a file.
    ///
    /// # Errors
    /// As [`Verifier::from_pem`], and when the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let pem = std::fs::read_to_string(path)
            .map_err(|source| KeyError::Keep { path: path.to_owned(), source })?;
        Self::from_pem(&pem)
    }

    /// The grant in a token.
    ///
    /// # Errors
    /// When it is not ours, was tampered with, or has expired by `now`.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Grant, Refused> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        // Judged below, by the caller's clock.
        validation.validate_exp = false;
        let mut refused = jsonwebtoken::errors::ErrorKind::InvalidSignature.into();
        for key in &self.keys {
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(decoded) => return accept(decoded.claims, now),
                Err(error) => refused = error,
            }
        }
        Err(Refused::Invalid(refused))
    }
}

/// True when the token says that it is a session grant; whether it is a valid one is the verifier's business.
pub(crate) fn is_grant(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    jsonwebtoken::dangerous::insecure_decode::<Issuer>(token)
        .is_ok_and(|decoded| decoded.claims.iss == ISSUER)
}

fn accept(claims: Claims, now: DateTime<Utc>) -> Result<Grant, Refused> {
    let Claims { iss: _, aud: _, sub: _, iat, exp, session, repository, operation, snapshot } =
        claims;
    // Since never: what is known of no time opens nothing by its id.
    let issued = iat.and_then(|iat| DateTime::from_timestamp(iat, 0));
    let issued = issued.unwrap_or(DateTime::<Utc>::MAX_UTC);
    let expires = DateTime::from_timestamp(exp, 0).unwrap_or(DateTime::<Utc>::MIN_UTC);
    if expires <= now {
        return Err(Refused::Expired { session, expired: expires });
    }
    Ok(Grant { session, repository, operation, snapshot, issued, expires })
}

#[cfg(test)]
mod tests;
