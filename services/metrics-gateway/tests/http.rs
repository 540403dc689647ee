//! The HTTP API, against the original where there is one to compare with.
mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use coffer_metrics_gateway::{Config, groups::Limits};
use support::{Answer, Original, Ours, send};

/// What both must answer alike: method, path, body.
const REQUESTS: &[(&str, &str, &[u8])] = &[
    ("GET", "/-/healthy", b""),
    ("GET", "/-/ready", b""),
    ("PUT", "/-/healthy", b""),
    ("GET", "/-/quit", b""),
    ("PUT", "/-/quit", b""),
    ("GET", "/nothing", b""),
    ("PUT", "/nothing", b""),
    ("POST", "/metrics", b""),
    ("OPTIONS", "/metrics/job/a", b""),
    ("OPTIONS", "/api/v1/metrics", b""),
    ("GET", "/metrics/job/a", b""),
    ("PATCH", "/metrics/job/a", b""),
    ("PUT", "/metrics/job", b""),
    ("PUT", "/metrics/job/", b""),
    ("PUT", "/metrics/job@base64/", b""),
    ("PUT", "/metrics/job/a//b", b""),
    ("DELETE", "/metrics/job/a//b", b""),
    ("PUT", "/metrics/job/b/instance/i%20j+k/z/..%2Fq", b""),
    ("DELETE", "/metrics/job/a/b", b""),
    ("PUT", "/metrics/job/a/b", b""),
    ("PUT", "/metrics/job/a/b/c/", b""),
    ("PUT", "/metrics/job@base64/=", b""),
    ("PUT", "/metrics/job/a/__b/c", b""),
    ("PUT", "/metrics/job/a/b-c/c", b""),
    ("PUT", "/metrics/job/a/b%2Fc/c", b""),
    ("PUT", "/metrics/job/a/b@base64/!!", b""),
    ("PUT", "/metrics/job@base64/zrEvYg/ignored", b""),
    // What is stored from here on shows in the scrape below.
    ("PUT", "/metrics/job/a", b"foo 1\n"),
    ("PUT", "/metrics/job/a/", b"foo 2\nbar{x=\"y\",job=\"other\",instance=\"i\"} 3\n"),
    ("POST", "/metrics/job/a", b"# HELP bar Later.\n# TYPE bar gauge\nbar 4\n"),
    ("PUT", "/metrics/job/i%20j+k", b"foo NaN\nbig 123456789012345680000000\nm -0\ninf -Inf\n"),
    ("PUT", "/metrics/job/%CE%B1/l@base64/zrEvYg==", b"foo{q=\"a\\\"b\\\\c\\nd\"} 1\n"),
    ("PUT", "/metrics/job/a/b@base64/=", b"foo 7\n"),
    ("PUT", "/metrics/job/a/job/ignored/c/d", b"foo 8\n"),
    (
        "PUT",
        "/metrics/job/kinds",
        b"# TYPE s summary\n# HELP s Some \\\\ help\\nline\ns{quantile=\"0.5\",x=\"y\"} 1e6\ns_sum{x=\"y\"} 12\n\
          s_count{x=\"y\"} 3\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 3\nh_count 2\n# TYPE c counter\nc 5\n",
    ),
    ("PUT", "/metrics/job/empty", b""),
    ("PUT", "/metrics/job/gone", b"gone 1\n"),
    ("DELETE", "/metrics/job/gone/", b""),
    ("DELETE", "/metrics/job/never", b""),
    // Rejected: parsed, but not fit to store.
    ("PUT", "/metrics/job/a", b"foo 1 123\n"),
    ("PUT", "/metrics/job/new", b"foo 1 123\n"),
    ("PUT", "/metrics/job/a", b"z{a=\"b\"} 3\nz{a=\"b\"} 3\n"),
    ("PUT", "/metrics/job/a", b"# TYPE c gauge\nz 1\nz 2\n"),
    ("PUT", "/metrics/job/a", b"a{__x=\"1\"} 1\n"),
    ("PUT", "/metrics/job/a", b"pushgateway_build_info 3\n"),
    // Not parsed.
    ("PUT", "/metrics/job/a", b"foo 1"),
    ("PUT", "/metrics/job/a", b"foo 1\r\n"),
    ("PUT", "/metrics/job/a", b"foo 1\n# TYPE foo counter\nfoo 2\n"),
    ("PUT", "/metrics/job/never-seen", b"foo\n"),
];

