//! Who may do what: tokens, roles, reviews.

use crate::support::{World, code, object};
use coffer_standalone::apiserver::{Service, User};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, client::Body};
use serde_json::{Value, json};
use tower::ServiceExt;

async fn get(service: Service, path: &str, token: Option<&str>) -> (StatusCode, Value) {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_request_needs_a_token_that_is_known() {
    let world = World::start().await;
    let outside = world.server.service_as(None);
    let path = "/api/v1/namespaces/default/secrets";
    let (status, body) = get(outside.clone(), path, None).await;
    assert_eq!((status.as_u16(), &body["reason"]), (401, &json!("Unauthorized")));
    assert_eq!(get(outside.clone(), path, Some("guess")).await.0, 401);
    assert_eq!(get(outside.clone(), path, Some(world.server.admin_token())).await.0, 200);
    assert_eq!(get(outside.clone(), "/healthz", None).await.0, 200);
    let token = world.server.token_for_service_account("default", "default");
    let (status, body) = get(outside.clone(), path, Some(&token)).await;
    assert_eq!(status, 403);
    assert_eq!(
        body["message"],
        "secrets is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \
         \"secrets\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(get(outside, "/apis", Some(&token)).await.0, 200);
}

#[tokio::test]
async fn roles_give_rights_and_reviews_tell_of_them() {
    let world = World::start().await;
    let post = PostParams::default();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(world.client.clone());
    let account = object(json!({"metadata": {"name": "robot"}}));
    accounts.create(&post, &account).await.unwrap();
    let secrets: Api<Secret> = Api::default_namespaced(world.client.clone());
    secrets.create(&post, &object(json!({"metadata": {"name": "s"}}))).await.unwrap();

    let request: TokenRequest = object(json!({"spec": {"audiences": []}}));
    let issued = accounts.create_token_request("robot", &post, &request).await.unwrap();
    let token = issued.status.unwrap().token.unwrap();
    let reviews: Api<TokenReview> = Api::all(world.client.clone());
    let review = |token: &str| object::<TokenReview>(json!({"spec": {"token": token}}));
    let known = reviews.create(&post, &review(&token)).await.unwrap().status.unwrap();
    assert_eq!(known.authenticated, Some(true));
    let name = "system:serviceaccount:default:robot";
    assert_eq!(known.user.unwrap().username.as_deref(), Some(name));
    let unknown = reviews.create(&post, &review("guess")).await.unwrap().status.unwrap();
    assert_eq!(unknown.authenticated, Some(false));

    let robot = world.server.client_as("default", "robot");
    let seen: Api<Secret> = Api::default_namespaced(robot);
    assert_eq!(code(seen.get("s").await).0, 403);
    let roles: Api<Role> = Api::default_namespaced(world.client.clone());
    let role = object(json!({"metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}));
    roles.create(&post, &role).await.unwrap();
    let bindings: Api<RoleBinding> = Api::default_namespaced(world.client.clone());
    let binding = object(json!({"metadata": {"name": "robot-reads"},
        "roleRef": {"kind": "Role", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]}));
    bindings.create(&post, &binding).await.unwrap();
    seen.get("s").await.unwrap();
    assert_eq!(code(seen.list(&ListParams::default()).await).0, 403);

    let questions: Api<SubjectAccessReview> = Api::all(world.client.clone());
    for (verb, namespace, expected) in
        [("get", "default", true), ("list", "default", false), ("get", "kube-system", false)]
    {
        let question = object(json!({"spec": {"user": name, "resourceAttributes":
            {"verb": verb, "resource": "secrets", "namespace": namespace}}}));
        let answer = questions.create(&post, &question).await.unwrap().status.unwrap();
        assert_eq!(answer.allowed, expected, "{verb} in {namespace}");
    }

    // The token dies with the account, and does not come back with its name.
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    accounts.create(&post, &object(json!({"metadata": {"name": "robot"}}))).await.unwrap();
    let stale = reviews.create(&post, &review(&token)).await.unwrap().status.unwrap();
    assert_eq!(stale.authenticated, Some(false));
    let user = User::service_account("default", "robot", "");
    let (status, _) = get(world.server.service_as(Some(user)), "/api/v1/secrets", None).await;
    assert_eq!(status, 403);
}
