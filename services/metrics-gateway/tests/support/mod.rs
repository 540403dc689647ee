//! A running gateway, the original beside it, and requests whose bytes are exactly those given.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of several test files, each of which uses a part"
)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use coffer_metrics_gateway::{App, Config, Error, build};
use coffer_runtime::Runtime;

/// Our gateway, in this process.
pub struct Ours {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    runtime: Runtime,
    executor: tokio::runtime::Runtime,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Ours {
    pub fn start(config: Config) -> Result<Self, Error> {
        let executor = tokio::runtime::Runtime::new().unwrap();
        let runtime = Runtime::new();
        let app: App = executor.block_on(build(config, &runtime))?;
        let (http, grpc) = (app.http_addr, app.grpc_addr);
        let task = executor.spawn(app.run());
        Ok(Self { http, grpc, runtime, executor, task })
    }

    pub fn stop(self) -> Result<(), Error> {
        self.runtime.shutdown.trigger();
        self.executor.block_on(self.task).unwrap()
    }
}

/// The program that we stand in for.
pub struct Original {
    pub http: SocketAddr,
    process: Child,
}

impl Original {
    pub fn start() -> Self {
        // The port is free again at once; nobody else takes one just given out.
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new("prometheus-pushgateway")
            .args([format!("--web.listen-address={http}"), "--persistence.file=".to_owned()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus-pushgateway is needed: apt-get install prometheus-pushgateway");
        let original = Self { http, process };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(http).is_err() {
            assert!(Instant::now() < deadline, "prometheus-pushgateway does not listen on {http}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        original
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends a request with the path as it stands.
pub fn send(to: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).unwrap();
    // The server may answer and hang up before it has read all of a body it does not want.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| {
        let sent = String::from_utf8_lossy(request.as_bytes()).into_owned();
        assert!(answer.is_empty(), "{answer}");
        unreachable!("no answer to {sent}")
    });
    let mut lines = head.lines();
    let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect::<Vec<_>>();
    let chunked = headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("transfer-encoding") && value == "chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Answer { code, headers, body }
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}
