//! Upgrades for clients in this process. A request of theirs comes without a connection that could turn into a WebSocket,
//! so one is made for it in memory, and the request is sent once more over that.

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tower::Service as _;

use super::service::{Body, Service, full};
use super::status::Failure;

/// How much may be under way in either direction, in bytes.
const CAPACITY: usize = 64 * 1024;

/// Whether the request asks for an upgrade and has no connection for it.
pub(super) fn lacks_connection<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::UPGRADE)
        && request.version() <= Version::HTTP_11
        && request.extensions().get::<OnUpgrade>().is_none()
}

/// Sends the request over a connection of its own.
///
/// # Errors
/// When the connection breaks, as it does when the server closes.
pub(super) async fn send(
    service: Service,
    request: Request<Full<Bytes>>,
) -> Result<Response<Body>, Failure> {
    let sessions = service.server.sessions.clone();
    let (near, far) = tokio::io::duplex(CAPACITY);
    let serve = hyper::service::service_fn(move |request| service.clone().call(request));
    let server = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(far), serve)
        .with_upgrades();
    sessions.spawn(server);
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(near)).await;
    let (mut sender, connection) = connected.map_err(Failure::internal)?;
    sessions.spawn(connection.with_upgrades());
    let answer = sender.send_request(request).await.map_err(Failure::internal)?;
    let (head, body) = answer.into_parts();
    let body = if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        Bytes::new()
    } else {
        body.collect().await.map_err(Failure::internal)?.to_bytes()
    };
    Ok(Response::from_parts(head, full(body)))
}
