//! What backends and Secrets resolve to, and what is said of those that do not.

use super::*;
use coffer_runtime::fault::{Class, Fault as _};
use serde_json::json;

mod others;

fn at() -> RepositoryRef {
    RepositoryRef { namespace: "demo".to_owned(), name: "repo".to_owned() }
}

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
    let pair =
        |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().into()));
    pairs.iter().map(pair).collect()
}

fn resolve_with(
    backend: serde_json::Value,
    secret: &[(&str, &str)],
    volumes: &LocalVolumes,
) -> Result<Place, Error> {
    let mut backend: BackendSpec = serde_json::from_value(backend).unwrap();
    if backend.storage_secret_name.is_empty() {
        backend.storage_secret_name = "store".to_owned();
    }
    Place::resolve(&at(), &backend, &data(secret), volumes)
}

const KEYS: [(&str, &str); 3] =
    [("RESTIC_PASSWORD", "pw\n"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")];

fn s3(fields: serde_json::Value) -> Result<Place, Error> {
    resolve_with(json!({ "s3": fields }), &KEYS, &LocalVolumes::None)
}

fn local(fields: serde_json::Value, volumes: &LocalVolumes) -> Result<Place, Error> {
    resolve_with(json!({ "local": fields }), &KEYS[..1], volumes)
}

fn refused(result: Result<Place, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn s3_places_are_those_that_restic_makes_of_the_url() {
    for (endpoint, bucket, prefix, location) in [
        ("http://m:9000", "b", "/demo//orders/", "s3:http://m:9000/b/demo/orders"),
        ("https://m", "b", "", "s3:https://m/b"),
        ("m.example", "b", "p", "s3:https://m.example/b/p"),
        ("s3.amazonaws.com", "b", "a/../c", "s3:https://s3.amazonaws.com/b/c"),
        ("http://m:9000/", "/b/", "p", "s3:http://m:9000/b/p"),
        ("http://m:9000/b", "sub", "p", "s3:http://m:9000/b/sub/p"),
        ("http://m:9000", "b", "ü%25%C3%BC/~*", "s3:http://m:9000/b/ü%25ü/~*"),
        ("m.example", "b", "ü%25#?", "s3:https://m.example/b/ü%2525%23%3F"),
    ] {
        let fields = json!({"endpoint": endpoint, "bucket": bucket, "prefix": prefix});
        assert_eq!(s3(fields).unwrap().location(), location, "{endpoint} {bucket} {prefix}");
    }
}

#[test]
fn a_prefix_is_taken_as_restic_takes_it_and_where_it_was_encoded_before_is_known() {
    let words = "ü~p";
    let former = "%C3%BC%7Ep".to_owned();
    let place = s3(json!({"endpoint": "m", "bucket": "b", "prefix": words})).unwrap();
    assert_eq!(place.location(), "s3:https://m/b/ü~p");
    let named = ("s3:https://m/b/%25C3%25BC%257Ep".to_owned(), former.clone());
    assert_eq!(place.former(), [named]);
    let place = s3(json!({"endpoint": "http://m", "bucket": "b", "prefix": words})).unwrap();
    assert_eq!(place.former()[0].1, "%25C3%25BC%257Ep");
    // What is written so since a bare # is refused lies where the bare one was.
    let place = s3(json!({"endpoint": "http://m", "bucket": "b", "prefix": "a%23b"})).unwrap();
    let escaped: Vec<_> = place.former().into_iter().map(|(_, written)| written).collect();
    assert_eq!(escaped, ["a%252523b", "a%2523b"]);
    let plain = s3(json!({"endpoint": "m", "bucket": "b", "prefix": "p @=+&/q"})).unwrap();
    assert!(plain.former().is_empty());
    let gcs = json!({"gcs": {"bucket": "b", "prefix": words}});
    let place = resolve_with(gcs, &KEYS, &LocalVolumes::None).unwrap();
    assert_eq!(place.former(), [("gs:b:/%C3%BC%7Ep".to_owned(), former)]);

    for (prefix, expected) in [
        ("a#b", "ends the path at # and ?; write %23 and %3F"),
        ("a?b", "ends the path at # and ?; write %23 and %3F"),
        ("p%q", "write %25"),
        ("p%ff", "write %25"),
        ("a%0Ab", "it contains a control character"),
    ] {
        let said = refused(s3(json!({"endpoint": "http://m", "bucket": "b", "prefix": prefix})));
        assert!(said.contains("spec.backend.s3.prefix") && said.contains(expected), "{said}");
    }
}

#[test]
fn a_secret_that_is_no_name_is_refused() {
    let backend =
        json!({"storageSecretName": "../configmaps/x", "s3": {"endpoint": "m", "bucket": "b"}});
    let said = refused(resolve_with(backend, &KEYS, &LocalVolumes::None));
    let expected = "spec.backend.storageSecretName of Repository demo/repo is not valid: \
                    \"../configmaps/x\" is no DNS-1123 subdomain";
    assert_eq!(said, expected);
}

#[test]
fn regions_come_from_the_field_or_from_amazons_host() {
    for (endpoint, region, expected) in [
        ("s3.amazonaws.com", "", None),
        ("s3.amazonaws.com", "eu-central-1", Some("eu-central-1")),
        ("https://s3.eu-west-1.amazonaws.com", "", Some("eu-west-1")),
        ("s3-eu-west-1.amazonaws.com", "", Some("eu-west-1")),
        ("s3.dualstack.us-west-2.amazonaws.com", "", Some("us-west-2")),
        ("s3.cn-north-1.amazonaws.com.cn", "", Some("cn-north-1")),
        ("http://eu-west-1.example", "", None),
    ] {
        let place = s3(json!({"endpoint": endpoint, "bucket": "b", "region": region})).unwrap();
        let Backend::S3(bucket) = place.backend else { panic!("not s3") };
        assert_eq!(bucket.region.as_deref(), expected, "{endpoint}");
    }
}

#[test]
fn secrets_are_taken_as_they_are_and_never_printed() {
    let place = s3(json!({"endpoint": "m", "bucket": "b"})).unwrap();
    assert_eq!(place.password.reveal(), b"pw\n");
    assert!(place.password_ends_in_line_break());
    let text = format!("{place:?}");
    assert!(!text.contains("pw\\n") && !text.contains("\"key\""), "{text}");
}

#[test]
fn without_keys_the_machines_own_identity_is_used_but_half_a_pair_is_refused() {
    let spec = json!({"s3": {"endpoint": "m", "bucket": "b"}});
    let place = resolve_with(spec.clone(), &KEYS[..1], &LocalVolumes::None).unwrap();
    let Backend::S3(bucket) = place.backend else { panic!("not s3") };
    assert_eq!(bucket.credentials, None);
    assert!(!bucket.insecure);
    let text = refused(resolve_with(spec, &KEYS[..2], &LocalVolumes::None));
    assert!(text.contains("demo/store") && text.contains("AWS_SECRET_ACCESS_KEY"), "{text}");
}

#[test]
fn says_what_is_missing_or_wrong_and_what_to_do() {
    let s3_spec = json!({"s3": {"endpoint": "m", "bucket": "b"}});
    for (text, expected) in [
        (
            refused(resolve_with(s3_spec.clone(), &KEYS[1..], &LocalVolumes::None)),
            "the storage Secret demo/store of Repository demo/repo has no RESTIC_PASSWORD, or an empty one; set it",
        ),
        (
            refused(resolve_with(s3_spec, &[("RESTIC_PASSWORD", "")], &LocalVolumes::None)),
            "the storage Secret demo/store of Repository demo/repo has no RESTIC_PASSWORD, or an empty one; set it",
        ),
        (
            refused(resolve_with(json!({}), &KEYS, &LocalVolumes::None)),
            "Repository demo/repo sets nothing as its backend; set exactly one of local, s3, gcs, azure, swift, b2 and rest",
        ),
        (
            refused(resolve_with(
                json!({"gcs": {"bucket": "b"}, "s3": {"endpoint": "m", "bucket": "b"}}),
                &KEYS,
                &LocalVolumes::None,
            )),
            "Repository demo/repo sets s3 and gcs as its backend; set exactly one of local, s3, gcs, azure, swift, b2 and rest",
        ),
        (
            refused(s3(json!({"endpoint": "ftp://m", "bucket": "b"}))),
            "spec.backend.s3.endpoint of Repository demo/repo is not valid: its scheme is neither http nor https",
        ),
        (
            refused(s3(json!({"endpoint": "http://u:p@m", "bucket": "b"}))),
            "spec.backend.s3.endpoint of Repository demo/repo is not valid: credentials belong in the storage Secret",
        ),
        (
            refused(s3(json!({"endpoint": "m", "bucket": ""}))),
            "spec.backend.s3.bucket of Repository demo/repo is not valid: it is empty",
        ),
    ] {
        assert_eq!(text, expected);
    }
    let no_name = Place::resolve(&at(), &BackendSpec::default(), &data(&KEYS), &LocalVolumes::None);
    assert!(refused(no_name).contains("set spec.backend.storageSecretName"));
}

#[test]
fn local_is_the_mount_in_a_cluster_and_the_volume_without_one() {
    let claim = json!({
        "mountPath": "/backup/store", "subPath": "redis/orders",
        "persistentVolumeClaim": {"claimName": "disk"},
    });
    let host = json!({"mountPath": "/m", "hostPath": {"path": "/srv/b"}});
    let strict = json!({"mountPath": "/m", "hostPath": {"path": "/srv/b", "type": "Directory"}});
    let under = LocalVolumes::Under("/data/volumes".into());
    let disk = Some("disk".to_owned());
    for (spec, volumes, path, create, claim) in [
        (&claim, &LocalVolumes::Mounted, "/backup/store", false, None),
        (&claim, &under, "/data/volumes/demo/disk/redis/orders", true, disk),
        (&host, &under, "/srv/b", true, None),
        (&strict, &under, "/srv/b", false, None),
    ] {
        let place = local(spec.clone(), volumes).unwrap();
        assert_eq!(place.backend, Backend::Local(Directory { path: path.into(), create, claim }));
        assert_eq!(place.location(), path);
    }
    let text = refused(local(claim, &LocalVolumes::None));
    assert!(text.contains("no volumes mounted"), "{text}");
}

#[test]
fn local_volumes_stay_where_they_belong() {
    let under = LocalVolumes::Under("/data/volumes".into());
    for (spec, expected) in [
        (json!({"mountPath": "/m", "emptyDir": {}}), "emptyDir is not available without a cluster"),
        (json!({"mountPath": "/m", "nfs": {"server": "s", "path": "/"}}), "nfs is not available"),
        (json!({"mountPath": "/m"}), "no volume is not available"),
        (
            json!({"mountPath": "/m", "subPath": "../x", "hostPath": {"path": "/srv"}}),
            "subPath of Repository demo/repo is not valid",
        ),
        (
            json!({"mountPath": "/m", "persistentVolumeClaim": {"claimName": "../x"}}),
            "claimName of Repository demo/repo is not valid",
        ),
        (json!({"mountPath": "/m", "hostPath": {"path": "srv"}}), "hostPath.path of Repository"),
    ] {
        let text = refused(local(spec, &under));
        assert!(text.contains(expected), "{text}");
    }
    let relative = refused(local(json!({"mountPath": "m"}), &LocalVolumes::Mounted));
    assert!(relative.contains("mountPath of Repository demo/repo is not valid"), "{relative}");
}

#[tokio::test]
async fn a_directory_is_made_only_where_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let volume = |kind: &str| {
        let spec = json!({"mountPath": "/m", "hostPath": {"path": path, "type": kind}});
        local(spec, &LocalVolumes::Under("/v".into())).unwrap()
    };
    let text = |result: Result<Connection, Error>| result.unwrap_err().to_string();
    let strict = volume("Directory");
    assert!(text(strict.connect(true).await).contains("mount the volume, or make the directory"));
    let place = volume("");
    assert!(text(place.connect(false).await).contains("there was no backup yet"));
    assert!(!path.exists());
    place.connect(true).await.unwrap();
    assert!(path.is_dir());
    strict.connect(false).await.unwrap();

    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let error = place.connect(true).await.unwrap_err();
    assert!(error.to_string().contains("is no directory"), "{error}");
    assert_eq!(error.class(), Class::Invalid);
}
