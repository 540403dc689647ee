//! The repository's parameters: the `config` object.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::polynomial::Polynomial;

/// The format version of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Without compression; every restic reads it.
    V1,
    /// With zstd; restic 0.14 and later.
    #[default]
    V2,
}

impl Version {
    /// The number in the config.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// The content of `config`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) version: Version,
    pub(crate) id: Id,
    pub(crate) polynomial: Polynomial,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    id: Id,
    chunker_polynomial: String,
}

impl Config {
    /// A config for a new repository, with an id and a polynomial of its own.
    pub(crate) fn generate(version: Version) -> Result<Self> {
        let mut id = [0; 32];
        crate::crypto::random(&mut id)?;
        Ok(Self { version, id: Id::from_bytes(id), polynomial: Polynomial::random()? })
    }

    pub(crate) fn decode(json: &[u8]) -> Result<Self> {
        let document: Document = serde_json::from_slice(json)
            .map_err(|source| Error::damaged_by("config", "is not a config document", source))?;
        let version = match document.version {
            1 => Version::V1,
            2 => Version::V2,
            other => {
                let problem = format!("has format version {other}; versions 1 and 2 are known");
                return Err(Error::invalid("config", problem));
            }
        };
        let polynomial = u64::from_str_radix(&document.chunker_polynomial, 16)
            .ok()
            .and_then(Polynomial::checked)
            .ok_or_else(|| {
                let text = &document.chunker_polynomial;
                let problem = format!("has the unusable chunker polynomial {text:?}");
                Error::damaged("config", problem)
            })?;
        Ok(Self { version, id: document.id, polynomial })
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let document = Document {
            version: self.version.number(),
            id: self.id,
            chunker_polynomial: format!("{:x}", self.polynomial.bits()),
        };
        serde_json::to_vec(&document).map_err(|source| Error::internal("encode config", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for version in [Version::V1, Version::V2] {
            let config = Config::generate(version).unwrap();
            assert_eq!(Config::decode(&config.encode().unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn unknown_versions_and_reducible_polynomials_are_refused() {
        let id = "0".repeat(64);
        let text = |version: u32, polynomial: &str| {
            format!(r#"{{"version":{version},"id":"{id}","chunker_polynomial":"{polynomial}"}}"#)
        };
        assert!(Config::decode(text(2, "3da3358b4dc173").as_bytes()).is_ok());
        assert!(Config::decode(text(3, "3da3358b4dc173").as_bytes()).is_err());
        assert!(Config::decode(text(2, "3da3358b4dc172").as_bytes()).is_err());
        assert!(Config::decode(text(2, "zz").as_bytes()).is_err());
        assert!(Config::decode(b"{}").is_err());
    }
}
