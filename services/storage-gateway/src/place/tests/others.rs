//! Where repositories lie in GCS, Azure, B2, Swift and REST servers, and what logs in there.

use super::*;

fn other(backend: serde_json::Value, secret: &[(&str, &str)]) -> Result<Place, Error> {
    let secret = [&KEYS[..1], secret].concat();
    resolve_with(backend, &secret, &LocalVolumes::None)
}

#[test]
fn every_backend_is_at_the_place_that_restic_derives_from_it() {
    let azure = [("AZURE_ACCOUNT_NAME", "acc"), ("AZURE_ACCOUNT_KEY", "a2V5")];
    let b2 = [("B2_ACCOUNT_ID", "id"), ("B2_ACCOUNT_KEY", "key")];
    let v1 = [("ST_AUTH", "http://s/auth/v1.0"), ("ST_USER", "u"), ("ST_KEY", "k")];
    for (backend, secret, location) in [
        (json!({"gcs": {"bucket": "b", "prefix": "/demo//x/"}}), &[][..], "gs:b:/demo/x"),
        (
            json!({"azure": {"container": "c", "prefix": "demo/x"}}),
            &azure[..],
            "azure:c:/demo/x of acc",
        ),
        (
            json!({"swift": {"container": "c", "prefix": ""}}),
            &v1[..],
            "swift:c:/ of http://s/auth/v1.0",
        ),
        (json!({"b2": {"bucket": "b", "prefix": "a/../x"}}), &b2[..], "b2:b:/x"),
        (json!({"rest": {"url": "http://r:8000/demo/x/"}}), &[][..], "rest:http://r:8000/demo/x"),
    ] {
        let place = other(backend, secret).unwrap();
        assert_eq!(place.location(), location);
        let text = format!("{place:?}");
        assert!(!text.contains("a2V5") && !text.contains("\"k\""), "{text}");
    }
}

#[test]
fn other_backends_say_what_is_wrong_with_them() {
    let azure = json!({"azure": {"container": "c"}});
    for (result, expected) in [
        (other(json!({"gcs": {"bucket": ""}}), &[]), "spec.backend.gcs.bucket"),
        (other(json!({"gcs": {"bucket": "a/b"}}), &[]), "it contains a slash"),
        (
            other(json!({"gcs": {"bucket": "b", "maxConnections": -1}}), &[]),
            "-1 is no number of connections",
        ),
        (
            other(
                json!({"gcs": {"bucket": "b"}}),
                &[("GOOGLE_SERVICE_ACCOUNT_JSON_KEY", "/etc/key.json")],
            ),
            "GOOGLE_SERVICE_ACCOUNT_JSON_KEY in the storage Secret demo/store",
        ),
        (other(azure.clone(), &[]), "has no AZURE_ACCOUNT_NAME"),
        (
            other(azure.clone(), &[("AZURE_ACCOUNT_NAME", "evil.example/x?")]),
            "AZURE_ACCOUNT_NAME in the storage Secret",
        ),
        (other(json!({"b2": {"bucket": "b"}}), &[("B2_ACCOUNT_ID", "x")]), "has no B2_ACCOUNT_KEY"),
        (other(json!({"rest": {"url": "rest"}}), &[]), "spec.backend.rest.url"),
        (other(json!({"rest": {"url": "http://u:p@r/"}}), &[]), "credentials belong in"),
        (
            other(json!({"rest": {"url": "http://r"}}), &[("REST_SERVER_PASSWORD", "p")]),
            "has no REST_SERVER_USERNAME",
        ),
        (other(json!({"swift": {"container": "c"}}), &[]), "has no OS_AUTH_URL"),
        (
            other(azure, &[("AZURE_ACCOUNT_NAME", "a"), ("CA_CERT_DATA", "no")]),
            "CA_CERT_DATA in the storage Secret demo/store of Repository demo/repo is not valid",
        ),
    ] {
        let text = refused(result);
        assert!(text.contains(expected), "{expected:?} is not in {text:?}");
    }
}

#[test]
fn what_holds_a_secret_is_parsed_and_never_shown() {
    let rubbish = "-----BEGIN CERTIFICATE-----\nc2VjcmV0IQ==\n-----END CERTIFICATE-----\n";
    let damaged = "-----BEGIN CERTIFICATE-----\n!secret!\n-----END CERTIFICATE-----\n";
    let azure = |key, value| {
        let keys = [("AZURE_ACCOUNT_NAME", "acc"), ("AZURE_ACCOUNT_KEY", "a2V5\n"), (key, value)];
        other(json!({"azure": {"container": "c"}}), &keys)
    };
    for (key, value, problem) in [
        ("CA_CERT_DATA", "secret", "it holds no PEM certificate"),
        (
            "CA_CERT_DATA",
            rubbish,
            "number 1 of its PEM blocks holds no certificate that can be read",
        ),
        ("CA_CERT_DATA", damaged, "it is damaged PEM"),
        ("AZURE_ACCOUNT_KEY", "!secret!", "it is not base64"),
    ] {
        let expected = format!(
            "{key} in the storage Secret demo/store of Repository demo/repo is not valid: {problem}"
        );
        assert_eq!(refused(azure(key, value)), expected);
    }
    let place = azure("AZURE_ACCOUNT_SAS", "").unwrap();
    let Backend::Azure(container) = place.backend else { panic!("not azure") };
    assert_eq!(container.credentials, AzureCredentials::Key(Bytes(b"a2V5".to_vec())));
}

