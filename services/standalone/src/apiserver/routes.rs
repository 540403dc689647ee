//! From a request to its answer: who asks, about what, whether they may, and which verb does it.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, header};
use tokio_util::sync::CancellationToken;

use super::kinds::Kind;
use super::rbac::{self, Attempt};
use super::represent::{Accept, raw, refuse};
use super::request::{Params, Path, Target};
use super::server::{Call, Server};
use super::service::Body;
use super::status::Failure;
use super::user::{MASTERS, User};
use super::{auth, discovery, exec, logs, verbs, watch};

/// Answers one request. `fallback` is who asks when the request carries no token.
pub async fn answer(
    server: &Arc<Server>,
    fallback: Option<User>,
    stop: &CancellationToken,
    head: &Parts,
    body: Bytes,
) -> Response<Body> {
    let answered = Box::pin(serve(server, fallback, stop, head, body)).await;
    answered.unwrap_or_else(|failure| {
        if failure.code >= 500 {
            tracing::error!(method = %head.method, uri = %head.uri, %failure, "request failed");
        }
        refuse(&failure)
    })
}

async fn serve(
    server: &Arc<Server>,
    fallback: Option<User>,
    stop: &CancellationToken,
    head: &Parts,
    body: Bytes,
) -> Result<Response<Body>, Failure> {
    let path = Path::parse(head.uri.path());
    if let Path::Plain(parts) = &path
        && let [only] = &parts[..]
        && matches!(only.as_str(), "healthz" | "livez" | "readyz")
    {
        return Ok(raw(200, "text/plain; charset=utf-8", Bytes::from_static(b"ok")));
    }
    let user = identify(server, fallback, &head.headers)?;
    match path {
        Path::Plain(parts) => {
            let attempt = Attempt {
                verb: head.method.as_str().to_lowercase(),
                path: Some(head.uri.path().to_owned()),
                ..Attempt::default()
            };
            authorise(server, &user, &attempt, None)?;
            discovery::answer(server, &parts, head)
        }
        Path::Resource(target) => {
            let call = understand(server, user, target, stop, head)?;
            dispatch(&call, head, body).await
        }
    }
}

/// The user of the token, or the fallback; then whom they ask to be taken for.
fn identify(server: &Server, fallback: Option<User>, headers: &HeaderMap) -> Result<User, Failure> {
    let user = match auth::bearer(headers) {
        Some(token) => server.tokens.user(&server.store, token).map(|(user, _)| user),
        None => fallback,
    };
    let user = user.ok_or_else(Failure::unauthorized)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(name) = text("impersonate-user") else { return Ok(user) };
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let mut taken_for = User { name: name.to_owned(), uid: String::new(), groups };
    let mut wanted = vec![("users", name.to_owned(), String::new())];
    if let Some((namespace, account)) = taken_for.as_service_account() {
        wanted = vec![("serviceaccounts", account.to_owned(), namespace.to_owned())];
        if taken_for.groups.is_empty() {
            taken_for.groups = User::service_account(namespace, account, "").groups;
        }
    } else {
        wanted.extend(taken_for.groups.iter().map(|g| ("groups", g.clone(), String::new())));
        if !taken_for.groups.iter().any(|group| group == "system:authenticated") {
            taken_for.groups.push("system:authenticated".to_owned());
        }
    }
    // Whoever may impersonate anybody may still not become a master without being told so.
    if taken_for.groups.iter().any(|group| group == MASTERS) {
        wanted.push(("groups", MASTERS.to_owned(), String::new()));
    }
    for (resource, name, namespace) in wanted {
        let attempt = Attempt {
            verb: "impersonate".to_owned(),
            resource: resource.to_owned(),
            name,
            namespace,
            ..Attempt::default()
        };
        authorise(server, &user, &attempt, None)?;
    }
    Ok(taken_for)
}

fn authorise(
    server: &Server,
    user: &User,
    attempt: &Attempt,
    kind: Option<&Kind>,
) -> Result<(), Failure> {
    let Err(why) = rbac::allowed(&server.store, user, attempt) else { return Ok(()) };
    Err(match kind {
        Some(kind) if attempt.name.is_empty() => {
            Failure::new(403, "Forbidden", format!("{} is forbidden: {why}", kind.qualified()))
        }
        Some(kind) => Failure::forbidden(kind, &attempt.name, &why),
        None => Failure::new(403, "Forbidden", format!("forbidden: {why}")),
    })
}

