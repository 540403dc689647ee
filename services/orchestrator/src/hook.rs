//! Hooks: what a user wants done before and after a backup or restore. The orchestrator runs them itself, and not the
//! Job's pod: so the one for failures also runs when the pod was killed, and the pod needs no rights for it.
//!
//! A hook's end is a condition. One that has its condition is not run again; one that was at work when the orchestrator
//! was killed is run once more.

pub mod body;
mod exec;
mod http;
mod place;

use std::time::Duration;

use chrono::{DateTime, Utc};
use coffer_api::{
    AppBinding,
    condition::{self, Kind},
    hook::{ExecutionPolicy, Handler, HttpPostAction, PostHandler},
};
use coffer_runtime::{Clock, fault};
use k8s_openapi::{api::core::v1::HTTPGetAction, apimachinery::pkg::util::intstr::IntOrString};

use crate::context::Context;

pub use body::Summary;

/// Longest that one action may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Around what a hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the dump of a target.
    PreBackup,
    /// After it.
    PostBackup,
    /// Before all targets of a batch.
    GlobalPreBackup,
    /// After them.
    GlobalPostBackup,
    /// Before all members of a RestoreBatch.
    GlobalPreRestore,
    /// After them.
    GlobalPostRestore,
    /// Before the load of a target.
    PreRestore,
    /// After it.
    PostRestore,
}

impl Moment {
    /// The condition that says how it went.
    #[must_use]
    pub const fn condition(self) -> Kind {
        match self {
            Self::PreBackup => condition::PRE_BACKUP_HOOK,
            Self::PostBackup => condition::POST_BACKUP_HOOK,
            Self::GlobalPreBackup => condition::GLOBAL_PRE_BACKUP_HOOK,
            Self::GlobalPostBackup => condition::GLOBAL_POST_BACKUP_HOOK,
            Self::GlobalPreRestore => condition::GLOBAL_PRE_RESTORE_HOOK,
            Self::GlobalPostRestore => condition::GLOBAL_POST_RESTORE_HOOK,
            Self::PreRestore => condition::PRE_RESTORE_HOOK,
            Self::PostRestore => condition::POST_RESTORE_HOOK,
        }
    }
}

/// A hook that is to run now.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// Around what.
    pub moment: Moment,
    /// What to do.
    pub handler: Handler,
    /// Which target of the session; none for the session as a whole.
    pub at: Option<usize>,
    /// Namespace and name of the target's AppBinding; none for the session as a whole.
    pub target: Option<(String, String)>,
    /// What the body of a POST may tell.
    pub summary: Summary,
    /// When it has to be done, whatever its own limit.
    pub until: DateTime<Utc>,
}

