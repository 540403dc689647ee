//! Servers of object stores: real ones, each in a process of its own that goes with the test.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those that go with their standard input take a process of their own along.
        if self.child.stdin.take().is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A folder of `target/tools`.
fn tool(name: &str) -> PathBuf {
    let folder = root().join("target/tools").join(name);
    assert!(folder.exists(), "{name} is missing: run tests/tools/stores");
    folder
}

/// Starts a program that prints its port and ends with its standard input.
fn serve(command: &mut Command) -> Server {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().parse();
    let mut server = Server { child, port: 0 };
    server.port = port.unwrap_or_else(|_| panic!("{command:?} said {line:?}"));
    server
}

pub const AZURE_ACCOUNT: &str = "devstoreaccount1";
/// Azurite's, which everybody knows.
pub const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Azurite, with a container.
pub fn azurite(data: &Path, container: &str) -> Server {
    let script = root().join("tests/tools/serve_azurite.mjs");
    serve(Command::new("node").arg(script).arg(tool("azurite")).arg(data).arg(container))
}

/// OpenStack Swift, with a container. User `test:tester`, key `testing`.
pub fn swift(data: &Path, container: &str, token_life_seconds: u32) -> Server {
    let script = root().join("tests/tools/serve_swift.py");
    serve(
        Command::new("python3")
            .arg(script)
            .arg(data)
            .arg(container)
            .env("PYTHONPATH", tool("swift"))
            .env("TOKEN_LIFE", token_life_seconds.to_string()),
    )
}

/// `rclone serve restic` over a directory, once it listens.
pub fn rclone(data: &Path, args: &[&str]) -> Server {
    // It does not say which port it took, so it is told one.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("rclone");
    command.args(["serve", "restic", "--config", "", "--addr"]).arg(format!("127.0.0.1:{port}"));
    command.args(args).arg(data).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("rclone is installed");
    let server = Server { child, port };
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "{command:?} does not listen");
    }
    server
}

/// A plain file server over a directory.
pub fn files(data: &Path) -> Server {
    let program = "import functools, http.server, sys, threading\n\
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])\n\
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
        print(server.server_port, flush=True)\n\
        threading.Thread(target=server.serve_forever, daemon=True).start()\n\
        sys.stdin.read()";
    serve(Command::new("python3").args(["-c", program]).arg(data).stderr(Stdio::null()))
}
