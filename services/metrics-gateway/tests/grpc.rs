//! `coffer.metrics.v1.Metrics` as workers and services call it: over TLS, with a grant or a client certificate.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::HashMap;

use chrono::{TimeDelta, Utc};
use coffer_metrics_gateway::{Config, groups::Limits};
use coffer_proto::metrics::v1::{
    Family, Mode, PushRequest, Sample, Type, metrics_client::MetricsClient,
};
use coffer_runtime::{
    Secret,
    authority::Authority,
    grant::{Grant, Operation, RepositoryRef, SessionRef, Signer},
    grpc::{connect, with_token},
    tls::TlsOptions,
};
use support::{Ours, send};
use tonic::{Code, Status};

struct Setting {
    ours: Ours,
    authority: Authority,
    signer: Signer,
    executor: tokio::runtime::Runtime,
}

impl Setting {
    fn start() -> Self {
        let authority = Authority::generate().unwrap();
        let signer = Signer::generate().unwrap();
        let config = Config {
            tls: Some(authority.options("metrics-gateway", &["127.0.0.1"]).unwrap()),
            grants: Some(coffer_runtime::grant::Verifier::from_pem(signer.public_key()).unwrap()),
            limits: Limits { groups: 10, series: 3 },
            ..Config::local()
        };
        let ours = Ours::start(config).unwrap();
        Self { ours, authority, signer, executor: tokio::runtime::Runtime::new().unwrap() }
    }

    fn grant(&self, expires_in: TimeDelta) -> Secret {
        let session = SessionRef {
            kind: "BackupSession".to_owned(),
            namespace: "demo".to_owned(),
            name: "redis-1".to_owned(),
        };
        let repository = RepositoryRef { namespace: "demo".to_owned(), name: "repo".to_owned() };
        let issued = Utc::now();
        let expires = issued + expires_in;
        let operation = Operation::Backup;
        let grant = Grant { session, repository, operation, snapshot: None, issued, expires };
        self.signer.sign(&grant).unwrap()
    }

    fn push(
        &self,
        tls: &TlsOptions,
        token: Option<&Secret>,
        request: PushRequest,
    ) -> Result<(), Status> {
        self.executor.block_on(async {
            let channel = connect(&format!("https://{}", self.ours.grpc), Some(tls)).unwrap();
            let mut client = MetricsClient::new(with_token(channel, token).unwrap());
            client.push(request).await.map(|_| ())
        })
    }

    fn scrape(&self) -> String {
        send(self.ours.http, "GET", "/metrics", &[], b"").body
    }
}

fn request(job: &str, mode: Mode, values: &[(&str, f64)]) -> PushRequest {
    let sample =
        |value| Sample { labels: HashMap::from([("l".to_owned(), "v".to_owned())]), value };
    PushRequest {
        grouping: HashMap::from([("job".to_owned(), job.to_owned())]),
        families: values
            .iter()
            .map(|(name, value)| Family {
                name: (*name).to_owned(),
                help: "Help.".to_owned(),
                r#type: Type::Gauge.into(),
                samples: vec![sample(*value)],
            })
            .collect(),
        mode: mode.into(),
    }
}

const JOB: &str = "backupconfiguration-demo-redis";

#[test]
fn a_worker_pushes_with_its_grant() {
    let setting = Setting::start();
    let tls = setting.authority.client_options();
    let grant = setting.grant(TimeDelta::hours(1));
    let both = request(JOB, Mode::Unspecified, &[("a", 1.0), ("b", 2.0)]);
    setting.push(&tls, Some(&grant), both).unwrap();
    setting.push(&tls, Some(&grant), request(JOB, Mode::Unspecified, &[("a", 3.0)])).unwrap();
    let labels = format!("{{instance=\"\",job=\"{JOB}\",l=\"v\"}}");
    let scrape = setting.scrape();
    assert!(scrape.contains(&format!("# TYPE a gauge\na{labels} 3\n")), "{scrape}");
    assert!(scrape.contains(&format!("b{labels} 2\n")), "{scrape}");
    // The HTTP API sees the very same group.
    let path = format!("/metrics/job/{JOB}");
    assert_eq!(send(setting.ours.http, "POST", &path, &[], b"# TYPE a gauge\na 4\n").code, 200);
    setting.push(&tls, Some(&grant), request(JOB, Mode::ReplaceGroup, &[("c", 5.0)])).unwrap();
    let scrape = setting.scrape();
    assert!(
        !scrape.contains("# TYPE a ") && scrape.contains(&format!("c{labels} 5\n")),
        "{scrape}"
    );
}

#[test]
fn a_service_pushes_to_any_group() {
    let setting = Setting::start();
    let tls = setting.authority.options("orchestrator", &[]).unwrap();
    setting.push(&tls, None, request("anything", Mode::Unspecified, &[("a", 1.0)])).unwrap();
    assert!(setting.scrape().contains("job=\"anything\""));
}

#[test]
fn others_are_refused() {
    let setting = Setting::start();
    let tls = setting.authority.client_options();
    let one = || request(JOB, Mode::Unspecified, &[("a", 1.0)]);
    let code = |result: Result<(), Status>| result.unwrap_err().code();
    assert_eq!(code(setting.push(&tls, None, one())), Code::Unauthenticated);
    assert_eq!(
        code(setting.push(&tls, Some(&Secret::new("user-token")), one())),
        Code::Unauthenticated
    );
    let expired = setting.grant(TimeDelta::seconds(-1));
    assert_eq!(code(setting.push(&tls, Some(&expired), one())), Code::Unauthenticated);
    let grant = setting.grant(TimeDelta::hours(1));
    let other = request("backupconfiguration-prod-redis", Mode::Unspecified, &[("a", 1.0)]);
    let status = setting.push(&tls, Some(&grant), other).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("allows pushes to job \"backupconfiguration-demo-…\""),
        "{status}"
    );
    assert!(!setting.scrape().contains("# TYPE a "));
}

#[test]
fn what_does_not_fit_is_named() {
    let setting = Setting::start();
    let tls = setting.authority.client_options();
    let grant = setting.grant(TimeDelta::hours(1));
    let push = |request| setting.push(&tls, Some(&grant), request).unwrap_err();
    let mut no_job = request(JOB, Mode::Unspecified, &[("a", 1.0)]);
    no_job.grouping.clear();
    let status = push(no_job);
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "grouping has no job"));
    assert_eq!(send(setting.ours.http, "PUT", "/metrics/job/x", &[], b"a 1\n").code, 200);
    let status = push(request(JOB, Mode::Unspecified, &[("a", 1.0)]));
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().ends_with("is not a UNTYPED"), "{status}");
    let status = push(request(JOB, Mode::Unspecified, &[("b", 1.0), ("c", 1.0), ("d", 1.0)]));
    assert_eq!(status.code(), Code::ResourceExhausted);
}
