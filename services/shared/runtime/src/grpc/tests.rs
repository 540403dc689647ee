//! A real server and a real channel over loopback, with a service whose calls last as long as the test wants.

use super::*;
use crate::authority::Authority;
use crate::tls::TlsOptions;
use crate::{Runtime, Secret};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceExt as _};

/// `/test.Hold/Who` answers with who called, `/test.Hold/Wait` when released, `/test.Hold/Stream` with a body that never ends.
#[derive(Clone, Default)]
struct Hold {
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

impl tonic::server::NamedService for Hold {
    const NAME: &'static str = "test.Hold";
}

impl Service<http::Request<Body>> for Hold {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { entered, release } = self.clone();
        async move {
            entered.notify_one();
            Ok(match request.uri().path() {
                "/test.Hold/Who" => {
                    let peer = request.extensions().get::<Peer>();
                    let service = peer.and_then(|peer| peer.service.clone());
                    let token = request.headers().get("authorization");
                    let token = token.map_or("", |token| token.to_str().unwrap());
                    Status::ok(format!("{} {token}", service.as_deref().unwrap_or("-"))).into_http()
                }
                "/test.Hold/Wait" => {
                    release.notified().await;
                    Status::ok("released").into_http()
                }
                _ => http::Response::builder()
                    .header("content-type", "application/grpc")
                    .body(Body::new(http_body_util::StreamBody::new(futures::stream::pending::<
                        Result<http_body::Frame<bytes::Bytes>, Status>,
                    >())))
                    .unwrap(),
            })
        }
        .boxed()
    }
}

struct Running {
    endpoint: String,
    hold: Hold,
    runtime: Runtime,
    serving: tokio::task::JoinHandle<Result<(), Error>>,
}

async fn start(tls: Option<&TlsOptions>, limits: Limits) -> Running {
    let (hold, runtime) = (Hold::default(), Runtime::new());
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), tls, limits).await.unwrap();
    let server = server.reflection(tonic_health::pb::FILE_DESCRIPTOR_SET).add_service(hold.clone());
    let endpoint = server.endpoint();
    let serving = tokio::spawn({
        let runtime = runtime.clone();
        async move { server.serve(&runtime).await }
    });
    Running { endpoint, hold, runtime, serving }
}

/// Calls a method of `test.Hold` and reads the answer to its end.
async fn call<C, B>(channel: C, method: &str, timeout: Option<&str>) -> Status
where
    C: Service<http::Request<Body>, Response = http::Response<B>>,
    C::Error: std::error::Error + 'static,
    B: http_body::Body<Error = Status>,
{
    let mut request = http::Request::post(format!("http://x/test.Hold/{method}"))
        .header("content-type", "application/grpc");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let response = match channel.oneshot(request.body(Body::empty()).unwrap()).await {
        Ok(response) => response,
        Err(error) => return Status::unavailable(crate::fault::chain(&error)),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    match response.into_body().collect().await {
        Ok(body) => Status::from_header_map(body.trailers().unwrap()).unwrap(),
        Err(status) => status,
    }
}

async fn health(channel: Channel, service: &str) -> Result<ServingStatus, Status> {
    let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await?;
    Ok(answer.into_inner().status())
}

#[tokio::test]
async fn serves_with_health_and_tokens() {
    let running = start(None, Limits::default()).await;
    let channel = connect(&running.endpoint, None).unwrap();
    assert_eq!(health(channel.clone(), "test.Hold").await.unwrap(), ServingStatus::Serving);
    assert_eq!(call(channel.clone(), "Who", None).await.message(), "- ");
    let authorized = with_token(channel, Some(&Secret::new("abc"))).unwrap();
    let status = call(authorized, "Who", None).await;
    assert_eq!((status.code(), status.message()), (Code::Ok, "- Bearer abc"));
    assert!(matches!(Bearer::new(Some(&Secret::new("a\nb"))), Err(Error::Token)));
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let running = start(None, Limits::default()).await;
    let mut client = ServerReflectionClient::new(connect(&running.endpoint, None).unwrap());
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list")
    };
    assert!(list.service.iter().any(|service| service.name == "grpc.health.v1.Health"));
}

