//! A real HTTP server for hooks: it keeps what it is told, and answers what a test wants.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `POST /path`.
    pub line: String,
    /// Its `Content-Type`.
    pub kind: String,
    /// What was sent.
    pub body: String,
}

/// The server; it ends with the value.
pub struct Listener {
    /// Its port on this machine.
    pub port: u16,
    told: Arc<Mutex<Vec<Told>>>,
    serving: JoinHandle<()>,
}

impl Listener {
    /// Listens. A path that ends in a number is answered with that status, every other with 200.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let told = Arc::new(Mutex::new(vec![]));
        let kept = told.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who only connects tells nothing.
                if let Ok(request) = answer(stream).await {
                    kept.lock().expect("nobody panics with the lock").push(request);
                }
            }
        });
        Ok(Self { port, told, serving })
    }

    /// All requests so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("nobody panics with the lock").clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(stream: TcpStream) -> Result<Told> {
    let mut stream = BufReader::new(stream);
    let mut head = vec![];
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let first = head.first().context("no request")?;
    let header = |wanted: &str| {
        let mut pairs = head.iter().filter_map(|line| line.split_once(": "));
        pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").map_or(Ok(0), |text| text.parse())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let line = first.trim_end_matches(" HTTP/1.1").to_owned();
    let status = line.rsplit('/').next().and_then(|last| last.parse::<u16>().ok()).unwrap_or(200);
    let answer = format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    let kind = header("content-type").unwrap_or_default();
    Ok(Told { line, kind, body: String::from_utf8(body)? })
}
