//! The five minutes of the README, word for word: every block is run as it stands there, and must succeed.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use coffer_tests::{coffer::START_LIMIT, redis_server, wait};

use crate::COFFER;

const README: &str = include_str!("../../../README.md");
/// The port of the README's Redis, which somebody else may have here.
const PORT: &str = "6399";

/// The code blocks of the tour.
fn blocks() -> Vec<&'static str> {
    let (_, tour) = README.split_once("\n## Five minutes\n").expect("a tour");
    let (tour, _) = tour.split_once("\n## ").expect("something after the tour");
    tour.split("```\n").skip(1).step_by(2).collect()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A shell in the tour's folder, where `coffer` is the program under test.
fn shell(folder: &Path, script: &str) -> Result<Command> {
    let path = std::env::var("PATH")?;
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", folder.join("bin").display()))
        .env("HOME", folder)
        .stdin(Stdio::null());
    Ok(command)
}

#[tokio::test]
async fn the_tour_works_as_it_is_written() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("bin"))?;
    std::os::unix::fs::symlink(COFFER, folder.path().join("bin/coffer"))?;
    let blocks = blocks();
    let [start, apply, use_it, look_after] = blocks.as_slice() else {
        anyhow::bail!("the tour has {} blocks: {blocks:#?}", blocks.len())
    };

    let (build, up) = start.trim_end().split_once('\n').context("two lines")?;
    ensure!(build == "make build && export PATH=$PWD/target/release:$PATH", "{build}");
    let log = std::fs::File::create(folder.path().join("up.log"))?;
    let mut up = shell(folder.path(), &format!("exec {up}"))?;
    let mut up = Killed(up.stdout(log.try_clone()?).stderr(log).spawn()?);
    wait::until("coffer up is ready", START_LIMIT, async || {
        ensure!(up.0.try_wait()?.is_none(), "coffer up ended");
        Ok(folder.path().join("coffer-data/ready").exists().then_some(()))
    })
    .await?;

    // The Redis is left running by the reader, and here by nobody.
    let port = redis_server::free_port()?.to_string();
    let script =
        format!("trap 'kill $(jobs -p)' EXIT\n{apply}{use_it}{look_after}").replace(PORT, &port);
    let output = shell(folder.path(), &script)?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in ["created", "Ready", "/dump.rdb", "Succeeded", "1 key", "no errors were found"] {
        ensure!(text.contains(part), "\"{part}\" is not in\n{text}");
    }
    Ok(())
}