#[test]
fn what_is_to_be_looked_at_is_what_the_secret_has() {
    let azure = json!({"azure": {"container": "c"}});
    let account = ("AZURE_ACCOUNT_NAME", "a");
    let swift = json!({"swift": {"container": "c"}});
    let own = "the storage-gateway's own identity, which counts because Secret demo/store has no";
    for (backend, secret, expected) in [
        (json!({"s3": {"endpoint": "m", "bucket": "b"}}), &[][..], own),
        (json!({"s3": {"endpoint": "m", "bucket": "b"}}), &KEYS[1..], "AWS_ACCESS_KEY_ID and"),
        (json!({"gcs": {"bucket": "b"}}), &[], own),
        (
            json!({"gcs": {"bucket": "b"}}),
            &[("GOOGLE_SERVICE_ACCOUNT_JSON_KEY", "{}")],
            "GOOGLE_SERVICE_ACCOUNT_JSON_KEY in",
        ),
        (azure.clone(), &[account], own),
        (
            azure.clone(),
            &[account, ("AZURE_ACCOUNT_SAS", "s")],
            "AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_SAS in Secret demo/store",
        ),
        (
            azure,
            &[account, ("AZURE_ACCOUNT_KEY", "a2V5")],
            "AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_KEY in Secret demo/store",
        ),
        (
            swift.clone(),
            &[("ST_AUTH", "http://s"), ("ST_USER", "u"), ("ST_KEY", "k")],
            "ST_USER and ST_KEY in Secret demo/store",
        ),
        (
            swift,
            &[("OS_AUTH_URL", "http://k/v3"), ("OS_USERNAME", "u"), ("OS_PASSWORD", "p")],
            "OS_USERNAME and OS_PASSWORD in Secret demo/store",
        ),
        (
            json!({"rest": {"url": "http://r"}}),
            &[],
            "needs a REST_SERVER_USERNAME, which it has not",
        ),
    ] {
        let said = other(backend, secret).unwrap().opened_with().unwrap();
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
}

#[test]
fn connections_are_as_many_as_the_repository_allows() {
    for (most, expected) in [(json!(null), None), (json!(0), None), (json!(4), Some(4))] {
        let place = other(json!({"gcs": {"bucket": "b", "maxConnections": most}}), &[]).unwrap();
        let Backend::Gcs(bucket) = place.backend else { panic!("not gcs") };
        assert_eq!(bucket.connections, expected);
    }
}

#[test]
fn the_keys_of_swift_choose_its_login() {
    use crate::objects::swift::auth::{Credential, Identity, Login, Project};
    let login = |keys: &[(&str, &str)]| {
        let place = other(json!({"swift": {"container": "c"}}), keys).unwrap();
        let Backend::Swift(swift) = place.backend else { panic!("not swift") };
        swift.login
    };
    let token = [("OS_STORAGE_URL", "http://s/v1/a"), ("OS_AUTH_TOKEN", "t")];
    assert!(matches!(login(&token), Login::Token(access) if access.storage_url == "http://s/v1/a"));
    let v1 = [("ST_AUTH", "http://s/auth"), ("ST_USER", "u"), ("ST_KEY", "k")];
    assert!(matches!(login(&v1), Login::V1 { user, .. } if user == "u"));
    let with = |more: &[(&'static str, &'static str)]| {
        let user = [("OS_USERNAME", "u"), ("OS_PASSWORD", "p"), ("OS_REGION_NAME", "r")];
        [&user[..], more].concat()
    };
    let v2 = with(&[("OS_AUTH_URL", "http://k/v2.0/"), ("OS_TENANT_NAME", "t")]);
    let Login::V2 { tenant, region, .. } = login(&v2) else { panic!("not v2") };
    assert_eq!((tenant, region.as_deref()), (Some(("tenantName", "t".to_owned())), Some("r")));
    let v3 = with(&[
        ("OS_AUTH_URL", "https://k/v3"),
        ("OS_USER_DOMAIN_NAME", "d"),
        ("OS_PROJECT_NAME", "p"),
        ("OS_PROJECT_DOMAIN_NAME", "e"),
    ]);
    let Login::V3 { identity: Identity::Password { domain, project, .. }, .. } = login(&v3) else {
        panic!("not v3")
    };
    assert_eq!(domain.as_deref(), Some("d"));
    assert_eq!(project, Some(Project::Name("p".to_owned(), Some("e".to_owned()))));
    let application = [
        ("OS_AUTH_URL", "https://k"),
        ("OS_APPLICATION_CREDENTIAL_ID", "i"),
        ("OS_APPLICATION_CREDENTIAL_SECRET", "s"),
    ];
    let Login::V3 { identity: Identity::ApplicationCredential { name, .. }, .. } =
        login(&application)
    else {
        panic!("not v3")
    };
    assert_eq!(name, Credential::Id("i".to_owned()));
    let text = refused(other(
        json!({"swift": {"container": "c"}}),
        &with(&[("OS_AUTH_URL", "https://k")]),
    ));
    assert!(text.contains("it tells no version"), "{text}");
}

#[test]
fn the_machines_identity_is_what_the_platform_put_into_the_environment() {
    let machine = Machine::read(|name| match name {
        "AWS_ROLE_ARN" => Some("arn".to_owned()),
        "AZURE_CLIENT_ID" => Some(String::new()),
        _ => None,
    });
    assert_eq!(machine.of("AWS_").collect::<Vec<_>>(), [("AWS_ROLE_ARN", "arn")]);
    assert_eq!(machine.of("AZURE_").count(), 0);
    for name in VARIABLES {
        let key = name.to_ascii_lowercase();
        let known = key.parse::<object_store::aws::AmazonS3ConfigKey>().is_ok()
            || key.parse::<object_store::azure::AzureConfigKey>().is_ok()
            || name.starts_with("GOOGLE_");
        assert!(known, "{name}");
    }
}
