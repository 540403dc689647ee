//! The restic program as a peer.

use super::PASSWORD;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs restic on a repository and returns what it printed; it must succeed.
pub fn restic(repository: &str, args: &[&str]) -> Vec<u8> {
    restic_with(repository, args, &[], &[])
}

pub fn restic_with(
    repository: &str,
    args: &[&str],
    environment: &[(&str, &str)],
    input: &[u8],
) -> Vec<u8> {
    let mut child = Command::new("restic")
        .args(["--no-cache", "--repo", repository])
        .args(args)
        .env("RESTIC_PASSWORD", PASSWORD)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("restic is installed");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "restic {args:?}: {problem}");
    output.stdout
}

/// `check --read-data`.
pub fn check(repository: &Path) {
    restic(repository.to_str().unwrap(), &["check", "--read-data"]);
}
