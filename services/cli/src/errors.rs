//! How an error reaches the user: one line with the whole chain of causes, then what to do about it where that is known.
use std::{error::Error, fmt};

use coffer_runtime::fault;
use kube::config::KubeconfigError;
use tonic::{Code, Status};

/// An error with a remedy of its own.
#[derive(Debug)]
pub struct Advice {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl Advice {
    /// Both texts.
    pub fn new(message: impl Into<String>, hint: &'static str) -> Self {
        Self { message: message.into(), hint }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Advice {}

/// `error: …`, and `hint: …` when there is one; each with a line feed.
pub fn report(error: &anyhow::Error) -> String {
    let mut text = format!("error: {}\n", chain(error));
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str("hint: ");
        text.push_str(hint);
        text.push('\n');
    }
    text
}

/// The error and its causes in one line. Kubernetes' and gRPC's errors print more than a person wants: of those, only
/// what the server said.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let (part, last) = if let Some(status) = cause.downcast_ref::<Status>() {
            // tonic's own last word, which says nothing that is not said before it.
            let said = fault::describe(status);
            (said.strip_suffix(": transport error").unwrap_or(&said).to_owned(), true)
        } else if let Some(kube::Error::Api(status)) = cause.downcast_ref::<kube::Error>() {
            (status.message.clone(), true)
        } else if let Some(kube::Error::Service(_)) = cause.downcast_ref::<kube::Error>() {
            ("cannot reach the Kubernetes API".to_owned(), false)
        } else {
            (cause.to_string(), false)
        };
        // Many libraries repeat their cause in their own text.
        if !text.ends_with(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        if last {
            break;
        }
    }
    text.replace('\n', " ")
}

const NO_CLUSTER: &str = "name the cluster with --kubeconfig or $KUBECONFIG; `coffer up` starts one on this machine and \
    writes DATA_DIR/kubeconfig";
const NO_SERVICE: &str = "is Coffer running? in a cluster, forward the service's port and name it with --orchestrator or \
    --storage-gateway";
const NO_TOKEN: &str =
    "pass a Kubernetes token with --token, e.g. from `kubectl create token NAME`";
const LOGIN: &str =
    "the kubeconfig's credentials are not accepted: log in again, or choose another --context";

fn hint(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(advice) = cause.downcast_ref::<Advice>() {
        return Some(advice.hint);
    }
    if let Some(status) = cause.downcast_ref::<Status>() {
        return match status.code() {
            // The service was not reached; one that answers has a reason of its own.
            Code::Unavailable if status.source().is_some() => Some(NO_SERVICE),
            Code::Unauthenticated => Some(NO_TOKEN),
            _ => None,
        };
    }
    match cause.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if status.code == 401 => return Some(LOGIN),
        Some(kube::Error::Service(_) | kube::Error::HyperError(_)) => return Some(NO_CLUSTER),
        _ => {}
    }
    cause.downcast_ref::<KubeconfigError>().map(|_| NO_CLUSTER)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_chain_in_one_line() {
        let io = std::io::Error::other("disk\nfull");
        let error = anyhow::Error::new(io).context("write x").context("apply y");
        assert_eq!(report(&error), "error: apply y: write x: disk full\n");
    }

    #[test]
    fn of_a_status_only_what_the_server_said() {
        let status = Status::permission_denied("user \"u\" may not create backupsessions");
        let error = anyhow::Error::new(status).context("back up demo/orders");
        let text = "error: back up demo/orders: user \"u\" may not create backupsessions\n";
        assert_eq!(report(&error), text);
        let error = Err::<(), _>(Status::unauthenticated("who calls?")).context("x").unwrap_err();
        assert_eq!(report(&error), format!("error: x: who calls?\nhint: {NO_TOKEN}\n"));
    }

    #[test]
    fn whether_coffer_runs_is_asked_only_where_nobody_answered() {
        let mut status = Status::unavailable("check the endpoint http://s3");
        let error = anyhow::Error::new(status.clone()).context("x");
        assert_eq!(report(&error), "error: x: check the endpoint http://s3\n");
        status.set_source(std::sync::Arc::new(std::io::Error::other("refused")));
        let error = anyhow::Error::new(status).context("x");
        assert!(report(&error).ends_with(&format!("hint: {NO_SERVICE}\n")), "{}", report(&error));
    }

    #[test]
    fn of_the_api_server_only_its_message() {
        let status =
            kube::core::Status::failure("secrets \"x\" is forbidden", "Forbidden").with_code(403);
        let error = anyhow::Error::new(kube::Error::Api(status.boxed())).context("read x");
        assert_eq!(report(&error), "error: read x: secrets \"x\" is forbidden\n");
    }

    #[test]
    fn advice_is_a_hint() {
        let error = anyhow::Error::new(Advice::new("no such thing", "make one")).context("find it");
        assert_eq!(report(&error), "error: find it: no such thing\nhint: make one\n");
    }
}
