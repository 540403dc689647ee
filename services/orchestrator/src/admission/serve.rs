//! HTTPS for the API server: one path, bodies and connections bounded. Who calls is not asked: an answer says nothing that
//! the object in the question does not, beside whether what it names exists.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{PATH, review};
use crate::context::Context;

/// An object and its predecessor, each as large as an API server takes.
const LARGEST_BYTES: usize = 8 << 20;
/// API servers keep a few.
const CONNECTIONS: usize = 64;
/// How long a handshake and a request's headers may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection is kept: what is being answered by then is answered.
const KEPT: Duration = Duration::from_secs(300);

/// Answers until `stop`.
pub(super) async fn run(
    ctx: Arc<Context>,
    listener: TcpListener,
    mut certificate: watch::Receiver<Option<Arc<ServerConfig>>>,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: those that end will free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without a certificate there is nothing to say yet.
        let Some(config) = certificate.borrow_and_update().clone() else { continue };
        let room = stop.run_until_cancelled(Arc::clone(&permits).acquire_owned()).await;
        let Some(Ok(permit)) = room else { break };
        let ctx = ctx.clone();
        connections.spawn(async move {
            connection(ctx, stream, config).await;
            drop(permit);
        });
    }
    connections.shutdown().await;
}

async fn connection(ctx: Arc<Context>, stream: TcpStream, config: Arc<ServerConfig>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(32);
    let answer = service_fn(move |request| {
        let ctx = ctx.clone();
        async move { Ok::<_, Infallible>(Box::pin(answer(&ctx, request)).await) }
    });
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let served = match tokio::time::timeout(KEPT, serving.as_mut()).await {
        Ok(served) => served,
        Err(_) => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(PATIENCE, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer(ctx: &Context, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return say(StatusCode::NOT_FOUND, "text/plain", format!("only {PATH} is served\n"));
    }
    if request.method() != Method::POST {
        let text = "an AdmissionReview is posted\n".to_owned();
        return say(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text);
    }
    let body = match Limited::new(request.into_body(), LARGEST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return say(StatusCode::BAD_REQUEST, "text/plain", format!("{error}\n")),
    };
    match review::answer(ctx, &body).await {
        Ok(json) => say(StatusCode::OK, "application/json", json),
        Err((code, why)) => say(code, "text/plain", format!("{why}\n")),
    }
}

fn say(code: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