fn comparable(answer: &Answer) -> (u16, Option<&str>, Option<&str>, &str) {
    (answer.code, answer.header("Location"), answer.header("Allow"), &answer.body)
}

/// A scrape without what each program says about itself, and without the times of pushes.
fn pushed(scrape: &str) -> String {
    let own = ["go_", "process_", "pushgateway_"];
    let lines = scrape.lines().filter(|line| {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        !own.iter().any(|prefix| name.starts_with(prefix))
    });
    let lines = lines.map(|line| match line.split_once(' ') {
        Some((name, value)) if name.starts_with("push_") && value != "0" => {
            format!("{name} <time>")
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn answers_are_the_originals() {
    let original = Original::start();
    let ours = Ours::start(Config::local()).unwrap();
    for (method, path, body) in REQUESTS {
        let theirs = send(original.http, method, path, &[], body);
        let answer = send(ours.http, method, path, &[], body);
        let request = format!("{method} {path} {}", String::from_utf8_lossy(body));
        assert_eq!(comparable(&answer), comparable(&theirs), "{request}");
    }
    // Which of the two names the original complains about is a matter of chance.
    for gateway in [original.http, ours.http] {
        let answer = send(gateway, "PUT", "/metrics/job/a", &[], b"s_count 3\n");
        assert!(answer.code == 400 && answer.body.contains("collides with"), "{answer:?}");
    }
    let theirs = send(original.http, "GET", "/metrics", &[], b"");
    let answer = send(ours.http, "GET", "/metrics", &[], b"");
    assert_eq!(pushed(&answer.body), pushed(&theirs.body));
    assert_eq!(answer.header("Content-Type"), theirs.header("Content-Type"));
    // The same requests were counted in the same way.
    let counted = |scrape: &str| {
        let lines =
            scrape.lines().filter(|line| line.starts_with("pushgateway_http_requests_total"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(counted(&answer.body), counted(&theirs.body));
    ours.stop().unwrap();
}

#[test]
fn the_api_lists_groups_as_the_original_does() {
    let original = Original::start();
    let ours = Ours::start(Config::local()).unwrap();
    let body = b"# HELP a Help.\na{l=\"v\"} 1e6\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n\
        # TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    let answers = [original.http, ours.http].map(|gateway| {
        assert_eq!(send(gateway, "PUT", "/metrics/job/one/x/y", &[], body).code, 200);
        let answer = send(gateway, "GET", "/api/v1/metrics", &[], b"");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        let mut json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let group = json["data"][0].as_object_mut().unwrap();
        for (name, family) in
            group.iter_mut().filter(|(_, family)| family.get("time_stamp").is_some())
        {
            let stamp = family["time_stamp"].take();
            assert!(chrono::DateTime::parse_from_rfc3339(stamp.as_str().unwrap()).is_ok());
            if name == "push_time_seconds" {
                family["metrics"][0]["value"].take();
            }
        }
        json
    });
    assert_eq!(answers[1], answers[0]);
    let status = send(ours.http, "GET", "/api/v1/status", &[], b"");
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    assert_eq!(status["data"]["build_information"]["version"], env!("CARGO_PKG_VERSION"));
    ours.stop().unwrap();
}

#[test]
fn what_breaks_the_original_is_refused() {
    let ours = Ours::start(Config::local()).unwrap();
    let not_utf8 = send(ours.http, "PUT", "/metrics/job@base64/_x_", &[], b"a 1\n");
    assert_eq!(
        (not_utf8.code, not_utf8.body.as_str()),
        (400, "value of job name is not UTF-8: \"\\xff\\x1f\"\n")
    );
    let stamps = b"# TYPE push_failure_time_seconds counter\npush_failure_time_seconds 7\n";
    assert_eq!(send(ours.http, "POST", "/metrics/job/b", &[], stamps).code, 200);
    for _ in 0..2 {
        assert_eq!(send(ours.http, "PUT", "/metrics/job@base64/!!", &[], b"").code, 400);
    }
    assert_eq!(send(ours.http, "PUT", "/metrics/job/a", &[], b"a 1\n").code, 200);
    assert_eq!(send(ours.http, "PUT", "/metrics/job/a/instance@base64/=", &[], b"b 1\n").code, 400);
    let scrape = send(ours.http, "GET", "/metrics", &[], b"");
    assert_eq!(scrape.code, 200);
    assert!(
        !scrape.body.contains("\u{fffd}") && scrape.body.contains("a{instance=\"\",job=\"a\"} 1\n")
    );
    assert_eq!(send(ours.http, "PUT", "/metrics/job/%zz", &[], b"").code, 400);
    ours.stop().unwrap();
}

#[test]
fn limits_and_what_is_not_supported() {
    let config = Config {
        limits: Limits { groups: 1, series: 10 },
        max_body_bytes: 1000,
        ..Config::local()
    };
    let ours = Ours::start(config).unwrap();
    let large = send(ours.http, "PUT", "/metrics/job/a", &[], &[b'#'; 1001]);
    assert_eq!(large.code, 413, "{large:?}");
    assert_eq!(send(ours.http, "PUT", "/metrics/job/a", &[], b"a 1\n").code, 200);
    let full = send(ours.http, "PUT", "/metrics/job/b", &[], b"a 1\n");
    assert_eq!(full.code, 429);
    assert!(full.body.contains("raise --push.max-groups"), "{}", full.body);
    let gzip = send(ours.http, "PUT", "/metrics/job/a", &["Content-Encoding: gzip"], b"a 1\n");
    assert_eq!(gzip.code, 415);
    let protobuf = "Content-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
        encoding=delimited";
    assert_eq!(send(ours.http, "PUT", "/metrics/job/a", &[protobuf], b"a 1\n").code, 415);
    // As the original: other encodings are taken for none.
    assert_eq!(
        send(ours.http, "PUT", "/metrics/job/a", &["Content-Encoding: br"], b"a 1\n").code,
        200
    );
    ours.stop().unwrap();
}

#[test]
fn groups_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("groups");
    let config = || Config { persistence_file: Some(file.clone()), ..Config::local() };
    let first = Ours::start(config()).unwrap();
    assert_eq!(send(first.http, "PUT", "/metrics/job/a/l/v", &[], b"x{y=\"z\"} 1.5\n").code, 200);
    assert_eq!(send(first.http, "PUT", "/metrics/job/b", &[], b"x 1 1\n").code, 400);
    let groups = |scrape: Answer| {
        let lines =
            scrape.body.lines().filter(|line| !line.contains("pushgateway_")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    let before = groups(send(first.http, "GET", "/metrics", &[], b""));
    first.stop().unwrap();

    let second = Ours::start(config()).unwrap();
    let after = groups(send(second.http, "GET", "/metrics", &[], b""));
    assert_eq!(after, before);
    assert!(
        after.iter().any(|line| line == "x{instance=\"\",job=\"a\",l=\"v\",y=\"z\"} 1.5"),
        "{after:?}"
    );
    second.stop().unwrap();

    std::fs::write(&file, "garbage\n").unwrap();
    let error = Ours::start(config()).err().unwrap();
    let chain = coffer_runtime::fault::chain(&error);
    assert!(chain.contains("it is not a file of this program"), "{chain}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "garbage\n");
}

#[test]
fn groups_are_written_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("groups");
    let persistence_interval = std::time::Duration::from_millis(20);
    let config =
        Config { persistence_file: Some(file.clone()), persistence_interval, ..Config::local() };
    let ours = Ours::start(config).unwrap();
    assert_eq!(send(ours.http, "PUT", "/metrics/job/a", &[], b"x 1\n").code, 200);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !file.exists() {
        assert!(std::time::Instant::now() < deadline, "{} was not written", file.display());
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"job\""));
    ours.stop().unwrap();
}

#[test]
fn promtool_finds_no_fault() {
    let ours = Ours::start(Config::local()).unwrap();
    let body =
        b"# HELP stash_up_total Help.\n# TYPE stash_up_total counter\nstash_up_total{a=\"b\"} 1\n";
    assert_eq!(send(ours.http, "PUT", "/metrics/job/a", &[], body).code, 200);
    assert_eq!(send(ours.http, "GET", "/-/ready", &[], b"").code, 200);
    let scrape = send(ours.http, "GET", "/metrics", &[], b"");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(scrape.body.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}{}", scrape.body);
    ours.stop().unwrap();
}
