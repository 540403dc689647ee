//! One command and its WebSocket. Every binary message begins with a byte that names its channel.
//!
//! ```text
//! client ──0 input──▶ command ──1 output, 2 error output──▶ client, then 3: how it ended, as a Status
//!        ──255 0 (end of the input)──▶
//! ```
//!
//! The command is killed when the client leaves, when its container ends, and when the server closes.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _, stream};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use crate::apiserver::status::Failure;
use crate::job_runner::{Container, Exit, Further};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// Ends the channel that the next byte names.
const CLOSE: u8 = 255;
/// How much of a command's output one message carries, in bytes.
const CHUNK: usize = 32 * 1024;
/// The largest message of a client, in bytes: kubectl sends its input in pieces of 32 KiB.
const LARGEST_MESSAGE: usize = 1024 * 1024;
/// How often the client is asked whether it is still there. It bounds how long a command outlives one that left while the
/// command did not read its input.
const PING: Duration = Duration::from_secs(5);
/// How long the output of a command that has ended may be silent and yet open, as a process that left its group may hold
/// it; and how long a client may take to hear the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the client wants.
pub(super) struct Asked {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// Whether it sends input.
    pub(super) stdin: bool,
    /// Whether it wants the output.
    pub(super) stdout: bool,
    /// Whether it wants the error output.
    pub(super) stderr: bool,
}

/// Runs the command as soon as the connection has become a WebSocket.
pub(super) async fn run(
    upgrade: OnUpgrade,
    container: Container,
    asked: Asked,
    stop: CancellationToken,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a connection did not become a WebSocket");
            return;
        }
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    // The client has heard nothing when it left, and needs nothing then.
    if let Err(error) = Box::pin(serve(socket, &container, asked, stop)).await {
        tracing::debug!(%error, "the client of a command left");
    }
}

async fn serve(
    socket: WebSocketStream<TokioIo<Upgraded>>,
    container: &Container,
    asked: Asked,
    stop: CancellationToken,
) -> Result<(), Error> {
    let (mut sink, mut source) = socket.split();
    let status = match container.start(&asked.command, asked.stdin).await {
        Err(error) => not_started(&asked.command[0], &error),
        Ok(mut process) => {
            let (stdin, stdout, stderr) = process.pipes();
            let output = stream::select(
                channel(STDOUT, asked.stdout, stdout),
                channel(STDERR, asked.stderr, stderr),
            );
            tokio::select! {
                status = speak(&mut sink, output, &mut process) => status?,
                () = listen(&mut source, stdin) => return Ok(()),
                () = stop.cancelled() => Failure::internal("the API server closes").status,
            }
        }
    };
    let farewell = async {
        sink.send(message(STATUS, status.to_string().as_bytes())).await?;
        // To kubectl, a channel has ended when the connection closes in order, with a code that says so.
        let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        sink.send(Message::Close(Some(close))).await?;
        // What the client still sends is read: closed over it, the connection could lose the status.
        while let Some(Ok(_)) = source.next().await {}
        Ok(())
    };
    timeout(PATIENCE, farewell).await.unwrap_or(Ok(()))
}

/// Sends output until the command has ended and nothing is left of it; tells how it ended.
async fn speak(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    output: impl Stream<Item = Message>,
    process: &mut Further,
) -> Result<Value, Error> {
    let mut output = std::pin::pin!(output);
    let mut pings = tokio::time::interval(PING);
    let mut open = true;
    let exit = loop {
        tokio::select! {
            chunk = output.next(), if open => match chunk {
                Some(chunk) => sink.send(chunk).await?,
                None => open = false,
            },
            exit = process.wait() => break exit,
            _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await?,
        }
    };
    while open {
        match timeout(PATIENCE, output.next()).await {
            Ok(Some(chunk)) => sink.send(chunk).await?,
            Ok(None) | Err(_) => open = false,
        }
    }
    Ok(match exit {
        Ok(exit) => ended_with(exit),
        Err(error) => failed(&format!("error executing command in container: {error}")),
    })
}

/// Passes input on until the client leaves.
async fn listen(
    source: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    mut stdin: Option<ChildStdin>,
) {
    while let Some(Ok(message)) = source.next().await {
        match message {
            Message::Close(_) => return,
            Message::Binary(bytes) => match bytes[..] {
                [STDIN, ref input @ ..] => {
                    if let Some(open) = &mut stdin
                        && open.write_all(input).await.is_err()
                    {
                        // The command has closed its input: what else comes is not for it.
                        stdin = None;
                    }
                }
                [CLOSE, STDIN, ..] => stdin = None,
                _ => {}
            },
            _ => {}
        }
    }
}

/// One output of a command as messages; read also when nobody wants it, since the command would wait.
fn channel(
    number: u8,
    wanted: bool,
    output: Option<impl AsyncRead + Unpin>,
) -> impl Stream<Item = Message> {
    let chunks = stream::iter(output).flat_map(|output| ReaderStream::with_capacity(output, CHUNK));
    // An output that cannot be read has ended.
    chunks
        .filter_map(async |chunk| chunk.ok())
        .filter(move |_| std::future::ready(wanted))
        .map(move |chunk| message(number, &chunk))
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    Message::binary([&[channel], bytes].concat())
}

/// The Status of a command that ran, as a kubelet words it.
fn ended_with(Exit { code, signal: _ }: Exit) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!(
            "command terminated with non-zero exit code: command terminated with exit code {code}"
        ),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn not_started(program: &str, error: &io::Error) -> Value {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
        _ => error.to_string(),
    };
    failed(&format!("error executing command in container: exec: {program:?}: {why}"))
}

fn failed(why: &str) -> Value {
    Failure::internal(why).status
}
