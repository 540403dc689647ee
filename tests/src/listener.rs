//! A real HTTP server for hooks: it keeps what it is told, and answers what a test wants.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
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
    answers: Arc<Semaphore>,
    serving: JoinHandle<()>,
}

impl Listener {
    /// Listens. A path that ends in a number is answered with that status, every other with 200.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let listener = Self::start_held().await?;
        listener.release();
        Ok(listener)
    }

    /// The same, but nobody is answered before the release.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start_held() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let told = Arc::new(Mutex::new(vec![]));
        let answers = Arc::new(Semaphore::new(0));
        let (kept, may_answer) = (told.clone(), answers.clone());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                // Who only connects tells nothing.
                let Ok(request) = read(&mut stream).await else { continue };
                let line = request.line.clone();
                kept.lock().expect("nobody panics with the lock").push(request);
                let _released = may_answer.acquire().await;
                // Whoever asked may have given up.
                let _ = answer(&mut stream, &line).await;
            }
        });
        Ok(Self { port, told, answers, serving })
    }

    /// Answers all that ask, from now on.
    pub fn release(&self) {
        self.answers.add_permits(1);
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

async fn read(stream: &mut BufReader<TcpStream>) -> Result<Told> {
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
    let kind = header("content-type").unwrap_or_default();
    Ok(Told { line, kind, body: String::from_utf8(body)? })
}

async fn answer(stream: &mut BufReader<TcpStream>, line: &str) -> Result<()> {
    let status = line.rsplit('/').next().and_then(|last| last.parse::<u16>().ok()).unwrap_or(200);
    let answer = format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n\r\n");
    Ok(stream.write_all(answer.as_bytes()).await?)
}
