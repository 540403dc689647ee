//! The connection is cut at some hundred points of a dump and of a restore: there is an error each time,
//! never half a dump that passes for a whole one, never a restore that passes for complete.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_api::session::Redis;
use support::{TestServer, dump, line, load};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const POINTS: usize = 300;

/// Some hundred keys of each type that a script can make.
async fn fill(server: &TestServer) {
    let script = b"for i = 1, 300 do local m = 'member-' .. i \
        redis.call('HSET', 'hash-' .. i, m, i) redis.call('SADD', 'set-' .. i % 9, m) \
        redis.call('ZADD', 'zset-' .. i % 7, i / 3, m) redis.call('RPUSH', 'list-' .. i % 5, m) \
        redis.call('XADD', 'stream', i .. '-1', 'f', m) redis.call('SET', 'string-' .. i, m) end";
    server.client().await.run(&[b"EVAL", script, b"0"]).await.unwrap();
}

fn at(redis: &Redis, port: u16) -> Redis {
    Redis { port, ..redis.clone() }
}

/// `count` points of `0..whole`, spread evenly, the last byte among them.
fn points(whole: usize, count: usize) -> impl Iterator<Item = usize> {
    (1..=count).map(move |index| (whole * index / count).saturating_sub(1))
}

#[tokio::test]
async fn of_a_dump() {
    let source = TestServer::start(&[]);
    fill(&source).await;
    let record = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = at(&source.redis(), record.local_addr().unwrap().port());
    let server = source.port;
    // Once through a proxy that keeps what the server says.
    let recording = tokio::spawn(async move {
        let (client, _) = record.accept().await.unwrap();
        let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up =
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let (mut said, mut buffer) = (Vec::new(), vec![0; 65_536]);
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..read]);
            if to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        up.abort();
        said
    });
    let (whole, received) = dump(&through).await.unwrap();
    let whole: Vec<u8> = whole.concat();
    let keys = received.summary.unwrap().total();
    let mut said = recording.await.unwrap();
    // Behind the dump's end mark a server may add empty lines.
    while said.last() == Some(&b'\n') {
        said.pop();
    }
    assert!(keys > 600 && said.len() > whole.len());

    // Then from the record, cut.
    let replay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cut = at(&source.redis(), replay.local_addr().unwrap().port());
    let (cuts, mut next) = tokio::sync::mpsc::channel::<usize>(1);
    let record = said.clone();
    let replaying = tokio::spawn(async move {
        while let Some(point) = next.recv().await {
            let (mut client, _) = replay.accept().await.unwrap();
            client.write_all(&record[..point]).await.unwrap();
            client.shutdown().await.unwrap();
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        }
    });
    // The log-in and its retries are not of interest: cuts begin where the dump does.
    let begin = said.windows(9).position(|window| window == b"REDIS0010").unwrap() - 60;
    for point in points(said.len() - begin, POINTS) {
        cuts.send(begin + point).await.unwrap();
        let cut_off = dump(&cut).await;
        assert!(cut_off.is_err(), "cut at {point} of {}, it passed for whole", said.len() - begin);
    }
    cuts.send(said.len()).await.unwrap();
    assert_eq!(dump(&cut).await.unwrap().0.concat(), whole);
    drop(cuts);
    replaying.await.unwrap();
}

#[tokio::test]
async fn of_a_restore() {
    let (source, target) = (TestServer::start(&[]), TestServer::start(&[]));
    fill(&source).await;
    let (chunks, _) = dump(&source.redis()).await.unwrap();
    target.client().await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cut = at(&target.redis(), proxy.local_addr().unwrap().port());
    let (cuts, mut next) = tokio::sync::mpsc::channel::<usize>(1);
    let server = target.port;
    // Passes so many bytes on to the server and hangs up; tells how many there were.
    let proxying = tokio::spawn(async move {
        let mut passed = 0;
        while let Some(point) = next.recv().await {
            let (client, _) = proxy.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let (from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let down =
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_server, &mut to_client).await },
                );
            let mut limited = from_client.take(point as u64);
            passed = tokio::io::copy(&mut limited, &mut to_server).await.unwrap_or(0);
            down.abort();
        }
        passed
    });
    cuts.send(usize::MAX >> 1).await.unwrap();
    let tally = load(&cut, &chunks, 0).await.unwrap();
    drop(cuts);
    let whole = usize::try_from(proxying.await.unwrap()).unwrap();
    assert!(tally.total() > 600 && whole > 20_000);

    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cut = at(&target.redis(), proxy.local_addr().unwrap().port());
    let points: Vec<usize> = points(whole, POINTS).filter(|point| *point > 200).collect();
    let count = points.len();
    let cutting = tokio::spawn(async move {
        for point in points {
            let (client, _) = proxy.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let (from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let down =
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_server, &mut to_client).await },
                );
            let _ = tokio::io::copy(&mut from_client.take(point as u64), &mut to_server).await;
            down.abort();
        }
    });
    for index in 0..count {
        assert!(load(&cut, &chunks, 0).await.is_err(), "cut {index} passed for complete");
    }
    cutting.await.unwrap();
    // After all of that, once more without a cut.
    let tally = load(&target.redis(), &chunks, 0).await.unwrap();
    assert_eq!(tally.replaced, tally.total());
    assert_eq!(source.digest().await, target.digest().await);
    line(&mut target.client().await, "PING").await;
}
