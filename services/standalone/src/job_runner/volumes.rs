//! A Pod's volumes as directories.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath,
    PersistentVolumeClaim, Pod, ProjectedVolumeSource, SecretVolumeSource, Volume,
};
use kube::{Api, Client, ResourceExt};
use tokio::fs;

use super::{
    command::Mount,
    environment::{Entries, Sources, field},
    layout::{Layout, private},
    place::Unready,
};

/// The directories by volume name.
pub(super) type Volumes = Vec<(String, PathBuf)>;

/// Sets up every volume of a Pod.
pub(super) async fn prepare(
    client: &Client,
    layout: &Layout,
    pod: &Pod,
    sources: &Sources,
) -> Result<Volumes, Unready> {
    let mut volumes = Vec::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let path = one(client, layout, pod, sources, volume).await?;
        volumes.push((volume.name.clone(), path));
    }
    Ok(volumes)
}

async fn one(
    client: &Client,
    layout: &Layout,
    pod: &Pod,
    sources: &Sources,
    volume: &Volume,
) -> Result<PathBuf, Unready> {
    let name = &volume.name;
    let own = layout.volume(&pod.uid().unwrap_or_default(), name);
    if let Some(secret) = &volume.secret {
        let SecretVolumeSource { secret_name, optional, items, .. } = secret;
        let secret = secret_name.as_deref().unwrap_or_default();
        let entries = sources.secret(secret, optional.unwrap_or(false)).await;
        let files = select(
            entries.map_err(|e| Unready::volume(name, &e.message))?,
            items.as_deref(),
            name,
        )?;
        fill(&own, files, name, 0o600).await?;
        return Ok(own);
    }
    if let Some(map) = &volume.config_map {
        let ConfigMapVolumeSource { name: map, optional, items, .. } = map;
        let entries = sources.config_map(map, optional.unwrap_or(false)).await;
        let files = select(
            entries.map_err(|e| Unready::volume(name, &e.message))?,
            items.as_deref(),
            name,
        )?;
        fill(&own, files, name, 0o644).await?;
        return Ok(own);
    }
    if let Some(projected) = &volume.projected {
        let files = project(projected, pod, sources, name).await?;
        fill(&own, files, name, 0o600).await?;
        return Ok(own);
    }
    if let Some(downward) = &volume.downward_api {
        let files = downward_files(downward.items.as_deref(), pod)?;
        fill(&own, files, name, 0o644).await?;
        return Ok(own);
    }
    if volume.empty_dir.is_some() {
        make(&own, name).await?;
        return Ok(own);
    }
    if let Some(host) = &volume.host_path {
        return host_path(host, name).await;
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let namespace = pod.namespace().unwrap_or_default();
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
        return match claims.get_opt(&claim.claim_name).await {
            Ok(Some(_)) => {
                let path = layout.claim(&namespace, &claim.claim_name);
                make(&path, name).await?;
                Ok(path)
            }
            Ok(None) => Err(Unready::volume(
                name,
                &format!("persistentvolumeclaim {:?} not found", claim.claim_name),
            )),
            Err(error) => Err(Unready::volume(name, &error.to_string())),
        };
    }
    Err(Unready::refused(format!(
        "volume {name:?} is of kind {}, which the local Job runner does not have; use emptyDir, \
         hostPath, secret, configMap, projected, downwardAPI or persistentVolumeClaim",
        kind(volume)
    )))
}

/// The kind of a volume, for a message: its one member beside the name.
fn kind(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let members = value.as_object().into_iter().flatten();
    let kind = members.map(|(member, _)| member.clone()).find(|member| member != "name");
    kind.unwrap_or_else(|| "unknown".to_owned())
}

type Files = Vec<(String, Vec<u8>)>;

/// The entries that `items` names, under their paths there; all of them without `items`.
fn select(
    entries: Option<Entries>,
    items: Option<&[KeyToPath]>,
    volume: &str,
) -> Result<Files, Unready> {
    let Some(entries) = entries else { return Ok(Vec::new()) };
    let Some(items) = items else { return Ok(entries) };
    items
        .iter()
        .map(|item| {
            let found = entries.iter().find(|(key, _)| *key == item.key);
            let missing =
                || Unready::volume(volume, &format!("references non-existent key: {}", item.key));
            found.map(|(_, value)| (item.path.clone(), value.clone())).ok_or_else(missing)
        })
        .collect()
}

