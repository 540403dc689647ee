//! Whether a server that speaks S3 compares what it receives with the hash that the request is signed with.
//!
//! The protocol asks for it, and Amazon's servers do it; others take whatever comes. So it is tried with the first pack: the
//! same request with another first byte has to be refused. Should it be accepted, the true pack replaces it at once; and if
//! that were cut off, what stays is a pack that no index names. Packs are read back then.

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use object_store::PutPayload;
use object_store::client::{HttpClient, HttpError, HttpRequest, HttpRequestBody, HttpResponse};
use std::sync::{Arc, OnceLock};
use tokio::sync::Mutex;

/// Whose documentation promises it.
const PROMISED: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".backblazeb2.com"];

/// What is known of one server. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Compares {
    known: Arc<OnceLock<bool>>,
    /// One asks at a time.
    asking: Arc<Mutex<()>>,
}

impl Compares {
    /// Sends a request, and tells whether the server has compared its content if it has accepted it.
    pub(super) async fn send(
        &self,
        client: &HttpClient,
        request: HttpRequest,
    ) -> Result<(HttpResponse, bool), HttpError> {
        if !is_pack(&request) || !is_signed(&request) {
            return send(client, request, false).await;
        }
        if let Some(compares) = self.known(&request) {
            return send(client, request, compares).await;
        }
        let _one = self.asking.lock().await;
        if let Some(compares) = self.known(&request) {
            return send(client, request, compares).await;
        }
        let refused = match forged(request.clone()).await {
            Some(forged) => refused(client.execute(forged).await?.status()),
            None => None,
        };
        let host = request.uri().host().unwrap_or_default().to_owned();
        let answer = client.execute(request).await?;
        // What refuses the true one as well says nothing of the other.
        match refused {
            Some(compares) if answer.status().is_success() => {
                if !compares {
                    tracing::warn!(
                        host,
                        "this S3 server takes what differs from its hash: packs are read back"
                    );
                }
                Ok((answer, *self.known.get_or_init(|| compares)))
            }
            _ => Ok((answer, false)),
        }
    }

    fn known(&self, request: &HttpRequest) -> Option<bool> {
        let host = request.uri().host().unwrap_or_default();
        if PROMISED.iter().any(|suffix| host.ends_with(suffix)) {
            return Some(true);
        }
        self.known.get().copied()
    }
}

async fn send(
    client: &HttpClient,
    request: HttpRequest,
    compares: bool,
) -> Result<(HttpResponse, bool), HttpError> {
    let answer = client.execute(request).await?;
    let attested = compares && answer.status().is_success();
    Ok((answer, attested))
}

/// Only packs are left unread if the server has attested them.
fn is_pack(request: &HttpRequest) -> bool {
    let mut names = request.uri().path().rsplit('/');
    let (id, _, folder) = (names.next(), names.next(), names.next());
    request.method() == Method::PUT
        && folder == Some("data")
        && id.is_some_and(|id| id.len() == 64 && id.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn is_signed(request: &HttpRequest) -> bool {
    request.headers().get("x-amz-content-sha256").is_some_and(|hash| hash.len() == 64)
}

/// The request with another first byte in its body, which is not copied. `None` if it has none.
async fn forged(request: HttpRequest) -> Option<HttpRequest> {
    let (parts, mut body) = request.into_parts();
    let mut pieces: Vec<Bytes> = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.extend(frame.map(Frame::into_data).ok()?.ok());
    }
    let at = pieces.iter().position(|piece| !piece.is_empty())?;
    let other = Bytes::from(vec![pieces[at][0] ^ 1]);
    pieces[at] = pieces[at].slice(1..);
    pieces.insert(at, other);
    let body = HttpRequestBody::from(PutPayload::from_iter(pieces));
    Some(HttpRequest::from_parts(parts, body))
}

/// Whether the content was refused; `None` if the answer says nothing of it.
fn refused(status: StatusCode) -> Option<bool> {
    let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
    match status {
        status if status.is_success() => Some(false),
        status if status.is_client_error() && !later.contains(&status) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::client::{HttpResponseBody, HttpService};
    use std::collections::VecDeque;

    /// Gives these answers, and keeps what it was sent.
    #[derive(Debug)]
    struct Script(Mutex<VecDeque<u16>>, Arc<Mutex<Vec<Vec<u8>>>>);

    #[async_trait::async_trait]
    impl HttpService for Script {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let body = request.into_body().collect().await?.to_bytes();
            self.1.lock().await.push(body.to_vec());
            let mut answer = HttpResponse::new(HttpResponseBody::from(String::new()));
            *answer.status_mut() =
                StatusCode::from_u16(self.0.lock().await.pop_front().unwrap()).unwrap();
            Ok(answer)
        }
    }

    fn request(host: &str, name: &str) -> HttpRequest {
        let mut request = HttpRequest::new(HttpRequestBody::from("true".to_owned()));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = format!("http://{host}/bucket/{name}").parse().unwrap();
        request.headers_mut().insert("x-amz-content-sha256", "0".repeat(64).parse().unwrap());
        request
    }

    async fn run(host: &str, names: &[&str], answers: &[u16]) -> (Vec<bool>, Vec<Vec<u8>>) {
        let sent = Arc::default();
        let script = Mutex::new(answers.iter().copied().collect());
        let client = HttpClient::new(Script(script, Arc::clone(&sent)));
        let compares = Compares::default();
        let mut attested = Vec::new();
        for name in names {
            attested.push(compares.send(&client, request(host, name)).await.unwrap().1);
        }
        let sent = sent.lock().await.clone();
        (attested, sent)
    }

    #[tokio::test]
    async fn a_server_is_believed_once_it_has_refused_what_differs_from_its_hash() {
        let pack = format!("data/ab/{}", "ab".repeat(32));
        let (packs, index) = ([&*pack; 2], format!("index/{}", "ab".repeat(32)));
        let (forged, genuine) = (b"urue".to_vec(), b"true".to_vec());

        // Refused, then the true one and the next.
        let (attested, sent) = run("minio", &packs, &[400, 200, 200]).await;
        assert_eq!(attested, [true, true]);
        assert_eq!(sent, [forged.clone(), genuine.clone(), genuine.clone()]);
        // Accepted: the true one comes after it.
        let (attested, sent) = run("moto", &packs, &[200, 200, 200]).await;
        assert_eq!(attested, [false, false]);
        assert_eq!(sent, [forged, genuine.clone(), genuine.clone()]);
        // Where the true one is refused too, or nobody is at home, nothing is known.
        assert_eq!(run("minio", &packs, &[403, 403, 400, 200]).await.0, [false, true]);
        assert_eq!(run("minio", &packs, &[503, 200, 400, 200]).await.0, [false, true]);
        // Amazon is not asked, and of other objects nothing is said.
        let amazon = "s3.eu-west-1.amazonaws.com";
        assert_eq!(run(amazon, &[&pack], &[200]).await, (vec![true], vec![genuine.clone()]));
        assert_eq!(run("minio", &[&index], &[200]).await, (vec![false], vec![genuine]));
    }
}
