//! A command in the target's pod, through the API server's `pods/exec`.

use futures::future::join;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{AttachParams, AttachedProcess},
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::Error;
use crate::context::{Context, describe};

/// Of what a command writes, so much is kept, in bytes; the rest is read and dropped, so that it can end.
const KEPT: u64 = 10 * 1024;
/// Of what it wrote, so many characters are told when it fails: the last ones.
const TOLD: usize = 500;

/// Runs a command; an exit status of 0 is a success.
pub(super) async fn run(
    ctx: &Context,
    pod: &Pod,
    container: &str,
    command: Vec<String>,
) -> Result<(), Error> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let failed = |why: String| Error::Exec { pod: format!("{namespace}/{name}"), why };
    let first = pod.spec.iter().flat_map(|spec| &spec.containers).map(|c| c.name.as_str()).next();
    let container = if container.is_empty() { first.unwrap_or_default() } else { container };
    let params = AttachParams::default().stdin(false).container(container);
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &namespace);
    let mut process = api.exec(&name, command, &params).await.map_err(|error| {
        let denied = matches!(&error, kube::Error::Api(status) if status.code == 403);
        let remedy = " (the orchestrator needs the right to get and create pods/exec there)";
        failed(format!("{}{}", describe(&error), if denied { remedy } else { "" }))
    })?;
    let (written, status) = end(&mut process).await;
    let status = status.ok_or_else(|| failed("the connection broke before it ended".to_owned()))?;
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    let skipped = written.chars().count().saturating_sub(TOLD);
    let told: String = written.chars().skip(skipped).collect();
    let told = if told.is_empty() { told } else { format!(": {}", told.trim()) };
    Err(failed(format!("{}{told}", status.message.unwrap_or_default())))
}

async fn end(
    process: &mut AttachedProcess,
) -> (String, Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>) {
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status();
    let output = join(read(stdout), read(stderr));
    let status = async {
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    let ((out, err), status) = join(output, status).await;
    (format!("{out}{err}"), status)
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = vec![];
    // What cannot be read is not told; how the command ended is told all the same.
    let _ = (&mut stream).take(KEPT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}
