//! `coffer digest` and `coffer diff` of servers and files, which need no cluster: what a url says, and what is refused.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use coffer_tests::{
    redis_server::{Options, RedisServer, free_port},
    wait,
};

use crate::COFFER;

const LIBRARY: &str = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)";

fn coffer(words: &[&str]) -> Command {
    let mut command = Command::new(COFFER);
    command.args(words).env_remove("REDISCLI_AUTH").env_remove("KUBECONFIG");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The digest and the number of keys.
fn digest(url: &str, password: Option<&str>) -> Result<String> {
    let done =
        coffer(&["digest", url]).envs(password.map(|word| ("REDISCLI_AUTH", word))).output()?;
    anyhow::ensure!(done.status.success(), "{url}: {}", said(&done));
    Ok(String::from_utf8(done.stdout)?)
}

#[tokio::test]
async fn a_url_names_user_socket_and_database() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("redis.sock");
    let config = vec![format!("unixsocket {}", socket.display())];
    let redis = RedisServer::start(Options { config, ..Options::default() }).await?;
    redis.command::<()>(&["SET", "here", "0"]).await?;
    redis.command::<()>(&["FUNCTION", "LOAD", LIBRARY]).await?;
    redis.command::<()>(&["COPY", "here", "there", "DB", "3"]).await?;
    let user = "ACL SETUSER reader on nopass ~* +@read +info +ping +select";
    redis.command::<()>(&user.split(' ').collect::<Vec<_>>()).await?;

    // Now, since a server that still dumps does not save.
    redis.command::<()>(&["SAVE"]).await?;
    let dir: Vec<String> = redis.command(&["CONFIG", "GET", "dir"]).await?;
    let file = format!("{}/dump.rdb", dir[1]);

    let (password, port) = (Some(redis.password()), redis.port);
    let all = digest(&format!("redis://127.0.0.1:{port}"), password)?;
    assert!(all.ends_with("2 keys, 1 function library\n"), "{all}");
    assert_eq!(digest(&format!("unix://{}", socket.display()), password)?, all);
    let third = digest(&format!("redis://127.0.0.1:{port}/3"), password)?;
    assert!(third.ends_with("1 key, 0 function libraries\n"), "{third}");
    // By replication and by scan, over the network and not, as the default user and as one without a password.
    for url in [
        format!("redis://reader@127.0.0.1:{port}/3"),
        format!("unix://reader@{}?db=3", socket.display()),
    ] {
        assert_eq!(digest(&url, None)?, third, "{url}");
    }

    // The database that one side names counts for both.
    redis.command::<()>(&["SET", "here", "1"]).await?;
    let reader = format!("redis://reader@127.0.0.1:{port}");
    for (source, code) in [(format!("{reader}/3"), 0), (format!("{reader}/0"), 3)] {
        let compared = coffer(&["diff", &source, &file]).output()?;
        assert_eq!(compared.status.code(), Some(code), "{source}: {}", said(&compared));
    }
    let apart = coffer(&["diff", &format!("{reader}/3"), &format!("{reader}/0")]).output()?;
    assert!(said(&apart).contains("database 3 cannot be compared with database 0"));
    Ok(())
}

/// Without the right to see them the digest would be another one.
#[tokio::test]
async fn functions_that_are_not_shown_are_told_and_so_is_what_was_done_without() -> Result<()> {
    let redis = RedisServer::start(Options::default()).await?;
    redis.command::<()>(&["SET", "k", "v"]).await?;
    redis.command::<()>(&["FUNCTION", "LOAD", LIBRARY]).await?;
    let user = "ACL SETUSER reader on >word ~* +@read +info +ping +select";
    redis.command::<()>(&user.split(' ').collect::<Vec<_>>()).await?;
    let all = digest(&format!("redis://127.0.0.1:{}", redis.port), Some(redis.password()))?;
    assert!(all.ends_with("1 key, 1 function library\n"), "{all}");

    let reader = format!("redis://reader@127.0.0.1:{}", redis.port);
    let read = || coffer(&["digest", &reader]).env("REDISCLI_AUTH", "word").output();
    let refused = read()?;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let told = said(&refused);
    assert!(told.contains("does not show its function libraries: NOPERM"), "{told}");
    assert!(told.contains("+function|dump"), "{told}");
    redis.command::<()>(&["ACL", "SETUSER", "reader", "+function|dump", "-memory|usage"]).await?;
    let shown = read()?;
    assert_eq!(String::from_utf8(shown.stdout.clone())?, all, "{}", said(&shown));
    assert!(said(&shown).contains("grant +memory|usage"), "{}", said(&shown));
    Ok(())
}

#[tokio::test]
async fn slots_that_move_meanwhile_are_told() -> Result<()> {
    let mut config = vec!["cluster-enabled yes".to_owned(), "rdb-key-save-delay 20000".to_owned()];
    config.push(format!("cluster-port {}", free_port()?));
    let options = Options { password: String::new(), databases: 1, config };
    let redis = RedisServer::start(options).await?;
    redis.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await?;
    wait::until("the cluster is up", Duration::from_secs(20), async || {
        Ok(redis.command::<()>(&["SET", "k", "v"]).await.ok())
    })
    .await?;
    // Two seconds of a dump.
    redis.command::<()>(&["DEBUG", "POPULATE", "100"]).await?;
    let reading = coffer(&["digest", &format!("redis://127.0.0.1:{}", redis.port)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    wait::until("the dump began", Duration::from_secs(20), async || {
        let info: String = redis.command(&["INFO", "persistence"]).await?;
        Ok(info.contains("rdb_bgsave_in_progress:1").then_some(()))
    })
    .await?;
    redis.command::<()>(&["CLUSTER", "DELSLOTS", "5"]).await?;
    let done = reading.wait_with_output().context("wait for coffer")?;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("slots moved"), "{}", said(&done));
    Ok(())
}

#[test]
fn a_file_that_is_no_dump_is_called_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let told = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes)?;
        let path = format!("./{name}");
        let done = coffer(&["digest", "--quiet", &path]).current_dir(folder.path()).output()?;
        anyhow::Ok(said(&done))
    };
    for garbage in ["garbage!", "garbage and more of it"] {
        let text = told("g.rdb", garbage.as_bytes())?;
        let begins = "error: read ./g.rdb: not an RDB file: it begins with \"garbage";
        assert!(text.starts_with(begins), "{text}");
        assert!(text.contains("hint: an RDB file begins with REDIS or VALKEY"), "{text}");
        assert_eq!(text.matches("g.rdb").count(), 1, "{text}");
    }
    let cut = told("cut.rdb", b"REDIS0011")?;
    assert_eq!(cut, "error: read ./cut.rdb: the data ends early, at byte 9\n");
    let none = coffer(&["digest", "./none.rdb"]).current_dir(folder.path()).output()?;
    assert!(said(&none).starts_with("error: read ./none.rdb: No such file"), "{}", said(&none));
    Ok(())
}