#[tokio::test]
async fn a_certificate_names_the_service_and_a_foreign_one_is_refused() {
    let authority = Authority::generate().unwrap();
    let server = authority.options("catalog", &["127.0.0.1"]).unwrap();
    let running = start(Some(&server), Limits::default()).await;

    let service = authority.options("orchestrator", &[]).unwrap();
    let channel = connect(&running.endpoint, Some(&service)).unwrap();
    assert_eq!(call(channel, "Who", None).await.message(), "orchestrator ");
    let plain = authority.issue_plain("worker", &["orchestrator.example"]).unwrap();
    let plain = TlsOptions::new(Some(plain), Some(authority.certificate().to_owned()));
    let channel = connect(&running.endpoint, Some(&plain)).unwrap();
    assert_eq!(call(channel, "Who", None).await.message(), "- ");

    let foreign = Authority::generate().unwrap();
    let channel = connect(&running.endpoint, Some(&foreign.client_options())).unwrap();
    let status = health(channel, "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("cannot connect to 127.0.0.1"), "{status:?}");
    assert!(status.message().contains("certificate"), "{status:?}");
}

#[tokio::test]
async fn endpoint_and_certificates_have_to_fit() {
    let tls = Authority::generate().unwrap().client_options();
    assert!(matches!(connect("https://x:1", None), Err(Error::NeedsTls { .. })));
    assert!(matches!(connect("http://x:1", Some(&tls)), Err(Error::Downgrade { .. })));
    for bad in ["", "ftp://x:1", "http://x:1/path", "a b"] {
        assert!(matches!(connect(bad, None), Err(Error::Endpoint { .. })), "{bad}");
    }
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let status = health(connect(&unused.to_string(), None).unwrap(), "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("refused"), "{status:?}");
}

#[tokio::test]
async fn too_many_calls_are_refused_but_probes_are_not() {
    let running = start(None, Limits { calls: 1, ..Limits::default() }).await;
    let channel = connect(&running.endpoint, None).unwrap();
    let first = tokio::spawn(call(channel.clone(), "Wait", None));
    running.hold.entered.notified().await;
    let status = call(channel.clone(), "Who", None).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("1 calls are running"), "{status:?}");
    health(channel.clone(), "").await.unwrap();
    running.hold.release.notify_one();
    assert_eq!(first.await.unwrap().message(), "released");
    assert_eq!(call(channel, "Who", None).await.code(), Code::Ok);
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&running.runtime.registry.gather())
        .unwrap();
    let expected = r#"coffer_grpc_calls_total{code="RESOURCE_EXHAUSTED",method="test.Hold/Who"} 1"#;
    assert!(text.contains(expected), "{text}");
}

/// Without a channel, since tonic's keeps the deadline on its side too.
#[tokio::test]
async fn a_deadline_ends_calls_and_streams() {
    let calls = super::call::Calls::new(1, &prometheus::Registry::new());
    let service = tower::Layer::layer(&super::call::CallLayer::new(calls), Hold::default());
    for method in ["Wait", "Stream"] {
        let status = call(service.clone(), method, Some("20m")).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{method}");
        assert!(status.message().contains("longer than the 20ms"), "{status:?}");
    }
    let status = call(service, "Who", Some("20S")).await;
    assert_eq!(status.code(), Code::Ok, "the permits were given back");
}

#[tokio::test]
async fn a_drain_lets_calls_end() {
    let running = start(None, Limits::default()).await;
    let channel = connect(&running.endpoint, None).unwrap();
    let call = tokio::spawn(call(channel.clone(), "Wait", None));
    running.hold.entered.notified().await;
    running.runtime.shutdown.trigger();
    // Once the listener is closed, the drain has begun.
    let address = running.endpoint.trim_start_matches("http://").to_owned();
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!running.serving.is_finished());
    running.hold.release.notify_one();
    assert_eq!(call.await.unwrap().message(), "released");
    running.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_ends_in_time_and_an_abort_at_once() {
    let limits = Limits { drain: Duration::from_millis(20), ..Limits::default() };
    for abort in [false, true] {
        let limits = if abort { Limits::default() } else { limits };
        let running = start(None, limits).await;
        let channel = connect(&running.endpoint, None).unwrap();
        let stream = tokio::spawn(call(channel, "Stream", None));
        running.hold.entered.notified().await;
        if abort {
            running.runtime.shutdown.abort();
        } else {
            running.runtime.shutdown.trigger();
        }
        running.serving.await.unwrap().unwrap();
        assert_ne!(stream.await.unwrap().code(), Code::Ok);
    }
}

/// A handshake that never comes must not keep others from theirs.
#[tokio::test]
async fn a_silent_peer_holds_up_nobody() {
    let authority = Authority::generate().unwrap();
    let server = authority.options("catalog", &["127.0.0.1"]).unwrap();
    let running = start(Some(&server), Limits::default()).await;
    let address = running.endpoint.trim_start_matches("https://").to_owned();
    let _silent = tokio::net::TcpStream::connect(&address).await.unwrap();
    let channel = connect(&running.endpoint, Some(&authority.client_options())).unwrap();
    health(channel, "").await.unwrap();
}
