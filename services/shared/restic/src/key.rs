//! Key files: a password, run through scrypt, opens the master key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::crypto::{self, SealingKey};
use crate::error::{Error, Result};
use crate::vault::ensure_not_empty;

/// Beyond this much memory a key file is refused instead of derived (restic's own need 64 MiB).
const MAX_KDF_BYTES: u64 = 1 << 30;

/// A repository's password. Its text never appears in logs or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The password with these bytes, exactly; no line end is cut off.
    #[must_use]
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self(text.into())
    }

    /// Whether it is no password at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// The cost of deriving a key from a password: 128 · r · 2^`log_n` bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kdf {
    /// The binary logarithm of scrypt's N.
    pub log_n: u8,
    /// scrypt's block size.
    pub r: u32,
    /// scrypt's parallelism.
    pub p: u32,
}

impl Default for Kdf {
    /// 32 MiB and about a tenth of a second.
    fn default() -> Self {
        Self { log_n: 15, r: 8, p: 1 }
    }
}

/// A key file as restic writes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyFile {
    pub(crate) created: String,
    pub(crate) username: String,
    pub(crate) hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// The master key as it lies, sealed, in a key file.
#[derive(Serialize, Deserialize)]
struct MasterDocument {
    mac: MacDocument,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct MacDocument {
    k: String,
    r: String,
}

impl KeyFile {
    /// Seals `master` under `password`. Takes as long as `kdf` says: call it off the async threads.
    pub(crate) fn create(
        master: &SealingKey,
        password: &Password,
        kdf: Kdf,
        host: &str,
        username: &str,
    ) -> Result<Self> {
        let mut salt = [0; 64];
        crypto::random(&mut salt)?;
        let derived = derive(password, kdf, &salt)?;
        let document = MasterDocument {
            mac: MacDocument { k: BASE64.encode(master.mac_k), r: BASE64.encode(master.mac_r) },
            encrypt: BASE64.encode(master.encrypt),
        };
        let plain = serde_json::to_vec(&document)
            .map_err(|source| Error::internal("encode master key", source))?;
        Ok(Self {
            created: Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true),
            username: username.into(),
            hostname: host.into(),
            kdf: "scrypt".into(),
            n: 1 << kdf.log_n,
            r: kdf.r,
            p: kdf.p,
            salt: BASE64.encode(salt),
            data: BASE64.encode(derived.seal(&plain)?),
        })
    }

    pub(crate) fn decode(name: &str, json: &[u8]) -> Result<Self> {
        ensure_not_empty(json, || name.into())?;
        serde_json::from_slice(json)
            .map_err(|source| Error::damaged_by(name, "is not a key document", source))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|source| Error::internal("encode key", source))
    }

    /// The master key, or `None` if the password is another one's. As slow as the file's scrypt
    /// parameters: call it off the async threads.
    pub(crate) fn open(&self, name: &str, password: &Password) -> Result<Option<SealingKey>> {
        if self.kdf != "scrypt" {
            return Err(Error::damaged(name, format!("uses the unknown kdf {:?}", self.kdf)));
        }
        let kdf = self.kdf_parameters(name)?;
        let salt = decode_base64(name, "salt", &self.salt)?;
        let sealed = decode_base64(name, "data", &self.data)?;
        let Ok(plain) = derive(password, kdf, &salt)?.open(&sealed) else { return Ok(None) };
        let document: MasterDocument = serde_json::from_slice(&plain)
            .map_err(|source| Error::damaged_by(name, "holds no master key", source))?;
        Ok(Some(SealingKey {
            encrypt: decode_array(name, "encrypt", &document.encrypt)?,
            mac_k: decode_array(name, "mac.k", &document.mac.k)?,
            mac_r: decode_array(name, "mac.r", &document.mac.r)?,
        }))
    }

    /// Whether opening it takes less than a millisecond or so: what fuzzing can afford.
    pub(crate) fn is_cheap(&self) -> bool {
        let rounds = u128::from(self.n) * u128::from(self.r) * u128::from(self.p);
        rounds <= 1024
    }

    fn kdf_parameters(&self, name: &str) -> Result<Kdf> {
        let refuse = || {
            let problem = format!("has unusable parameters N={} r={} p={}", self.n, self.r, self.p);
            Error::damaged(name, problem)
        };
        let memory = u128::from(self.n) * u128::from(self.r) * 128;
        if !self.n.is_power_of_two() || memory > u128::from(MAX_KDF_BYTES) || self.p > 64 {
            return Err(refuse());
        }
        let log_n = u8::try_from(self.n.ilog2()).map_err(|_| refuse())?;
        Ok(Kdf { log_n, r: self.r, p: self.p })
    }
}

fn derive(password: &Password, kdf: Kdf, salt: &[u8]) -> Result<SealingKey> {
    let subject = || format!("key derivation log N={} r={} p={}", kdf.log_n, kdf.r, kdf.p);
    let parameters = scrypt::Params::new(kdf.log_n, kdf.r, kdf.p, 64)
        .map_err(|_| Error::invalid(subject(), "is out of range"))?;
    let mut derived = [0; 64];
    scrypt::scrypt(&password.0, salt, &parameters, &mut derived)
        .map_err(|_| Error::invalid(subject(), "is out of range"))?;
    Ok(SealingKey::from_bytes(&derived))
}

fn decode_base64(name: &str, field: &str, text: &str) -> Result<Vec<u8>> {
    BASE64
        .decode(text)
        .map_err(|source| Error::damaged_by(name, format!("{field} is not base64"), source))
}

fn decode_array<const N: usize>(name: &str, field: &str, text: &str) -> Result<[u8; N]> {
    decode_base64(name, field, text)?
        .try_into()
        .map_err(|_| Error::damaged(name, format!("{field} is not {N} bytes long")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Kdf = Kdf { log_n: 4, r: 8, p: 1 };

    #[test]
    fn only_the_right_password_opens() {
        let master = SealingKey::generate().unwrap();
        let file = KeyFile::create(&master, &Password::new("right"), CHEAP, "h", "u").unwrap();
        let file = KeyFile::decode("keys/x", &file.encode().unwrap()).unwrap();
        assert_eq!(file.open("keys/x", &Password::new("right")).unwrap(), Some(master));
        assert_eq!(file.open("keys/x", &Password::new("wrong")).unwrap(), None);
    }

    #[test]
    fn absurd_costs_are_refused_instead_of_paid() {
        let master = SealingKey::generate().unwrap();
        let mut file = KeyFile::create(&master, &Password::new("x"), CHEAP, "h", "u").unwrap();
        for n in [0, 3, 1 << 40] {
            file.n = n;
            assert!(file.open("keys/x", &Password::new("x")).is_err(), "{n}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert!(!format!("{:?}", Password::new("secret")).contains("secret"));
        assert_eq!(format!("{:?}", SealingKey::generate().unwrap()), "SealingKey(redacted)");
    }
}
