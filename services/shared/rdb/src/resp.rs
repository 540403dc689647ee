//! RESP2, the protocol of clients and of Stash's `/dumpfile.resp`: written here, read in two modules.

mod command;
mod frame;
mod reply;

pub use command::CommandReader;
pub use reply::{Reply, ReplyReader};

use bytes::{BufMut, BytesMut};

/// What is wrong with a RESP stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the protocol, or a part of it that servers do not speak here.
    #[error("expected {expected} at byte {at}, found {found:?}")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
        /// What came, made printable and cut.
        found: String,
        /// Its offset in the stream.
        at: u64,
    },
    /// Larger than the reader's limit.
    #[error("{what} at byte {at} is larger than the limit of {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// Its offset in the stream.
        at: u64,
    },
    /// The stream ended inside something.
    #[error("the data ends early, at byte {at}, inside a command")]
    Truncated {
        /// How many bytes there were.
        at: u64,
    },
}

/// Appends a command.
pub fn write_command(out: &mut BytesMut, arguments: &[&[u8]]) {
    write_array(out, arguments.len());
    for argument in arguments {
        write_bulk(out, argument);
    }
}

/// Appends the head of an array, to be followed by so many elements.
pub fn write_array(out: &mut BytesMut, len: usize) {
    write_head(out, b'*', len);
}

/// Appends a bulk string.
pub fn write_bulk(out: &mut BytesMut, bytes: &[u8]) {
    write_bulk_head(out, bytes.len());
    out.reserve(bytes.len() + 2);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// Appends the head of a bulk string whose bytes and `\r\n` the caller sends on its own.
pub fn write_bulk_head(out: &mut BytesMut, len: usize) {
    write_head(out, b'$', len);
}

fn write_head(out: &mut BytesMut, sigil: u8, mut len: usize) {
    // Digits from the right: this runs for every argument of every key, where format! would show.
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(len % 10).unwrap_or_default();
        len /= 10;
        if len == 0 {
            break;
        }
    }
    out.reserve(digits.len() + 3);
    out.put_u8(sigil);
    out.put_slice(&digits[first..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    #[test]
    fn writes_what_servers_expect() {
        let mut out = BytesMut::new();
        write_command(&mut out, &[b"SET", b"k", b"", &[b'x'; 1234]]);
        assert!(out.starts_with(b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$1234\r\nxxx"));
        assert!(out.ends_with(b"x\r\n"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            commands in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..5), 0..8),
            cut in 1_usize..20,
        ) {
            let mut out = BytesMut::new();
            for command in &commands {
                write_command(&mut out, &command.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            let mut reader = CommandReader::new(1000);
            let mut read = Vec::new();
            for piece in out.chunks(cut) {
                reader.feed(piece);
                while let Some(command) = reader.next().unwrap() {
                    read.push(command.iter().map(|part| part.to_vec()).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(read, commands);
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn readers_survive_anything(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'1'), any::<u8>()
            ], 0..200),
            cut in 1_usize..50,
        ) {
            let mut commands = CommandReader::new(64);
            let mut replies = ReplyReader::new(64);
            for piece in bytes.chunks(cut) {
                commands.feed(piece);
                while let Ok(Some(_)) = commands.next() {}
                replies.buffer().extend_from_slice(piece);
                while let Ok(Some(_)) = replies.next() {}
            }
        }
    }

    #[test]
    fn reads_every_kind_of_reply() {
        let mut reader = ReplyReader::new(100);
        let stream = b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n*0\r\n*-1\r\n";
        let mut got = Vec::new();
        for byte in stream {
            reader.buffer().extend_from_slice(&[*byte]);
            while let Some(reply) = reader.next().unwrap() {
                got.push(reply);
            }
        }
        let bulk = |text: &'static [u8]| Reply::Bulk(Some(Bytes::from_static(text)));
        assert_eq!(
            got,
            [
                Reply::Status(Bytes::from_static(b"OK")),
                Reply::Error(Bytes::from_static(b"ERR no")),
                Reply::Integer(-7),
                bulk(b"a\r\n"),
                Reply::Bulk(None),
                Reply::Array(Some(vec![Reply::Integer(1), Reply::Array(Some(vec![bulk(b"")]))])),
                Reply::Array(Some(vec![])),
                Reply::Array(None),
            ]
        );
    }

    #[test]
    fn limits_hold_before_memory_is_taken() {
        let mut reader = CommandReader::new(10);
        reader.feed(b"*1\r\n$11\r\n");
        assert!(matches!(reader.next(), Err(Error::TooLarge { limit: 10, .. })));
        let mut reader = CommandReader::new(10);
        reader.feed(b"*2\r\n$3\r\nSET");
        assert_eq!(reader.next(), Ok(None));
        assert_eq!(reader.finish(), Err(Error::Truncated { at: 11 }));
        let mut reader = ReplyReader::new(10);
        reader.buffer().extend_from_slice(b"$99999999999999\r\n");
        assert!(matches!(reader.next(), Err(Error::TooLarge { .. })));
        let mut reader = ReplyReader::new(10);
        reader.buffer().extend_from_slice("*1\r\n".repeat(100).as_bytes());
        assert!(matches!(reader.next(), Err(Error::TooLarge { what: "nesting", .. })));
    }
}
