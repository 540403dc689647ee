//! Who is let in, and what those who are not are told.

use super::*;
use crate::grant::{Operation, RepositoryRef, SessionRef, Signer};
use chrono::{DateTime, TimeDelta};
use futures::FutureExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::Code;

/// Knows one user, who may only read.
#[derive(Clone, Default)]
struct OneUser(Arc<AtomicUsize>);

impl Reviewer for OneUser {
    fn review<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let user = || User { name: "ada".to_owned(), ..User::default() };
        futures::future::ready(Ok((token.reveal() == "good").then(user))).boxed()
    }

    fn allows<'a>(
        &'a self,
        _: &'a User,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Result<(), String>, ReviewError>> {
        let decision = if access.verb == "get" { Ok(()) } else { Err("no rule".to_owned()) };
        futures::future::ready(Ok(decision)).boxed()
    }
}

fn access(verb: &'static str) -> Access {
    Access {
        group: "stash.appscode.com",
        resource: "repositories",
        verb,
        namespace: "demo".to_owned(),
        name: Some("repo".to_owned()),
    }
}

fn request(token: Option<&str>, service: Option<&str>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(token) = token {
        let header = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
    }
    let address = ([127, 0, 0, 1], 1).into();
    request.extensions_mut().insert(Peer { address, service: service.map(Arc::from) });
    request
}

fn grant(expires: DateTime<chrono::Utc>) -> Grant {
    Grant {
        session: SessionRef {
            kind: "BackupSession".to_owned(),
            namespace: "demo".to_owned(),
            name: "b-1".to_owned(),
        },
        repository: RepositoryRef { namespace: "demo".to_owned(), name: "repo".to_owned() },
        operation: Operation::Backup,
        snapshot: None,
        issued: DateTime::UNIX_EPOCH,
        expires,
    }
}

#[tokio::test]
async fn knows_services_workers_and_users() {
    let clock = Clock::stepped(DateTime::UNIX_EPOCH);
    let signer = Signer::generate().unwrap();
    let gate = Gate::builder(clock.clone())
        .grants(Verifier::from_pem(signer.public_key()).unwrap())
        .service("orchestrator")
        .reviewer(OneUser::default())
        .build();

    let service = gate.caller(&request(None, Some("orchestrator"))).await.unwrap();
    assert_eq!(service, Caller::Service("orchestrator".to_owned()));
    gate.authorize(&service, &access("delete")).await.unwrap();
    let other = gate.caller(&request(None, Some("catalog"))).await.unwrap();
    let status = gate.authorize(&other, &access("get")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);

    let granted = grant(clock.now() + TimeDelta::hours(1));
    let token = signer.sign(&granted).unwrap();
    // The token wins over the connection's certificate.
    let worker = gate.caller(&request(Some(token.reveal()), Some("orchestrator"))).await.unwrap();
    assert_eq!(worker, Caller::Worker(granted));
    let status = gate.authorize(&worker, &access("get")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    clock.step(Duration::from_secs(3601));
    let status = gate.caller(&request(Some(token.reveal()), None)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("expired"), "{}", status.message());

    let user = gate.caller(&request(Some("good"), None)).await.unwrap();
    gate.authorize(&user, &access("get")).await.unwrap();
    let status = gate.authorize(&user, &access("delete")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "user \"ada\" may not delete repositories.stash.appscode.com \"repo\" in namespace \"demo\": no rule"
    );
}

#[tokio::test]
async fn nobody_gets_in_without_saying_who_they_are() {
    let gate = Gate::builder(Clock::real()).reviewer(OneUser::default()).build();
    for (token, service, expected) in [
        (None, None, "who calls?"),
        (Some("bad"), None, "does not know this token"),
        (Some(""), Some("orchestrator"), "is not `Bearer <token>`"),
    ] {
        let status = gate.caller(&request(token, service)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(expected), "{}", status.message());
    }
    let closed = Gate::builder(Clock::real()).build();
    let status = closed.caller(&request(Some("good"), None)).await.unwrap_err();
    assert!(status.message().contains("no user tokens"), "{}", status.message());
}

#[tokio::test]
async fn asks_the_cluster_once_in_a_while() {
    let clock = Clock::stepped(DateTime::UNIX_EPOCH);
    let reviewer = OneUser::default();
    let gate = Gate::builder(clock.clone()).reviewer(reviewer.clone()).build();
    for _ in 0..5 {
        gate.caller(&request(Some("good"), None)).await.unwrap();
    }
    assert_eq!(reviewer.0.load(Ordering::Relaxed), 1);
    clock.step(Duration::from_secs(10));
    gate.caller(&request(Some("good"), None)).await.unwrap();
    assert_eq!(reviewer.0.load(Ordering::Relaxed), 2);
}

#[cfg(feature = "kube")]
mod cluster {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    /// Answers reviews over HTTP as an API server does.
    fn client() -> kube::Client {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            review["status"] = if parts.uri.path().ends_with("/tokenreviews") {
                match review["spec"]["token"].as_str() {
                    Some("good") => json!({
                        "authenticated": true,
                        "user": {"username": "ada", "groups": ["dev"], "extra": {"k": ["v"]}}
                    }),
                    _ => json!({"authenticated": false}),
                }
            } else {
                let spec = &review["spec"];
                assert_eq!(spec["groups"], json!(["dev"]));
                assert_eq!(spec["extra"], json!({"k": ["v"]}));
                let allowed = spec["resourceAttributes"]["verb"] == "get";
                json!({"allowed": allowed, "reason": "RBAC"})
            };
            let answer = http::Response::builder()
                .status(201)
                .header("content-type", "application/json")
                .body(kube::client::Body::from(serde_json::to_vec(&review).unwrap()));
            Ok::<_, tower::BoxError>(answer.unwrap())
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test]
    async fn reviews_tokens_and_rights() {
        let gate = Gate::builder(Clock::real()).cluster(client()).build();
        let caller = gate.caller(&request(Some("good"), None)).await.unwrap();
        let Caller::User(user) = &caller else { panic!("{caller:?}") };
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("ada", &["dev".to_owned()][..]));
        gate.authorize(&caller, &access("get")).await.unwrap();
        let status = gate.authorize(&caller, &access("delete")).await.unwrap_err();
        assert!(status.message().ends_with("in namespace \"demo\": RBAC"), "{}", status.message());
        let status = gate.caller(&request(Some("bad"), None)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_answer_is_not_a_refusal() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, tower::BoxError>("refused".into())
        });
        let gate =
            Gate::builder(Clock::real()).cluster(kube::Client::new(service, "default")).build();
        let status = gate.caller(&request(Some("good"), None)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }
}
