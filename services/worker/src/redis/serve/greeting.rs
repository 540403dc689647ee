//! What a replica and its master say to each other before the file.

use bytes::BytesMut;
use coffer_rdb::resp::CommandReader;
use coffer_rdb::strings::printable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A command of a replica's handshake is never larger.
const LARGEST_COMMAND: u64 = 64 * 1024;

/// Answers a replica until it has asked for a sync.
pub(super) async fn greet(socket: &mut TcpStream, bytes: u64) -> std::io::Result<()> {
    let mut reader = CommandReader::new(LARGEST_COMMAND);
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        while let Some(command) = reader.next().map_err(std::io::Error::other)? {
            let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
            let answer = match name.as_slice() {
                b"PING" => "+PONG\r\n".to_owned(),
                // With masterauth set it logs in; it is welcome without.
                b"AUTH" | b"REPLCONF" => "+OK\r\n".to_owned(),
                b"PSYNC" => {
                    let id: String = (0..5).map(|_| format!("{:08x}", rand_word())).collect();
                    socket
                        .write_all(format!("+FULLRESYNC {id} 1\r\n${bytes}\r\n").as_bytes())
                        .await?;
                    return Ok(());
                }
                other => format!("-ERR unknown command '{}'\r\n", printable(other, 40)),
            };
            socket.write_all(answer.as_bytes()).await?;
        }
        buffer.clear();
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        reader.feed(&buffer);
    }
}

/// A word of a replication id that no server has had before; no secret.
fn rand_word() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one(0_u8);
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}
