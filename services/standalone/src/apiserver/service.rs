//! The server as a `tower` service: the transport of in-process clients, and what TLS serves.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio_util::sync::CancellationToken;

use super::represent::refuse;
use super::server::Server;
use super::status::Failure;
use super::user::User;
use super::{pipe, routes};

/// The body of every answer; a watch or a followed log ends it when it ends.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The largest request body, as in Kubernetes: it bounds what one client can make the server hold.
pub const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// A body that is all there.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

/// Answers requests. Those without a token are answered as if `user` had sent them, if there is
/// one, and refused otherwise.
#[derive(Clone)]
pub struct Service {
    pub(super) server: Arc<Server>,
    pub(super) user: Option<User>,
    pub(super) stop: CancellationToken,
}

impl<B> tower::Service<Request<B>> for Service
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let piped = pipe::lacks_connection(&request);
            let (head, body) = request.into_parts();
            let body = match Limited::new(body, LARGEST_BODY).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Ok(refuse(&Failure::too_large(LARGEST_BODY)));
                }
                Err(error) => {
                    let why = format!("read the request's body: {error}");
                    return Ok(refuse(&Failure::bad_request(why)));
                }
            };
            if piped {
                let request = Request::from_parts(head, Full::new(body));
                let answer = Box::pin(pipe::send(service, request)).await;
                return Ok(answer.unwrap_or_else(|failure| refuse(&failure)));
            }
            let Self { server, user, stop } = service;
            Ok(routes::answer(&server, user, &stop, &head, body).await)
        })
    }
}
