//! The data files of a snapshot: one, or one for each shard of a cluster. Every byte is checked against a
//! sum of the backup, or what others made against the gateway's.

use std::time::Duration;

use bytes::Bytes;
use coffer_api::manifest;
use coffer_proto::storage::v1 as proto;
use coffer_runtime::fault::{Class, Fault as _, chain};
use crc_fast::CrcAlgorithm;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::gateway::{self, Download, Gateway, Part};
use crate::options::Method;

/// Between two attempts at a gateway that is full or away, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Where the files come from.
pub(super) struct Source {
    gateway: Gateway,
    request: proto::RestoreRequest,
    wait: Duration,
}

/// A data file.
pub(super) struct File {
    header: proto::RestoreHeader,
    /// The first file is open already.
    open: Option<Download>,
}

/// A data file on its way down.
pub(super) struct Pouring {
    download: Download,
    header: proto::RestoreHeader,
    sum: Sum,
    bytes: u64,
    ended: bool,
}

/// What is made of the bytes to compare them.
enum Sum {
    /// Against the manifest.
    Crc64 { counted: crc_fast::Digest, stored: u64 },
    /// Against what the gateway says, which is the manifest's where there is one: of an earlier version, or of a file that
    /// Coffer did not make.
    Sha256(Sha256),
}

impl Source {
    pub(super) const fn new(
        gateway: Gateway,
        request: proto::RestoreRequest,
        wait: Duration,
    ) -> Self {
        Self { gateway, request, wait }
    }

    /// Finds the data files, in the order of the manifest.
    pub(super) async fn open(&self) -> Result<Vec<File>, Error> {
        let refused = match self.ask(self.request.clone()).await {
            Ok(download) => return Ok(vec![File::of(download)]),
            Err(error) => error,
        };
        // Several files: the manifest names them.
        if refused.class() != Class::Invalid {
            return Err(refused);
        }
        let path = manifest::PATH.to_owned();
        let request = proto::RestoreRequest { path, ..self.request.clone() };
        let Ok(download) = self.ask(request).await else { return Err(refused) };
        let header = download.header;
        let Some(manifest) = &header.manifest else { return Err(refused) };
        let mut files = Vec::new();
        for file in &manifest.files {
            let mut file = File::of(self.another(&header, &file.path).await?);
            // Streams that wait for their turn would hold the gateway's memory.
            file.open = None;
            files.push(file);
        }
        Ok(files)
    }

    /// Opens a file; a gateway that is full or away is asked again.
    async fn ask(&self, request: proto::RestoreRequest) -> Result<Download, Error> {
        let deadline = Instant::now() + self.wait;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.gateway.download(request.clone()).await {
                Err(error)
                    if gateway::may_be_repeated(&error) && Instant::now() + pause < deadline =>
                {
                    tracing::warn!(
                        error = chain(&error),
                        ?pause,
                        "the storage-gateway will be asked again"
                    );
                }
                result => return result,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Begins to read a file, from its start.
    pub(super) async fn download(&self, file: &mut File) -> Result<Pouring, Error> {
        let download = match file.open.take() {
            Some(download) => download,
            None => self.again(file).await?,
        };
        Ok(Pouring::new(download))
    }

    /// Reads a file beside the reading of it that is to load it.
    pub(super) async fn look_through(&self, file: &File) -> Result<Pouring, Error> {
        self.again(file).await.map(Pouring::new)
    }

    async fn again(&self, file: &File) -> Result<Download, Error> {
        self.another(&file.header, &file.header.path).await
    }

    /// Opens a file of the snapshot that another is of, whatever `latest` is by now.
    async fn another(&self, of: &proto::RestoreHeader, path: &str) -> Result<Download, Error> {
        let path = path.to_owned();
        let request = proto::RestoreRequest { snapshot: id(of), path, ..self.request.clone() };
        self.ask(request).await
    }

    pub(super) fn has_no_data(&self) -> Error {
        Error::Differs {
            path: "/".to_owned(),
            snapshot: self.request.snapshot.clone(),
            problem: "its manifest names no data file".to_owned(),
        }
    }
}

impl File {
    fn of(download: Download) -> Self {
        Self { header: download.header.clone(), open: Some(download) }
    }

    pub(super) fn path(&self) -> &str {
        &self.header.path
    }

    pub(super) const fn size(&self) -> u64 {
        self.header.size
    }

    pub(super) const fn manifest(&self) -> Option<&proto::Manifest> {
        self.header.manifest.as_ref()
    }

    /// Whether it holds commands that say how values are made: of `method: portable`, or of another program.
    pub(super) fn is_typed(&self) -> bool {
        let portable = Method::Portable.name();
        let made = self.manifest().map(|manifest| manifest.method == portable);
        self.path().ends_with(".resp") && made.unwrap_or(true)
    }

    pub(super) fn snapshot_id(&self) -> String {
        id(&self.header)
    }

    pub(super) fn differs(&self, problem: String) -> Error {
        differs(&self.header, problem)
    }
}

impl Pouring {
    fn new(download: Download) -> Self {
        let header = download.header.clone();
        let sum = Sum::of(&header);
        Self { download, header, sum, bytes: 0, ended: false }
    }

    /// The next piece; `None` once all have come and are what was stored.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        match self.download.next().await? {
            Part::Chunk(chunk) => {
                self.sum.update(&chunk);
                self.bytes += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Part::Finish(finish) => {
                self.ended = true;
                let problem = self.problem(&finish);
                problem.map_or(Ok(None), |problem| Err(differs(&self.header, problem)))
            }
        }
    }

    /// How what came differs from what the gateway sent, or the backup stored.
    fn problem(&self, finish: &proto::RestoreFinish) -> Option<String> {
        let size = self.header.size;
        if self.bytes != size || self.bytes != finish.bytes {
            return Some(format!("{} bytes came of the {size} that are in it", self.bytes));
        }
        match &self.sum {
            Sum::Crc64 { counted, stored } => {
                let (is, was) = (counted.finalize(), *stored);
                (is != was).then(|| {
                    format!("its CRC-64 is {is:016x}, and was {was:016x} when it was made")
                })
            }
            Sum::Sha256(counted) => {
                let is = counted.clone().finalize();
                let is = &is[..];
                match stored(&self.header).map(|file| &file.sha256[..]).filter(|was| *was != is) {
                    Some(was) => {
                        let (is, was) = (hex::encode(is), hex::encode(was));
                        Some(format!("its SHA-256 is {is}, and was {was} when it was made"))
                    }
                    None => {
                        (finish.sha256 != is).then(|| "its SHA-256 changed on the way".to_owned())
                    }
                }
            }
        }
    }
}

impl Sum {
    fn of(header: &proto::RestoreHeader) -> Self {
        match stored(header).and_then(|file| file.crc64) {
            Some(stored) => {
                let counted = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
                Self::Crc64 { counted, stored }
            }
            None => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc64 { counted, .. } => counted.update(data),
            Self::Sha256(counted) => counted.update(data),
        }
    }
}

/// What the manifest says of the file that comes.
fn stored(header: &proto::RestoreHeader) -> Option<&proto::FileSum> {
    header.manifest.as_ref()?.files.iter().find(|file| file.path == header.path)
}

fn differs(header: &proto::RestoreHeader, problem: String) -> Error {
    Error::Differs { path: header.path.clone(), snapshot: id(header), problem }
}

fn id(header: &proto::RestoreHeader) -> String {
    header.snapshot.clone().unwrap_or_default().id
}
