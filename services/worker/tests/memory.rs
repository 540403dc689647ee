//! Memory does not grow with the data: a server with hundreds of megabytes passes through a few.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_rdb::entries::{Entries, Event};
use coffer_worker::redis::{Replication, Server, connect};
use support::{TestServer, WAIT, line, loader};

/// The most memory that this process has had, in megabytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

// One test, since the peak is the whole process's.
#[tokio::test]
async fn hundreds_of_megabytes_pass_through_a_few() {
    let source = TestServer::start(&["--rdbcompression", "no"]);
    let target = TestServer::start(&[]);
    let mut client = source.client().await;
    line(&mut client, "DEBUG POPULATE 150000 key 1000").await;
    let before = peak();

    // From one server into the other, without ever holding the dump.
    let mut attached = connect(&source.redis(), WAIT).await.unwrap();
    let server = Server::ask(&mut attached).await.unwrap();
    let mut replication = Replication::start(attached, &server, WAIT).await.unwrap();
    let mut loader = loader(&target.redis()).await.unwrap();
    let mut entries = Entries::new(1 << 20);
    while let Some(chunk) = replication.next().await.unwrap() {
        entries.feed(chunk);
        while let Some(event) = entries.next().unwrap() {
            if let Event::Entry(entry) = event {
                loader.restore(entry, 0).await.unwrap();
            }
        }
        loader.flush().await.unwrap();
    }
    entries.finish().unwrap();
    assert!(replication.finish().unwrap().bytes > 150_000_000);
    assert_eq!(loader.finish(0).await.unwrap().total(), 150_000);
    let grown = peak() - before;
    assert!(grown < 48, "a load of 150 MB took {grown} MB");
    assert_eq!(source.digest().await, target.digest().await);

    // A value of 300 MB in a dump.
    line(&mut client, "SETRANGE huge 314572799 x").await;
    let mut attached = connect(&source.redis(), WAIT).await.unwrap();
    let server = Server::ask(&mut attached).await.unwrap();
    let mut replication = Replication::start(attached, &server, WAIT).await.unwrap();
    while replication.next().await.unwrap().is_some() {}
    assert!(replication.finish().unwrap().bytes > 450_000_000);
    let grown = peak() - before;
    assert!(grown < 48, "a dump of 450 MB took {grown} MB");
}
