//! Listings that fail, from a server that answers as told.

use super::*;
use object_store::client::{HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService};

/// Answers 404 to each listing, under this name, and this to the config.
#[derive(Debug)]
struct Empty(&'static str, u16);

#[async_trait]
impl HttpService for Empty {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let mut answer = HttpResponse::new(HttpResponseBody::from(String::new()));
        let config = request.uri().path().ends_with("/config");
        let status = if config { self.1 } else { 404 };
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert("server", self.0.parse().unwrap());
        Ok(answer)
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_empty_only_where_that_can_be() {
    let list = async |server, config| {
        let client = HttpClient::new(Empty(server, config));
        let patience = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let server = RestServer::new(client, patience, "http://store/x", None);
        let listed = server.list(Some(&Path::from("snapshots"))).try_collect::<Vec<_>>().await;
        listed.map_err(|error| error.to_string())
    };
    // rclone knows no folder before something is in it.
    assert_eq!(list("rclone/v1.60.1", 200).await, Ok(vec![]));
    assert_eq!(list("nginx", 404).await, Ok(vec![]));
    let refused = list("nginx", 200).await.unwrap_err();
    assert!(
        refused.contains("snapshots") && refused.contains("there is a repository"),
        "{refused}"
    );
    let unknown = list("nginx", 403).await.unwrap_err();
    assert!(unknown.contains("403"), "{unknown}");
}

/// Answers each listing so, as a success.
#[derive(Debug)]
struct Says(&'static str, &'static str);

#[async_trait]
impl HttpService for Says {
    async fn call(&self, _: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let mut answer = HttpResponse::new(HttpResponseBody::from(self.1.to_owned()));
        answer.headers_mut().insert("content-type", self.0.parse().unwrap());
        Ok(answer)
    }
}

#[tokio::test]
async fn a_listing_is_empty_only_if_it_says_so() {
    let list = async |kind, body| {
        let client = HttpClient::new(Says(kind, body));
        let server = RestServer::new(client, RetryConfig::default(), "http://store/x", None);
        let listed = server.list(Some(&Path::from("snapshots"))).try_collect::<Vec<_>>().await;
        listed.map_err(|error| error.to_string())
    };
    for kind in [VERSION_2, "application/json"] {
        for body in ["[]", "null\n"] {
            assert_eq!(list(kind, body).await, Ok(vec![]), "{kind} {body:?}");
        }
        for body in ["", "\n"] {
            let refused = list(kind, body).await.unwrap_err();
            assert!(refused.contains("the listing of snapshots"), "{kind} {body:?}: {refused}");
        }
    }
}
