//! `process::run` in a process of its own: this test starts itself again as the child, and signals it.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use coffer_runtime::{args::CommonArgs, process};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitCode, Stdio};

/// Not a test: what the children run. Ignored, so that only they run it.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let role = std::env::var("COFFER_TEST_ROLE").unwrap_or_default();
    let code = process::run(CommonArgs::default(), async |_, runtime| {
        println!("\nup");
        match role.as_str() {
            "fails" => {
                let cause = std::io::Error::other("the cause");
                return Err(anyhow::Error::from(cause).context("the act"));
            }
            "hangs" => std::future::pending::<()>().await,
            _ => {}
        }
        runtime.shutdown.triggered().await;
        println!("\ndrained");
        Ok(())
    });
    // An exit code can only be compared as text.
    if format!("{code:?}") != format!("{:?}", ExitCode::SUCCESS) {
        std::process::exit(1);
    }
}

fn start(role: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("COFFER_TEST_ROLE", role)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "up" {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child did not come up");
    }
    (child, output)
}

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
}

#[test]
fn a_signal_lets_the_service_drain() {
    let (mut child, mut output) = start("serves");
    terminate(&child);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("drained"), "{rest}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_second_signal_aborts() {
    let (mut child, _output) = start("hangs");
    let mut log = BufReader::new(child.stderr.take().unwrap());
    terminate(&child);
    let mut line = String::new();
    while !line.contains("a second signal aborts") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the first signal was not logged");
    }
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn an_error_is_logged_with_its_causes_and_is_the_exit_code() {
    let (mut child, _output) = start("fails");
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("the act: the cause"), "{log}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
