//! A real redis-server for a test, and a client for it that is made of this crate's own codec.

use bytes::Bytes;
use coffer_rdb::resp::{self, Reply, ReplyReader};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) mod dataset;

pub(crate) struct Server {
    child: Child,
    pub(crate) dir: tempfile::TempDir,
    stream: TcpStream,
    reader: ReplyReader,
}

/// A server of some version: the one of this machine, or one of those that `tests/tools/servers` installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Make(pub(crate) &'static str);

impl Make {
    pub(crate) const MACHINE: Self = Self("redis-7.0");
    /// From the oldest to the newest; Valkey counts on from where it left Redis.
    pub(crate) const ALL: [Self; 6] = [
        Self("redis-5.0"),
        Self("redis-6.2"),
        Self::MACHINE,
        Self("redis-8.2"),
        Self("valkey-8.1"),
        Self("valkey-9.1"),
    ];

    pub(crate) fn folder(self) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target/servers")).join(self.0)
    }

    fn program(self) -> PathBuf {
        if self == Self::MACHINE {
            PathBuf::from("redis-server")
        } else {
            self.folder().join("server")
        }
    }

    /// Its major and minor version.
    pub(crate) fn release(self) -> (u32, u32) {
        let (_, version) = self.0.split_once('-').unwrap();
        let (major, minor) = version.split_once('.').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    }

    pub(crate) fn is_valkey(self) -> bool {
        self.0.starts_with("valkey")
    }

    pub(crate) fn has_field_ttls(self) -> bool {
        self.release() >= if self.is_valkey() { (9, 0) } else { (7, 4) }
    }
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::of(Make::MACHINE, options)
    }

    pub(crate) fn of(make: Make, options: &[&str]) -> Self {
        Self::in_folder(make, tempfile::tempdir().unwrap(), options)
    }

    /// With a folder that may hold a `dump.rdb` to begin with.
    pub(crate) fn in_folder(make: Make, dir: tempfile::TempDir, options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(make.program());
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--dir", dir.path().to_str().unwrap()])
            .args(options)
            .stdout(Stdio::null());
        if make.release() >= (7, 0) {
            command.args(["--enable-debug-command", "local"]);
        }
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; tests/tools/servers installs it", make.program().display())
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "redis-server: {error}"),
            }
            std::thread::yield_now();
        };
        let mut server = Self { child, dir, stream, reader: ReplyReader::new(1 << 30) };
        while matches!(server.ask(&[b"PING"]), Reply::Error(_)) {}
        server
    }

    pub(crate) fn dump_file(&self) -> PathBuf {
        self.dir.path().join("dump.rdb")
    }

    pub(crate) fn ask(&mut self, arguments: &[&[u8]]) -> Reply {
        let mut out = bytes::BytesMut::new();
        resp::write_command(&mut out, arguments);
        self.stream.write_all(&out).unwrap();
        let mut buffer = vec![0; 1 << 16];
        loop {
            if let Some(reply) = self.reader.next().unwrap() {
                return reply;
            }
            let len = self.stream.read(&mut buffer).unwrap();
            assert!(len > 0, "redis-server closed the connection");
            self.reader.buffer().extend_from_slice(&buffer[..len]);
        }
    }

    /// Asks and expects no error.
    pub(crate) fn run(&mut self, arguments: &[&[u8]]) -> Reply {
        let reply = self.ask(arguments);
        assert!(!matches!(reply, Reply::Error(_)), "{arguments:?}: {reply:?}");
        reply
    }

    /// Words of a line as a command.
    pub(crate) fn line(&mut self, line: &str) -> Reply {
        self.run(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    pub(crate) fn bulk(&mut self, arguments: &[&[u8]]) -> Option<Bytes> {
        match self.run(arguments) {
            Reply::Bulk(bulk) => bulk,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn digest(&mut self) -> Reply {
        self.line("DEBUG DIGEST")
    }

    /// Fills in every type in every encoding of its version, in several databases.
    pub(crate) fn fill(&mut self) {
        for line in [
            "SET int 12345",
            "SET negative -7",
            "SET big-int 2147483648",
            "SET empty-key-follows x",
            "SET small hello",
            "HSET hash f v",
            "SADD intset 1 2 3",
            "SADD set a b c",
            "ZADD zset 1.5 a -inf b +inf c 1e300 d",
            "RPUSH list a b c",
            "PFADD hll a b c d e f",
            "SETBIT bits 1000 1",
            "GEOADD geo 13.361389 38.115556 Palermo",
            "XADD stream 1-1 a 1 b 2",
            "XADD stream 2-1 a 1",
            "XADD stream 3-1 c 1 d 3",
            "XGROUP CREATE stream group 0",
            "XREADGROUP GROUP group alice COUNT 2 STREAMS stream >",
            "XREADGROUP GROUP group bob COUNT 1 STREAMS stream >",
            "XACK stream group 1-1",
            "XGROUP CREATECONSUMER stream group idle",
            "XDEL stream 2-1",
            "XGROUP CREATE stream other $",
            "XGROUP CREATE no-entries g $ MKSTREAM",
            "SET soon x PX 100000000",
            "SET later x EXAT 4102444800",
            "HSET expiring f v",
            "PEXPIREAT expiring 4102444800123",
            "SELECT 3",
            "SET in-three 1",
            "SELECT 15",
            "RPUSH l x",
            "SELECT 0",
        ] {
            self.line(line);
        }
        let packed = vec![b'p'; 5000];
        self.run(&[b"SET", b"", b"empty key"]);
        self.run(&[b"SET", b"\x00\xff\r\n\x80", &(0..=255).collect::<Vec<u8>>()]);
        self.run(&[b"SET", "k".repeat(300).as_bytes(), &packed]);
        self.run(&[b"SET", b"large", &noise(3 << 20)]);
        for index in 0..2000_u32 {
            let member = format!("member-{index}-{}", "y".repeat(70));
            let member = member.as_bytes();
            let score = (f64::from(index) / 3.0).to_string();
            self.run(&[b"HSET", b"big-hash", member, &packed[..(index as usize) % 90]]);
            self.run(&[b"SADD", b"big-set", member]);
            self.run(&[b"SADD", b"big-intset", (index * 1_000_003).to_string().as_bytes()]);
            self.run(&[b"ZADD", b"big-zset", score.as_bytes(), member]);
            self.run(&[b"RPUSH", b"big-list", member, score.as_bytes()]);
            self.run(&[b"XADD", b"big-stream", b"*", b"f", member]);
        }
        self.run(&[b"RPUSH", b"plain-nodes", &noise(20_000), b"x", &noise(9_000)]);
        self.line("XGROUP CREATE big-stream g 0");
        self.line("XREADGROUP GROUP g c COUNT 1500 STREAMS big-stream >");
        self.run(&[b"FUNCTION", b"LOAD", LIBRARY]);
    }
}

pub(crate) const LIBRARY: &[u8] =
    b"#!lua name=mylib\nredis.register_function('f', function() return 1 end)";

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
