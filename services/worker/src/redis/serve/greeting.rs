//! What a replica and its master say to each other before the file.

use bytes::BytesMut;
use coffer_rdb::resp::CommandReader;
use coffer_rdb::strings::printable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A command of a replica's handshake is never larger.
const LARGEST_COMMAND: u64 = 64 * 1024;

/// Answers a replica until it has asked for a sync; one that was to bring a password, only if it has.
pub(super) async fn greet(
    socket: &mut TcpStream,
    bytes: u64,
    password: Option<&[u8]>,
) -> std::io::Result<()> {
    let mut known = password.is_none();
    let mut reader = CommandReader::new(LARGEST_COMMAND);
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        while let Some(command) = reader.next().map_err(std::io::Error::other)? {
            let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
            let answer = match name.as_slice() {
                b"PING" => "+PONG\r\n".to_owned(),
                // With masterauth set it logs in, also where it is welcome without. Who guesses learns nothing.
                b"AUTH" => {
                    known |= command.last().map(|word| &word[..]) == password;
                    "+OK\r\n".to_owned()
                }
                b"REPLCONF" => "+OK\r\n".to_owned(),
                b"PSYNC" if !known => {
                    return Err(std::io::ErrorKind::PermissionDenied.into());
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Whether somebody is served who sends that, when that password is waited for.
    async fn is_served(sent: &[u8], password: Option<&[u8]>) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut replica = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        replica.write_all(sent).await.unwrap();
        replica.shutdown().await.unwrap();
        let greeted = greet(&mut socket, 5, password).await;
        drop(socket);
        let mut answers = Vec::new();
        // A socket that is dropped with something unread is reset.
        let _ = replica.read_to_end(&mut answers).await;
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(greeted.is_ok(), answers.contains("FULLRESYNC"), "{answers}");
        greeted.is_ok()
    }

    #[tokio::test]
    async fn only_who_knows_the_password_is_served() {
        let word = Some(&b"word"[..]);
        for (sent, password, want) in [
            (&b"PING\r\nPSYNC ? -1\r\n"[..], None, true),
            (b"PING\r\nAUTH own\r\nPSYNC ? -1\r\n", None, true),
            (b"PING\r\nAUTH word\r\nREPLCONF capa eof\r\nPSYNC ? -1\r\n", word, true),
            (b"AUTH user word\r\nPSYNC ? -1\r\n", word, true),
            (b"PSYNC ? -1\r\n", word, false),
            (b"AUTH\r\nPSYNC ? -1\r\n", word, false),
            (b"AUTH wor\r\nPSYNC ? -1\r\n", word, false),
        ] {
            // As replicas write: each word with its length.
            let sent = String::from_utf8_lossy(sent);
            let mut out = BytesMut::new();
            for line in sent.lines() {
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                coffer_rdb::resp::write_command(&mut out, &words);
            }
            assert_eq!(is_served(&out, password).await, want, "{sent}");
        }
    }
}
