//! Who shares a handle with whom.

use super::*;
use crate::place::{Directory, LocalVolumes, Machine};
use k8s_openapi::ByteString;
use std::collections::BTreeMap;

fn place(name: &str, path: &str, password: &str) -> Place {
    let repository = RepositoryRef { namespace: "demo".to_owned(), name: name.to_owned() };
    let spec = serde_json::json!({
        "storageSecretName": format!("{name}-secret"),
        "local": {"mountPath": "/m", "hostPath": {"path": path}},
    });
    let spec = serde_json::from_value(spec).unwrap();
    let password = ByteString(password.as_bytes().to_vec());
    let data = BTreeMap::from([("RESTIC_PASSWORD".to_owned(), password)]);
    let volumes = LocalVolumes::Under("/v".into());
    let place = Place::resolve(&repository, &spec, &data, &volumes).unwrap();
    assert!(matches!(&place.backend, Backend::Local(Directory { .. })));
    place
}

#[tokio::test]
async fn repositories_of_one_place_share_a_handle_whatever_they_are_called() {
    let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, kube::Error>>()
    });
    let client = kube::Client::new(nobody, "default");
    let reader = Reader::new(client, LocalVolumes::None, Machine::default());
    let options = restic::OpenOptions::default();
    let all = Repositories::new(reader, options, restic::Compression::default());

    let first = all.handle(&place("one", "/srv/x", "pw"));
    assert!(Arc::ptr_eq(&first, &all.handle(&place("two", "/srv/x", "pw"))));
    assert!(!Arc::ptr_eq(&first, &all.handle(&place("one", "/srv/y", "pw"))));
    assert!(Arc::ptr_eq(&first, &all.handle(&place("one", "/srv/x", "pw"))));
    let guarded = Place { append_only: true, ..place("one", "/srv/x", "pw") };
    for other in [guarded, place("one", "/srv/x", "another")] {
        let before = all.handle(&place("one", "/srv/x", "pw"));
        assert!(!Arc::ptr_eq(&before, &all.handle(&other)));
    }
}