/// A hook cannot be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no pod, host or port to go to.
    #[error("{0}")]
    Nowhere(String),
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Cluster(#[from] crate::context::Error),
    /// The body cannot be made.
    #[error("httpPost.body")]
    Body(#[source] body::Error),
    /// The request failed.
    #[error("{action} {url}")]
    Http {
        /// `httpGet` or `httpPost`.
        action: &'static str,
        /// Where to.
        url: String,
        /// Why.
        #[source]
        source: http::Error,
    },
    /// Nobody listens.
    #[error("tcpSocket: connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The command failed.
    #[error("exec in pod {pod}: {why}")]
    Exec {
        /// Where.
        pod: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{action} was not done within {limit:?}")]
    Late {
        /// Which action.
        action: &'static str,
        /// Its limit.
        limit: Duration,
    },
}

/// Runs a hook. Several actions run in the order exec, httpGet, httpPost, tcpSocket, until one fails. Tells what was done.
///
/// # Errors
/// A text for people, when one fails.
pub async fn run(ctx: &Context, hook: &Hook) -> Result<String, String> {
    match Box::pin(act(ctx, hook)).await {
        Ok(done) => Ok(done.join(", ")),
        Err(Error::Cluster(error)) => Err(error.describe()),
        Err(error) => Err(fault::chain(&error)),
    }
}

async fn act(ctx: &Context, hook: &Hook) -> Result<Vec<String>, Error> {
    let Handler { exec, http_get, http_post, tcp_socket, container_name } = &hook.handler;
    let place = place::Place::find(ctx, hook.target.as_ref(), container_name).await?;
    let limits = Limits { clock: &ctx.clock, until: hook.until };
    let mut done = vec![];
    if let Some(action) = exec {
        let pod = place.pod().await?;
        let command = action.command.clone().unwrap_or_default();
        let running = Box::pin(exec::run(ctx, &pod, container_name, command));
        limits.within("exec", running).await?;
        let name = pod.metadata.name.unwrap_or_default();
        done.push(format!("the command in pod {name} exited with 0"));
    }
    if let Some(action) = http_get {
        let HTTPGetAction { host, path, port, scheme, http_headers, protocol: _ } = action.clone();
        let headers = http_headers.unwrap_or_default();
        let url = place.url(scheme.as_deref(), host.as_deref(), &port, path.as_deref()).await?;
        let request = http::Request { method: ::http::Method::GET, url, headers, body: None };
        done.push(send(&limits, "httpGet", request, &place).await?);
    }
    if let Some(action) = http_post {
        let HttpPostAction { host, path, port, scheme, http_headers, body, form } = action.clone();
        let url = place.url(scheme.as_deref(), host.as_deref(), &port, path.as_deref()).await?;
        let body = body::of_post(&form, body.as_deref(), &hook.summary).map_err(Error::Body)?;
        let method = ::http::Method::POST;
        let request = http::Request { method, url, headers: http_headers, body };
        done.push(send(&limits, "httpPost", request, &place).await?);
    }
    if let Some(action) = tcp_socket {
        let host = place.host(action.host.as_deref()).await?;
        let port = place.port(&action.port).await?;
        let address = format!("{host}:{port}");
        let connecting = async {
            let connected = tokio::net::TcpStream::connect((host.as_str(), port)).await;
            connected.map_err(|source| Error::Connect { address: address.clone(), source })
        };
        limits.within("tcpSocket", connecting).await?;
        done.push(format!("{address} accepts connections"));
    }
    Ok(done)
}

async fn send(
    limits: &Limits<'_>,
    action: &'static str,
    request: http::Request,
    place: &place::Place<'_>,
) -> Result<String, Error> {
    let url = request.url.to_string();
    // Boxed: a TLS connection is large.
    let sending = Box::pin(async {
        let answer = http::send(request, place.authority()).await;
        answer.map_err(|source| Error::Http { action, url: url.clone(), source })
    });
    let status = limits.within(action, sending).await?;
    Ok(format!("{url} answered {status}"))
}

/// How long the actions of a hook may take.
struct Limits<'a> {
    clock: &'a Clock,
    /// For all of them.
    until: DateTime<Utc>,
}

impl Limits<'_> {
    /// Ends an action when its time is up: its own, or what those before it have left of all.
    async fn within<T>(
        &self,
        action: &'static str,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let left = (self.until - self.clock.now()).to_std().unwrap_or_default();
        let limit = LIMIT.min(left);
        let work = std::pin::pin!(work);
        let late = std::pin::pin!(self.clock.sleep(limit));
        match futures::future::select(work, late).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right(_) => Err(Error::Late { action, limit }),
        }
    }
}

/// The action of a post hook, without its policy.
#[must_use]
pub fn handler(post: &PostHandler) -> Handler {
    let PostHandler { execution_policy: _, exec, http_get, http_post, tcp_socket, container_name } =
        post.clone();
    Handler { exec, http_get, http_post, tcp_socket, container_name }
}

/// Whether a post hook runs after this end.
///
/// # Errors
/// Why not.
pub fn policy(
    policy: ExecutionPolicy,
    succeeded: bool,
    retry_left: i32,
) -> Result<(), &'static str> {
    match policy {
        ExecutionPolicy::Always => Ok(()),
        ExecutionPolicy::OnSuccess if succeeded => Ok(()),
        ExecutionPolicy::OnSuccess => Err("not run: its executionPolicy is OnSuccess"),
        ExecutionPolicy::OnFailure if !succeeded => Ok(()),
        ExecutionPolicy::OnFailure => Err("not run: its executionPolicy is OnFailure"),
        ExecutionPolicy::OnFinalRetryFailure if !succeeded && retry_left <= 0 => Ok(()),
        ExecutionPolicy::OnFinalRetryFailure => {
            Err("not run: its executionPolicy is OnFinalRetryFailure")
        }
    }
}

/// What can be said against a hook before it runs; `at` is its field.
///
/// # Errors
/// Names the field, and what is wrong with it.
pub fn check(at: &str, handler: &Handler, target: Option<&AppBinding>) -> Result<(), String> {
    let Handler { exec, http_get, http_post, tcp_socket, container_name: _ } = handler;
    let wrong = |what: &str| Err(format!("{at}: {what}"));
    if exec.is_none() && http_get.is_none() && http_post.is_none() && tcp_socket.is_none() {
        return wrong("names no action: set one of exec, httpGet, httpPost, tcpSocket");
    }
    let service = target.is_none_or(|binding| binding.spec.client_config.service.is_some());
    if let Some(action) = exec {
        if action.command.as_ref().is_none_or(Vec::is_empty) {
            return wrong("exec.command is empty");
        }
        if !service {
            return wrong(
                "exec runs in a pod behind the AppBinding's service, and it has only a url: use another action, or clientConfig.service",
            );
        }
    }
    let ports = [
        http_get.as_ref().map(|action| &action.port),
        http_post.as_ref().map(|action| &action.port),
        tcp_socket.as_ref().map(|action| &action.port),
    ];
    for port in ports.into_iter().flatten() {
        match port {
            IntOrString::Int(1..=65_535) => {}
            IntOrString::Int(number) => return wrong(&format!("port {number} is none")),
            IntOrString::String(name) if !service && place::number(name).is_none() => {
                return wrong(&format!(
                    "port {name:?} is a name, which only the AppBinding's service could tell: give its number"
                ));
            }
            IntOrString::String(_) => {}
        }
    }
    let schemes = [
        http_get.as_ref().and_then(|action| action.scheme.as_deref()),
        http_post.as_ref().and_then(|action| action.scheme.as_deref()),
    ];
    for scheme in schemes.into_iter().flatten() {
        if let Err(why) = place::scheme(Some(scheme)) {
            return wrong(&why);
        }
    }
    if let Some(text) = http_post.as_ref().and_then(|action| action.body.as_deref())
        && let Err(error) = body::render(text, &Summary::example())
    {
        return wrong(&format!("httpPost.body: {error}"));
    }
    Ok(())
}

