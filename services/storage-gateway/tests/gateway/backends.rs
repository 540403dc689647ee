//! Every backend against a real server of its kind: what the engine relies on, a backup and a restore through the gateway,
//! and the restic program on what was written.

use crate::support::{Gateway, PASSWORD, assert_refused, noise, restic, s3, start, stores};
use coffer_api::backend::Backend as BackendSpec;
use coffer_restic::conformance;
use coffer_runtime::grant::RepositoryRef;
use coffer_storage_gateway::place::{B2Bucket, Backend, Connection, LocalVolumes, Place};
use futures::TryStreamExt as _;
use k8s_openapi::ByteString;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tonic::Code;

/// A few more than fit into a page of S3.
const MANY: u32 = 1050;
/// Enough where a page is larger than a test should fill.
const SOME: u32 = 30;

/// Part of a prefix with what `object_store` would encode.
const ODD: &str = "ü %~#*?[x]";
/// The same in a URL for restic.
const ODD_IN_URL: &str = "ü %25~%23*%3F[x]";

/// A backend and its Secret.
struct Subject {
    spec: Value,
    secret: Vec<(&'static str, String)>,
}

impl Subject {
    fn new(mut backend: Value, secret: &[(&'static str, &str)]) -> Self {
        backend["storageSecretName"] = json!("subject");
        let owned = secret.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let password = ("RESTIC_PASSWORD", PASSWORD.to_owned());
        Self { spec: backend, secret: owned.chain([password]).collect() }
    }

    fn place(&self) -> Place {
        let at = RepositoryRef { namespace: "demo".to_owned(), name: "subject".to_owned() };
        let spec: BackendSpec = serde_json::from_value(self.spec.clone()).unwrap();
        let pair = |(key, value): &(&str, String)| {
            ((*key).to_owned(), ByteString(value.clone().into_bytes()))
        };
        let data: BTreeMap<_, _> = self.secret.iter().map(pair).collect();
        Place::resolve(&at, &spec, &data, &LocalVolumes::Mounted).unwrap()
    }

    /// Puts the store to the suite, through the very connection that the gateway makes.
    async fn conforms(&self, many: u32) -> (Connection, conformance::Abilities) {
        coffer_runtime::process::install_crypto_provider();
        let connection = self.place().connect(true).await.unwrap();
        let abilities = conformance::check(&*connection.objects, many).await;
        (connection, abilities.unwrap())
    }

    fn register(&self, gateway: &Gateway, name: &str, append_only: bool) {
        let secret: Vec<_> = self.secret.iter().map(|(k, v)| (*k, v.as_str())).collect();
        gateway.cluster.secret("subject", &secret);
        let spec = json!({"backend": self.spec, "appendOnly": append_only});
        gateway.cluster.repository_of(name, spec);
    }

    /// Backs up and restores through a gateway, and has restic check what lies in the store afterwards.
    async fn holds_a_repository(&self, connection: &Connection) -> (Gateway, Vec<u8>) {
        let gateway = start().await;
        self.register(&gateway, "subject", false);
        let data = noise(3, 3_000_000);
        assert!(gateway.backup("subject", &data).await.unwrap().repository_created);
        let again = [&data[..2_000_000], b"changed"].concat();
        assert!(!gateway.backup("subject", &again).await.unwrap().repository_created);
        assert!(gateway.restore("subject", "latest").await.unwrap().data == again);

        until_unlocked(connection).await;
        let copy = gateway.dir.path().join("copy");
        export(connection, &copy).await;
        let path = copy.to_str().unwrap().to_owned();
        let dumped = blocking(move || {
            restic::restic(&path, &["check", "--read-data"]);
            restic::restic(&path, &["dump", "latest", "/dump.rdb"])
        });
        assert!(dumped.await == again);
        (gateway, again)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Waits until every lock is released, which a restore does after its last byte.
async fn until_unlocked(connection: &Connection) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let folder = Path::from("locks");
    loop {
        let locks: Vec<_> = connection.objects.list(Some(&folder)).try_collect().await.unwrap();
        if locks.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{locks:?} stay");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Copies every object of a repository into a directory.
async fn export(connection: &Connection, directory: &std::path::Path) {
    for folder in ["data", "index", "snapshots", "keys", "locks", "config"] {
        let listed = connection.objects.list(Some(&Path::from(folder)));
        let mut names: Vec<Path> =
            listed.map_ok(|meta| meta.location).try_collect().await.unwrap_or_default();
        if folder == "config" {
            names = vec![Path::from(folder)];
        }
        for name in names {
            let content = connection.objects.get(&name).await.unwrap().bytes().await.unwrap();
            let file = directory.join(name.as_ref());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
    }
}

/// The bucket of this Repository is not there, and whoever wants to write or to read is told so.
async fn is_missing(gateway: &Gateway, repository: &str) {
    let parts = ["the bucket does not exist", "nowhere"];
    assert_refused(gateway.backup(repository, b"x").await, Code::NotFound, &parts);
    assert_refused(gateway.restore(repository, "latest").await, Code::NotFound, &parts);
}

/// The restic program, on the backend itself.
async fn restic_reads(
    repository: &str,
    environment: &[(&'static str, &str)],
    options: &[&str],
    data: &[u8],
) {
    let repository = repository.to_owned();
    let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    let dumped = blocking(move || {
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let run = |args: &[&str]| {
            let args: Vec<&str> =
                options.iter().map(String::as_str).chain(args.iter().copied()).collect();
            restic::restic_with(&repository, &args, &environment, b"from restic")
        };
        run(&["check", "--read-data"]);
        let dumped = run(&["dump", "latest", "/dump.rdb"]);
        run(&["backup", "--stdin", "--stdin-filename", "dump.rdb"]);
        dumped
    });
    assert!(dumped.await == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_a_directory() {
    let memory = object_store::memory::InMemory::new();
    assert!(conformance::check(&memory, MANY).await.unwrap().create);
    let dir = tempfile::tempdir().unwrap();
    let subject = Subject::new(json!({"local": {"mountPath": dir.path()}}), &[]);
    let (_, abilities) = subject.conforms(MANY).await;
    assert!(abilities.create);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("backups")).unwrap();
    let endpoint = s3::serve(dir.path()).await;
    let keys = [("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)];
    let prefix = format!("demo/{ODD_IN_URL}");
    let spec = json!({"s3": {"endpoint": endpoint, "bucket": "backups", "prefix": prefix}});
    let subject = Subject::new(spec, &keys);
    let (connection, _) = subject.conforms(MANY).await;
    let (gateway, data) = subject.holds_a_repository(&connection).await;
    let place = subject.place().location();
    assert_eq!(place, format!("s3:{endpoint}/backups/{prefix}"));
    restic_reads(&place, &keys, &[], &data).await;
    assert_eq!(gateway.restore("subject", "latest").await.unwrap().data, b"from restic");
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    let server = blocking(move || stores::azurite(&data, "backups")).await;
    let endpoint = format!("http://127.0.0.1:{}/{}", server.port, stores::AZURE_ACCOUNT);
    let keys = |key| {
        [
            ("AZURE_ACCOUNT_NAME", stores::AZURE_ACCOUNT),
            ("AZURE_ACCOUNT_KEY", key),
            ("AZURE_BLOB_ENDPOINT", endpoint.as_str()),
        ]
    };
    let prefix = format!("/demo/{ODD}");
    let spec = json!({"azure": {"container": "backups", "prefix": prefix, "maxConnections": 3}});
    let subject = Subject::new(spec.clone(), &keys(stores::AZURE_KEY));
    let (connection, abilities) = subject.conforms(SOME).await;
    assert!(abilities.create);
    let (gateway, _) = subject.holds_a_repository(&connection).await;
    // restic knows no endpoint of Azurite's; the server's own names are what it would see.
    let whole = Subject::new(json!({"azure": {"container": "backups"}}), &keys(stores::AZURE_KEY));
    let whole = whole.place().connect(false).await.unwrap().objects;
    let names: Vec<_> = whole.list(None).try_collect().await.unwrap();
    let below = format!("demo/{ODD}/");
    assert!(names.iter().any(|meta| meta.location.as_ref() == format!("{below}config")));
    assert!(names.iter().all(|meta| meta.location.as_ref().starts_with(&below)), "{names:?}");

    let nowhere = json!({"azure": {"container": "nowhere"}});
    Subject::new(nowhere, &keys(stores::AZURE_KEY)).register(&gateway, "nowhere", false);
    is_missing(&gateway, "nowhere").await;
    Subject::new(spec, &keys("d3Jvbmc=")).register(&gateway, "wrong", false);
    let wrong = gateway.backup("wrong", b"x").await;
    assert_refused(
        wrong,
        Code::PermissionDenied,
        &["check AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_KEY"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn swift() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    let server = blocking(move || stores::swift(&data, "backups", 86_400)).await;
    let url = format!("http://127.0.0.1:{}/auth/v1.0", server.port);
    let keys = |key| [("ST_AUTH", url.as_str()), ("ST_USER", "test:tester"), ("ST_KEY", key)];
    let spec = json!({"swift": {"container": "backups", "prefix": format!("demo/{ODD}")}});
    let subject = Subject::new(spec.clone(), &keys("testing"));
    let (connection, _) = subject.conforms(SOME).await;
    let (gateway, data) = subject.holds_a_repository(&connection).await;
    let place = format!("swift:backups:/demo/{ODD}");
    restic_reads(&place, &keys("testing"), &[], &data).await;
    assert_eq!(gateway.restore("subject", "latest").await.unwrap().data, b"from restic");

    Subject::new(spec, &keys("wrong")).register(&gateway, "wrong", false);
    let wrong = gateway.backup("wrong", b"x").await;
    assert_refused(wrong, Code::PermissionDenied, &["log in to Swift at http://127.0.0.1"]);
    let nowhere = json!({"swift": {"container": "nowhere", "prefix": "x"}});
    Subject::new(nowhere, &keys("testing")).register(&gateway, "nowhere", false);
    is_missing(&gateway, "nowhere").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swift_with_tokens_that_expire_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    let server = blocking(move || stores::swift(&data, "backups", 1)).await;
    let url = format!("http://127.0.0.1:{}/auth/v1.0", server.port);
    let keys = [("ST_AUTH", url.as_str()), ("ST_USER", "test:tester"), ("ST_KEY", "testing")];
    let spec = json!({"swift": {"container": "backups", "prefix": "demo/x"}});
    // Takes longer than a token lives.
    Subject::new(spec, &keys).conforms(SOME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_with_a_certificate_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let authority = coffer_runtime::authority::Authority::generate().unwrap();
    let identity = authority.issue_plain("rest", &["127.0.0.1"]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let ca = dir.path().join("ca.pem");
    std::fs::write(&cert, &identity.certificates).unwrap();
    std::fs::write(&key, identity.key.reveal()).unwrap();
    std::fs::write(&ca, authority.certificate()).unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let [cert, key, ca] = [cert, key, ca].map(|path| path.to_str().unwrap().to_owned());
    let server = blocking(move || {
        let args = ["--user", "backup", "--pass", "p:w", "--cert", &cert, "--key", &key];
        stores::rclone(&data, &args)
    });
    let server = server.await;
    let url = format!("https://127.0.0.1:{}/demo/x/", server.port);
    let keys = |password| {
        [
            ("REST_SERVER_USERNAME", "backup"),
            ("REST_SERVER_PASSWORD", password),
            ("CA_CERT_DATA", authority.certificate()),
        ]
    };
    let spec = json!({"rest": {"url": url}});
    let subject = Subject::new(spec.clone(), &keys("p:w"));
    let (connection, abilities) = subject.conforms(SOME).await;
    assert!(!abilities.create);
    let (gateway, data) = subject.holds_a_repository(&connection).await;
    let with_user = url.replace("https://", "rest:https://backup:p%3Aw@");
    restic_reads(&with_user, &[], &["--cacert", &ca], &data).await;
    assert_eq!(gateway.restore("subject", "latest").await.unwrap().data, b"from restic");

    Subject::new(spec.clone(), &keys("wrong")).register(&gateway, "wrong", false);
    let wrong = gateway.backup("wrong", b"x").await;
    assert_refused(wrong, Code::PermissionDenied, &["check REST_SERVER_USERNAME"]);
    let trusting_nobody = [("REST_SERVER_USERNAME", "backup"), ("REST_SERVER_PASSWORD", "p:w")];
    Subject::new(spec, &trusting_nobody).register(&gateway, "untrusted", false);
    let untrusted = gateway.backup("untrusted", b"x").await;
    let parts = ["check the endpoint https://127.0.0.1", "in CA_CERT_DATA of Secret demo/subject"];
    assert_refused(untrusted, Code::Unavailable, &parts);
}

/// As `openssl req -x509` makes it: an authority's, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn rest_with_a_certificate_that_only_itself_vouches_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key_pair = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key_pair).unwrap().pem();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &certificate).unwrap();
    std::fs::write(&key, key_pair.serialize_pem()).unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let [cert, key] = [cert, key].map(|path| path.to_str().unwrap().to_owned());
    let ca = cert.clone();
    let server = blocking(move || stores::rclone(&data, &["--cert", &cert, "--key", &key])).await;
    let url = format!("https://127.0.0.1:{}/", server.port);
    let subject =
        Subject::new(json!({"rest": {"url": url}}), &[("CA_CERT_DATA", certificate.as_str())]);
    let gateway = start().await;
    subject.register(&gateway, "subject", false);
    gateway.backup("subject", b"x").await.unwrap();
    restic_reads(&format!("rest:{url}"), &[], &["--cacert", &ca], b"x").await;
    assert_eq!(gateway.restore("subject", "latest").await.unwrap().data, b"from restic");
}

#[tokio::test(flavor = "multi_thread")]
async fn append_only_on_a_server_that_lets_nobody_take_away() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    let server = blocking(move || stores::rclone(&data, &["--append-only"])).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let subject = Subject::new(json!({"rest": {"url": url}}), &[]);
    let gateway = start().await;
    subject.register(&gateway, "subject", true);
    let first = gateway.backup("subject", b"first").await.unwrap();
    gateway.backup("subject", b"second").await.unwrap();
    assert_eq!(gateway.restore("subject", &first.snapshot_id).await.unwrap().data, b"first");
    let path = dir.path().to_str().unwrap().to_owned();
    blocking(move || restic::restic(&path, &["check", "--read-data"])).await;
    assert_eq!(crate::support::files_below(&dir.path().join("locks")), 0, "locks may go");
}

/// Backblaze's answer as documented, and an S3 server in its place. Not Backblaze's.
#[tokio::test(flavor = "multi_thread")]
async fn b2_through_the_endpoint_that_its_account_names() {
    coffer_runtime::process::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("backups")).unwrap();
    let endpoint = s3::serve(dir.path()).await;
    let account =
        json!({"accountId": "account", "apiInfo": {"storageApi": {"s3ApiUrl": endpoint}}});
    let answer = dir.path().join("b2api/v3");
    std::fs::create_dir_all(&answer).unwrap();
    std::fs::write(answer.join("b2_authorize_account"), account.to_string()).unwrap();
    let files = dir.path().to_owned();
    let api = blocking(move || stores::files(&files)).await;
    let keys = |id| [("B2_ACCOUNT_ID", id), ("B2_ACCOUNT_KEY", s3::SECRET_KEY)];
    let spec = json!({"b2": {"bucket": "backups", "prefix": "demo/x", "maxConnections": 4}});
    let place = |id| {
        let place = Subject::new(spec.clone(), &keys(id)).place();
        let Backend::B2(bucket) = place.backend.clone() else { panic!("not b2") };
        let api = format!("http://127.0.0.1:{}", api.port);
        Place { backend: Backend::B2(B2Bucket { api, ..bucket }), ..place }
    };
    let connection = place(s3::ACCESS_KEY).connect(true).await.unwrap();
    assert!(!conformance::check(&*connection.objects, SOME).await.unwrap().create);
    let master = place("account").connect(true).await.unwrap_err().to_string();
    assert!(master.contains("make an application key"), "{master}");
}
