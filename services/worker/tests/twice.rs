//! A key that `SCAN` names twice, as it may while the server's table shrinks, and dumps in which one stands twice.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use bytes::BytesMut;
use coffer_api::outcome::Verified;
use coffer_api::session::Redis;
use coffer_rdb::resp::{Reply, write_command};
use sha2::{Digest, Sha256};
use support::gateway::Services;
use support::job::{backed_up, backup, restore, restored};
use support::{TestServer, line, proxy};

/// The server at which each walk names the list again at its end.
async fn naming_twice(server: &TestServer) -> Redis {
    proxy::through(&server.redis(), |reply| {
        if let Reply::Array(Some(pair)) = reply
            && let [Reply::Bulk(Some(cursor)), Reply::Array(Some(names))] = &mut pair[..]
            && cursor == "0"
        {
            names.push(Reply::Bulk(Some("list".into())));
        }
    })
    .await
}

#[tokio::test]
async fn a_key_that_is_named_twice_is_read_once() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut client = source.client().await;
    line(&mut client, "DEBUG POPULATE 3000 key 10").await;
    line(&mut client, "RPUSH list a b").await;
    let endpoint = services.serve().await;
    let twice = naming_twice(&source).await;
    for method in ["--method=scan", "--method=portable"] {
        let done = backed_up(backup(twice.clone(), &endpoint, &[method]).await);
        assert_eq!(done.keys.values().sum::<u64>(), 3001);
        let conflicts: &[&str] = match method {
            "--method=scan" => &["replace", "skip", "fail"],
            _ => &["replace"],
        };
        for conflict in conflicts {
            let target = TestServer::start(&[]);
            let more = format!("--on-conflict={conflict}");
            let done = restored(restore(target.redis(), &endpoint, &[&more]).await);
            assert_eq!((done.restored.values().sum::<u64>(), done.skipped), (3001, 0));
            assert_eq!(source.digest().await, target.digest().await);
        }
    }
}

/// Adds commands behind the dump, of a list that stands in it before.
fn append(services: &Services, commands: &[&[&[u8]]]) {
    services.set(|stored| {
        let mut more = BytesMut::new();
        commands.iter().for_each(|command| write_command(&mut more, command));
        stored.data.extend_from_slice(&more);
        let manifest = stored.manifest.as_mut().unwrap();
        manifest.files[0].sha256 = Sha256::digest(&stored.data).to_vec().into();
        manifest.files[0].crc64 = None;
        manifest.files[0].bytes = stored.data.len() as u64;
        *manifest.databases[0].keys.get_mut("list").unwrap() += 1;
    });
}

#[tokio::test]
async fn a_dump_in_which_a_key_stands_twice_is_restored_as_it_stands_last() {
    let (source, services) = (TestServer::start(&[]), Services::default());
    let mut client = source.client().await;
    line(&mut client, "SET k v").await;
    line(&mut client, "RPUSH list old").await;
    let endpoint = services.serve().await;
    backed_up(backup(source.redis(), &endpoint, &["--method=portable"]).await);
    append(&services, &[&[b"SET", b"other", b"v"]]);
    line(&mut client, "SET other v").await;
    services.set(|stored| {
        // The list is the last again, so that its parts do not follow each other.
        let keys = &mut stored.manifest.as_mut().unwrap().databases[0].keys;
        *keys.get_mut("list").unwrap() -= 1;
        *keys.get_mut("string").unwrap() += 1;
    });
    append(&services, &[&[b"RPUSH", b"list", b"a"], &[b"RPUSH", b"list", b"b"]]);
    line(&mut client, "DEL list").await;
    line(&mut client, "RPUSH list a b").await;
    let target = TestServer::start(&[]);
    let done = restored(restore(target.redis(), &endpoint, &[]).await);
    assert_eq!(done.restored.values().sum::<u64>(), 4);
    assert_eq!(source.digest().await, target.digest().await);

    line(&mut client, "DEL list").await;
    line(&mut client, "RPUSH list old").await;
    backed_up(backup(source.redis(), &endpoint, &["--method=scan"]).await);
    line(&mut client, "RPUSH list new").await;
    let Reply::Bulk(Some(payload)) = line(&mut client, "DUMP list").await else { panic!() };
    append(&services, &[&[b"RESTORE", b"list", b"0", &payload, b"REPLACE"]]);
    for more in [&["--verify=true"][..], &["--on-conflict=fail", "--verify=true"]] {
        let target = TestServer::start(&[]);
        let done = restored(restore(target.redis(), &endpoint, more).await);
        assert_eq!(done.verified, Some(Verified { keys: 3, ..Verified::default() }));
        assert_eq!(source.digest().await, target.digest().await);
    }
    let target = TestServer::start(&[]);
    let done = restored(restore(target.redis(), &endpoint, &["--on-conflict=skip"]).await);
    assert_eq!((done.restored.values().sum::<u64>(), done.skipped), (3, 0));
}
