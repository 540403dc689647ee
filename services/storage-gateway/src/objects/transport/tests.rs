//! Connections, silence and checksums, against a server that answers as told.

use super::*;
use object_store::client::HttpRequestBody;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn silence_is_what_a_throttled_store_asks_for() {
    let now = DateTime::parse_from_rfc2822("Wed, 21 Oct 2026 07:28:00 GMT").unwrap().to_utc();
    for (status, value, expected) in [
        (503, Some("7"), Some(7)),
        (429, Some("0"), Some(0)),
        (429, Some("86400"), Some(60)),
        (503, Some("Wed, 21 Oct 2026 07:28:20 GMT"), Some(20)),
        (503, Some("Wed, 21 Oct 2026 07:27:00 GMT"), None),
        (503, Some("soon"), None),
        (503, None, None),
        (500, Some("7"), None),
        (200, Some("7"), None),
    ] {
        let mut headers = HeaderMap::new();
        headers.extend(value.map(|value| (RETRY_AFTER, value.parse().unwrap())));
        let found = silence(StatusCode::from_u16(status).unwrap(), &headers, now);
        assert_eq!(found, expected.map(Duration::from_secs), "{status} {value:?}");
    }
}

#[tokio::test]
async fn checksums_count_only_if_they_are_those_of_the_content() {
    // The published check values of both algorithms, over "123456789".
    let azure = BASE64.encode(0xae8b_1486_0a79_9888_u64.to_le_bytes());
    let google = format!("md5=x, crc32c={}", BASE64.encode(0xe306_9283_u32.to_be_bytes()));
    for (checksum, header, value, content, expected) in [
        (Checksum::Azure, "x-ms-content-crc64", azure.as_str(), "123456789", true),
        (Checksum::Azure, "x-ms-content-crc64", azure.as_str(), "123456788", false),
        (Checksum::Azure, "x-goog-hash", google.as_str(), "123456789", false),
        (Checksum::Google, "x-goog-hash", google.as_str(), "123456789", true),
        (Checksum::Google, "x-goog-hash", google.as_str(), "12345678", false),
        (Checksum::None, "x-goog-hash", google.as_str(), "123456789", false),
        (Checksum::Signed, "etag", "x", "123456789", false),
    ] {
        let sent = HttpRequest::new(HttpRequestBody::from(content.to_owned()));
        let mut answer = HeaderMap::new();
        answer.insert(header, value.parse().unwrap());
        assert_eq!(attested(checksum, sent, &answer).await, expected, "{checksum:?} {content}");
    }
}

/// Answers at once, but sends the body only when told, and counts how many answers are open.
#[derive(Debug, Default)]
struct Slow {
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl HttpService for Slow {
    async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(HttpResponse::new(HttpResponseBody::from("x".to_owned())))
    }
}

#[tokio::test]
async fn no_more_connections_than_allowed_and_each_until_its_answer_is_read() {
    let slow = Slow::default();
    let (open, most) = (slow.open.clone(), slow.most.clone());
    let shared = Transport::new(Some(3), Checksum::None);
    let wire = Arc::new(Wire { client: HttpClient::new(slow), shared });
    let calls = (0..20).map(|_| {
        let (wire, open) = (wire.clone(), open.clone());
        async move {
            let request = HttpRequest::new(HttpRequestBody::empty());
            let answer = wire.call(request).await.unwrap();
            tokio::task::yield_now().await;
            // Counted down before the permit goes.
            open.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(answer.into_body().bytes().await.unwrap(), "x");
        }
    });
    futures::future::join_all(calls).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

/// Throttles the first request.
#[derive(Debug, Default)]
struct Throttling(AtomicUsize);

#[async_trait::async_trait]
impl HttpService for Throttling {
    async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer = HttpResponse::new(HttpResponseBody::from(String::new()));
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            answer.headers_mut().insert(RETRY_AFTER, "1".parse().unwrap());
        }
        Ok(answer)
    }
}

#[tokio::test]
async fn after_a_throttled_request_the_next_one_waits_as_long_as_the_store_said() {
    let shared = Transport::new(None, Checksum::None);
    let wire = Wire { client: HttpClient::new(Throttling::default()), shared };
    let began = Instant::now();
    let status = async || {
        let request = HttpRequest::new(HttpRequestBody::empty());
        wire.call(request).await.unwrap().status()
    };
    assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(began.elapsed().as_secs() < 1);
    assert_eq!(status().await, StatusCode::OK);
    assert!(began.elapsed().as_secs() >= 1);
}
