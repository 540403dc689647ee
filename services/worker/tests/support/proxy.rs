//! A proxy between the worker and a server that may change each reply.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use coffer_api::session::Redis;
use coffer_rdb::resp::{self, Reply, ReplyReader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server's address through a proxy that hands each of its replies to `change`, until the test ends.
pub(crate) async fn through(
    redis: &Redis,
    change: impl FnMut(&mut Reply) + Send + 'static,
) -> Redis {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, server) = (listener.local_addr().unwrap().port(), redis.port);
    let change = Arc::new(Mutex::new(change));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let change = change.clone();
            tokio::spawn(async move {
                let mut replies = ReplyReader::new(1 << 30);
                while let Ok(1..) = from_server.read_buf(replies.buffer()).await {
                    let mut out = BytesMut::new();
                    while let Some(mut reply) = replies.next().unwrap() {
                        change.lock().unwrap()(&mut reply);
                        write(&mut out, &reply);
                    }
                    if to_client.write_all(&out).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Redis { port, ..redis.clone() }
}

fn write(out: &mut BytesMut, reply: &Reply) {
    let line = |out: &mut BytesMut, sign: &[u8], text: &[u8]| {
        out.extend_from_slice(&[sign, text, b"\r\n"].concat());
    };
    match reply {
        Reply::Status(text) => line(out, b"+", text),
        Reply::Error(text) => line(out, b"-", text),
        Reply::Integer(number) => line(out, b":", number.to_string().as_bytes()),
        Reply::Bulk(None) => line(out, b"$", b"-1"),
        Reply::Array(None) => line(out, b"*", b"-1"),
        Reply::Bulk(Some(bytes)) => resp::write_bulk(out, bytes),
        Reply::Array(Some(parts)) => {
            resp::write_array(out, parts.len());
            parts.iter().for_each(|part| write(out, part));
        }
    }
}