/// The same for a hook of a whole batch, which has no target: no pod, no address, no port with a name.
///
/// # Errors
/// Names the field, and what is wrong with it.
pub fn check_global(at: &str, handler: &Handler) -> Result<(), String> {
    let Handler { exec, http_get, http_post, tcp_socket, container_name: _ } = handler;
    if exec.is_some() {
        return Err(format!("{at}: exec needs a target: give the hook to a member"));
    }
    let places = [
        http_get.as_ref().map(|action| (&action.host, &action.port)),
        http_post.as_ref().map(|action| (&action.host, &action.port)),
        tcp_socket.as_ref().map(|action| (&action.host, &action.port)),
    ];
    for (host, port) in places.into_iter().flatten() {
        if host.as_ref().is_none_or(String::is_empty) {
            return Err(format!("{at}: a hook of the whole batch has no target: name a host"));
        }
        if let IntOrString::String(name) = port
            && place::number(name).is_none()
        {
            return Err(format!("{at}: port {name:?} is a name: give its number"));
        }
    }
    check(at, handler, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_waits_for_its_outcome() {
        use ExecutionPolicy::{Always, OnFailure, OnFinalRetryFailure, OnSuccess};
        for (when, success, failure, final_failure) in [
            (Always, true, true, true),
            (OnSuccess, true, false, false),
            (OnFailure, false, true, true),
            (OnFinalRetryFailure, false, false, true),
        ] {
            assert_eq!(policy(when, true, 0).is_ok(), success, "{when:?}");
            assert_eq!(policy(when, false, 2).is_ok(), failure, "{when:?}");
            assert_eq!(policy(when, false, 0).is_ok(), final_failure, "{when:?}");
        }
    }

    #[tokio::test]
    async fn an_action_has_its_own_time_and_no_more_than_is_left_of_all() {
        let clock = Clock::stepped(DateTime::UNIX_EPOCH);
        let limits = Limits { clock: &clock, until: clock.now() + 4 * LIMIT / 3 };
        // The second has what the first has left.
        for limit in [LIMIT, LIMIT / 3] {
            let never = std::future::pending::<Result<(), Error>>();
            let mut acting = std::pin::pin!(limits.within("exec", never));
            assert!(futures::poll!(&mut acting).is_pending());
            clock.step(limit - Duration::from_secs(1));
            assert!(futures::poll!(&mut acting).is_pending());
            clock.step(Duration::from_secs(1));
            let late = acting.await.unwrap_err();
            assert!(matches!(late, Error::Late { limit: of, .. } if of == limit), "{late}");
        }
    }

    #[test]
    fn what_cannot_run_is_told_before() {
        let url: AppBinding = serde_json::from_value(json!({
            "apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
            "metadata": {"name": "orders"}, "spec": {"clientConfig": {"url": "redis://orders:6379"}}}))
        .unwrap();
        for (handler, why) in [
            (json!({}), "names no action"),
            (json!({"exec": {"command": ["true"]}}), "has only a url"),
            (json!({"exec": {}}), "command is empty"),
            (json!({"httpGet": {"port": 0}}), "port 0 is none"),
            (json!({"tcpSocket": {"port": "redis"}}), "\"redis\" is a name"),
            (json!({"httpGet": {"port": 80, "scheme": "ftp"}}), "scheme"),
            (json!({"httpPost": {"port": 80, "body": "{{ .Name"}}), "httpPost.body"),
            (json!({"httpPost": {"port": 80, "body": "{{ .Nmae }}"}}), "Nmae"),
            (json!({"httpPost": {"port": 80, "body": "{{ env .Name }}"}}), "env"),
        ] {
            let parsed: Handler = serde_json::from_value(handler.clone()).unwrap();
            let error = check("spec.hooks.preBackup", &parsed, Some(&url)).unwrap_err();
            assert!(error.starts_with("spec.hooks.preBackup: ") && error.contains(why), "{error}");
        }
        let good =
            json!({"httpPost": {"port": "8080", "body": "{{ .Name }} is {{ .Status.Phase }}"}});
        let good: Handler = serde_json::from_value(good).unwrap();
        assert_eq!(check("x", &good, Some(&url)), Ok(()));
    }
}
