//! Where everything of one `coffer up` is kept, and which ports it had the last time, so that a restart keeps them.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use coffer_runtime::Listen;
use serde::{Deserialize, Serialize};

/// The files below the data directory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The data directory, absolute.
    pub(super) root: PathBuf,
}

impl Layout {
    /// Makes the directory, for this user only.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
        Ok(Self { root: root.canonicalize()? })
    }

    /// Exists while the system is up and ready.
    pub(super) fn ready(&self) -> PathBuf {
        self.root.join("ready")
    }

    /// The services' certificate authority. The API server has one of its own, in `pki`.
    pub(super) fn authority(&self) -> PathBuf {
        self.root.join("services")
    }

    /// The key that signs session grants.
    pub(super) fn grant_key(&self) -> PathBuf {
        self.root.join("services").join("grants.key")
    }

    /// The pushed metrics.
    pub(super) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.json")
    }

    /// What stands for PersistentVolumeClaims: `<namespace>/<claim>`.
    pub(super) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }

    /// The ports of the last run, or any.
    pub(super) fn remembered_ports(&self) -> Ports {
        let read = fs::read(self.ports()).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps them for the next run.
    pub(super) fn remember_ports(&self, ports: &Ports) -> io::Result<()> {
        fs::write(self.ports(), serde_json::to_vec_pretty(ports).map_err(io::Error::other)?)
    }
}

/// A port for each thing that listens; 0 for any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ports {
    /// The Kubernetes API.
    pub api: u16,
    /// The orchestrator's gRPC.
    pub orchestrator: u16,
    /// The catalog's gRPC.
    pub catalog: u16,
    /// The storage-gateway's gRPC.
    pub storage_gateway: u16,
    /// The metrics-gateway's gRPC.
    pub metrics_gateway: u16,
    /// The metrics-gateway's HTTP: pushes and scrapes.
    pub pushgateway: u16,
    /// The orchestrator's admission webhook.
    pub admission: u16,
}

impl Ports {
    /// Takes `other` where this one says any.
    pub(super) fn or(self, other: Self) -> Self {
        let pick = |mine: u16, theirs: u16| if mine == 0 { theirs } else { mine };
        Self {
            api: pick(self.api, other.api),
            orchestrator: pick(self.orchestrator, other.orchestrator),
            catalog: pick(self.catalog, other.catalog),
            storage_gateway: pick(self.storage_gateway, other.storage_gateway),
            metrics_gateway: pick(self.metrics_gateway, other.metrics_gateway),
            pushgateway: pick(self.pushgateway, other.pushgateway),
            admission: pick(self.admission, other.admission),
        }
    }
}

/// Binds the wanted port, or a free one when that is taken or 0. A free one lies below the range that systems give to
/// outgoing connections: while we are down, one of those could take the port that clients remember.
pub(super) fn listen(ip: IpAddr, wanted: u16) -> io::Result<Listen> {
    let bind = |port| Listen::bind(SocketAddr::new(ip, port));
    let wanted = Some(wanted).filter(|port| *port != 0);
    let below = std::iter::repeat_with(|| rand::random_range(20_000..32_000)).take(100);
    wanted.into_iter().chain(below).find_map(|port| bind(port).ok()).map_or_else(|| bind(0), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_remembered_and_a_taken_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(&folder.path().join("data")).unwrap();
        assert_eq!(layout.remembered_ports(), Ports::default());
        let ports = Ports { api: 7443, ..Ports::default() };
        layout.remember_ports(&ports).unwrap();
        assert_eq!(
            Ports { catalog: 1, ..Ports::default() }.or(layout.remembered_ports()).api,
            7443
        );
        let mode = fs::metadata(&layout.root).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        let ip = IpAddr::from([127, 0, 0, 1]);
        let held = listen(ip, 0).unwrap();
        assert_ne!(listen(ip, held.address().port()).unwrap().address(), held.address());
    }
}