async fn project(
    projected: &ProjectedVolumeSource,
    pod: &Pod,
    sources: &Sources,
    volume: &str,
) -> Result<Files, Unready> {
    let mut files = Vec::new();
    for source in projected.sources.iter().flatten() {
        if let Some(secret) = &source.secret {
            let entries = sources.secret(&secret.name, secret.optional.unwrap_or(false)).await?;
            files.extend(select(entries, secret.items.as_deref(), volume)?);
        } else if let Some(map) = &source.config_map {
            let entries = sources.config_map(&map.name, map.optional.unwrap_or(false)).await?;
            files.extend(select(entries, map.items.as_deref(), volume)?);
        } else if let Some(downward) = &source.downward_api {
            files.extend(downward_files(downward.items.as_deref(), pod)?);
        } else {
            return Err(Unready::refused(format!(
                "volume {volume:?} projects something other than secrets, configMaps and the \
                 downwardAPI, which the local Job runner does not have"
            )));
        }
    }
    Ok(files)
}

fn downward_files(items: Option<&[DownwardAPIVolumeFile]>, pod: &Pod) -> Result<Files, Unready> {
    let items = items.unwrap_or_default().iter();
    items
        .filter_map(|item| Some((item, item.field_ref.as_ref()?)))
        .map(|(item, at)| Ok((item.path.clone(), field(pod, &at.field_path)?.into_bytes())))
        .collect()
}

async fn host_path(host: &HostPathVolumeSource, volume: &str) -> Result<PathBuf, Unready> {
    let path = PathBuf::from(&host.path);
    let found = fs::metadata(&path).await.ok();
    let refuse = |what: &str| {
        Err(Unready::volume(volume, &format!("hostPath type check failed: {} {what}", host.path)))
    };
    match (host.type_.as_deref().unwrap_or_default(), found) {
        ("Directory", found) if !found.as_ref().is_some_and(std::fs::Metadata::is_dir) => {
            refuse("is not a directory")
        }
        ("File", found) if !found.as_ref().is_some_and(std::fs::Metadata::is_file) => {
            refuse("is not a file")
        }
        ("DirectoryOrCreate", None) => {
            make(&path, volume).await?;
            Ok(path)
        }
        _ => Ok(path),
    }
}

async fn make(path: &Path, volume: &str) -> Result<(), Unready> {
    private(path).await.map_err(|error| Unready::volume(volume, &format!("{error:#}")))
}

/// Writes the files of a volume, which holds nothing else afterwards.
async fn fill(dir: &Path, files: Files, volume: &str, mode: u32) -> Result<(), Unready> {
    let failed = |error: std::io::Error| Unready::volume(volume, &error.to_string());
    if fs::try_exists(dir).await.map_err(failed)? {
        fs::remove_dir_all(dir).await.map_err(failed)?;
    }
    make(dir, volume).await?;
    for (name, content) in files {
        let path = below(dir, &name)
            .ok_or_else(|| Unready::refused(format!("volume {volume:?}: bad path {name:?}")))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.map_err(failed)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut file = options.open(&path).await.map_err(failed)?;
        tokio::io::AsyncWriteExt::write_all(&mut file, &content).await.map_err(failed)?;
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(failed)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).await.map_err(failed)?;
    }
    Ok(())
}

/// A relative path that stays below a directory.
fn below(dir: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let plain =
        path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    plain.then(|| dir.join(path))
}

/// What a container's mounts stand for.
pub(super) fn mounts(container: &Container, volumes: &Volumes) -> Result<Vec<Mount>, Unready> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let found = volumes.iter().find(|(name, _)| *name == mount.name);
        let Some((_, dir)) = found else {
            return Err(Unready::refused(format!("volume {:?} is not in the Pod", mount.name)));
        };
        if mount.sub_path_expr.is_some() {
            return Err(Unready::refused(format!(
                "subPathExpr of mount {:?} is not supported by the local Job runner",
                mount.mount_path
            )));
        }
        let outside = match mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            Some(sub) => below(dir, sub).ok_or_else(|| {
                Unready::refused(format!("subPath {sub:?} must be a relative path without '..'"))
            })?,
            None => dir.clone(),
        };
        let inside = mount.mount_path.trim_end_matches('/').to_owned();
        mounts.push(Mount { inside, outside });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        let dir = Path::new("/v");
        assert_eq!(below(dir, "a/b"), Some("/v/a/b".into()));
        assert_eq!(below(dir, "../a"), None);
        assert_eq!(below(dir, "a/../../b"), None);
        assert_eq!(below(dir, "/etc/passwd"), None);
    }
}
