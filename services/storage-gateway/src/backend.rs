//! Reads a Repository and its Secret from the cluster: the only place here that talks to the Kubernetes API.

use crate::place::{self, Backend, Directory, LocalVolumes, Machine, Place};
use coffer_api::Repository;
use coffer_restic::Compression;
use coffer_runtime::fault::{Class, Fault};
use coffer_runtime::grant::RepositoryRef;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::Api;

/// The annotation of a Repository that says how its new data are compressed: `off`, or a zstd level.
pub const COMPRESSION: &str = "coffer.appscode.com/compression";

/// A Repository's backend cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such Repository.
    #[error("there is no Repository {repository}; create it, or correct the name")]
    NoRepositoryObject {
        /// Which.
        repository: RepositoryRef,
    },
    /// There is no such Secret.
    #[error(
        "the storage Secret {namespace}/{secret} of Repository {repository} does not exist; create it with RESTIC_PASSWORD \
         and the backend's credentials"
    )]
    NoSecret {
        /// Whose.
        repository: RepositoryRef,
        /// Where.
        namespace: String,
        /// Which.
        secret: String,
    },
    /// There is no such claim.
    #[error(
        "the PersistentVolumeClaim {namespace}/{claim} of Repository {repository} does not exist; create it"
    )]
    NoClaim {
        /// Whose.
        repository: RepositoryRef,
        /// Where.
        namespace: String,
        /// Which.
        claim: String,
    },
    /// The cluster does not let us read it.
    #[error("read {subject}")]
    Read {
        /// Which object.
        subject: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// What they say makes no backend.
    #[error(transparent)]
    Place(#[from] place::Error),
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::NoRepositoryObject { .. } | Self::NoSecret { .. } | Self::NoClaim { .. } => {
                Class::NotFound
            }
            // Ours is the ServiceAccount that may not: for the caller the gateway is out of order.
            Self::Read { .. } => Class::Unavailable,
            Self::Place(error) => error.class(),
        }
    }
}

/// Reads what a [`Place`] is made of.
#[derive(Clone)]
pub struct Reader {
    client: kube::Client,
    volumes: LocalVolumes,
    machine: Machine,
}

impl Reader {
    /// Reads through this client.
    #[must_use]
    pub fn new(client: kube::Client, volumes: LocalVolumes, machine: Machine) -> Self {
        Self { client, volumes, machine }
    }

    /// Where the Repository is, as of now, and how its data are to be compressed. Nothing is cached: a rotated credential counts from the next call on.
    ///
    /// # Errors
    /// When one of the objects is missing or cannot be read, or they make no backend that this version supports.
    pub async fn place(
        &self,
        reference: &RepositoryRef,
    ) -> Result<(Place, Option<Compression>), Error> {
        let namespace = reference.namespace.as_str();
        let repositories: Api<Repository> = Api::namespaced(self.client.clone(), namespace);
        let repository = repositories
            .get_opt(&reference.name)
            .await
            .map_err(|source| Error::Read { subject: format!("Repository {reference}"), source })?
            .ok_or_else(|| Error::NoRepositoryObject { repository: reference.clone() })?;
        let name = place::secret_name(reference, &repository.spec.backend)?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets
            .get_opt(name)
            .await
            .map_err(|source| Error::Read {
                subject: format!("Secret {namespace}/{name}"),
                source,
            })?
            .ok_or_else(|| Error::NoSecret {
                repository: reference.clone(),
                namespace: namespace.to_owned(),
                secret: name.to_owned(),
            })?;
        let data = secret.data.unwrap_or_default();
        let place = Place::resolve(reference, &repository.spec.backend, &data, &self.volumes)?;
        let append_only = repository.spec.append_only;
        let place = Place { append_only, machine: self.machine.clone(), ..place };
        if let Backend::Local(Directory { claim: Some(claim), .. }) = &place.backend {
            self.check_claim(reference, claim).await?;
        }
        Ok((place, compression(reference, &repository)?))
    }

    /// In a cluster no Pod starts without its claim; without one, a mistyped name would quietly begin a new repository.
    async fn check_claim(&self, reference: &RepositoryRef, claim: &str) -> Result<(), Error> {
        let namespace = reference.namespace.as_str();
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let subject = || format!("PersistentVolumeClaim {namespace}/{claim}");
        let found = claims.get_opt(claim).await;
        match found.map_err(|source| Error::Read { subject: subject(), source })? {
            Some(_) => Ok(()),
            None => Err(Error::NoClaim {
                repository: reference.clone(),
                namespace: namespace.to_owned(),
                claim: claim.to_owned(),
            }),
        }
    }
}

fn compression(
    reference: &RepositoryRef,
    repository: &Repository,
) -> Result<Option<Compression>, place::Error> {
    let annotations = repository.metadata.annotations.as_ref();
    let parsed = annotations.and_then(|all| all.get(COMPRESSION)).map(|text| text.parse());
    parsed.transpose().map_err(|error: coffer_restic::Error| place::Error::BadField {
        repository: reference.clone(),
        field: COMPRESSION,
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_repository_may_say_how_it_is_compressed() {
        let reference = RepositoryRef { namespace: "demo".to_owned(), name: "repo".to_owned() };
        let parse = |annotations: serde_json::Value| {
            let repository = serde_json::from_value(json!({
                "apiVersion": "stash.appscode.com/v1alpha1",
                "kind": "Repository",
                "metadata": {"name": "repo", "annotations": annotations},
                "spec": {"backend": {"storageSecretName": "storage"}},
            }));
            compression(&reference, &repository.unwrap())
        };
        assert_eq!(parse(json!({})).unwrap(), None);
        assert_eq!(parse(json!({COMPRESSION: "off"})).unwrap(), Some(Compression::Off));
        assert_eq!(parse(json!({COMPRESSION: "9"})).unwrap(), Some(Compression::Level(9)));
        let text = parse(json!({COMPRESSION: "best"})).unwrap_err().to_string();
        assert!(text.contains(COMPRESSION) && text.contains("demo/repo"), "{text}");
    }
}