fn understand<'a>(
    server: &'a Arc<Server>,
    user: User,
    target: Target,
    stop: &CancellationToken,
    head: &Parts,
) -> Result<Call<'a>, Failure> {
    let kind =
        server.kinds().get(&target.group, &target.resource).ok_or_else(Failure::no_such_path)?;
    let version = kind.version(&target.version).cloned().ok_or_else(Failure::no_such_path)?;
    let named_without_namespace =
        kind.namespaced && target.namespace.is_none() && target.name.is_some();
    if named_without_namespace || (!kind.namespaced && target.namespace.is_some()) {
        return Err(Failure::no_such_path());
    }
    let mut params = Params::parse(head.uri.query().unwrap_or_default())?;
    params.watch &= target.name.is_none() && head.method == Method::GET;
    let mut attempt = Attempt {
        verb: verb(&head.method, &target, &params)?.to_owned(),
        group: target.group.clone(),
        resource: target.resource.clone(),
        subresource: target.subresource.clone().unwrap_or_default(),
        namespace: target.namespace.clone().unwrap_or_default(),
        name: target.name.clone().unwrap_or_default(),
        path: None,
    };
    authorise(server, &user, &attempt, Some(&kind))?;
    // A WebSocket begins with GET, but a command does more than read: as in Kubernetes since 1.35, it takes both.
    if attempt.subresource == "exec" {
        "create".clone_into(&mut attempt.verb);
        authorise(server, &user, &attempt, Some(&kind))?;
    }
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let agent = header(header::USER_AGENT).unwrap_or("unknown");
    let manager = if params.field_manager.is_empty() {
        agent.split('/').next().unwrap_or(agent).to_owned()
    } else {
        params.field_manager.clone()
    };
    let content_type = header(header::CONTENT_TYPE).unwrap_or("application/json");
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    Ok(Call {
        server,
        user,
        kind,
        version,
        params,
        accept: Accept::parse(&head.headers)?,
        manager,
        content_type,
        stop: stop.clone(),
        target,
    })
}

/// The verb as rules name it.
fn verb(method: &Method, target: &Target, params: &Params) -> Result<&'static str, Failure> {
    Ok(match (method.as_str(), target.name.is_some()) {
        ("GET", true) => "get",
        ("GET", false) if params.watch => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return Err(Failure::method_not_allowed()),
    })
}

async fn dispatch(call: &Call<'_>, head: &Parts, body: Bytes) -> Result<Response<Body>, Failure> {
    let method = &head.method;
    let subresource = call.target.subresource.as_deref();
    if call.kind.create_only() && method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    match (method.as_str(), call.target.name.is_some(), subresource) {
        ("GET", true, Some("log")) if call.kind.plural == "pods" => logs::read(call),
        ("GET" | "POST", true, Some("exec")) if call.kind.plural == "pods" => {
            exec::start(call, head)
        }
        ("POST", true, Some("token")) if call.kind.plural == "serviceaccounts" => {
            verbs::create::token(call, body).await
        }
        ("PUT", true, Some("finalize")) if call.kind.plural == "namespaces" => {
            verbs::update::run(call, body).await
        }
        (_, _, Some(name)) if name != "status" || !call.version.status => {
            Err(Failure::no_such_path())
        }
        ("GET", true, _) => verbs::read::one(call),
        ("GET", false, _) if call.params.watch => watch::start(call),
        ("GET", false, _) => verbs::read::list(call),
        ("POST", false, _) => verbs::create::run(call, body).await,
        ("PUT", true, _) => verbs::update::run(call, body).await,
        ("PATCH", true, _) => verbs::patch::run(call, body).await,
        ("DELETE", true, None) => verbs::delete::one(call, body).await,
        ("DELETE", false, None) => verbs::delete::collection(call, body).await,
        _ => Err(Failure::method_not_allowed()),
    }
}
