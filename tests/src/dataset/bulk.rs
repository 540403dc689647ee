//! Ordinary keys: mostly strings and small collections, spread over the databases, a quarter of them expiring.

use anyhow::Result;
use rand::Rng as _;

use super::{Loader, Spec, command};

pub(super) async fn load(loader: &mut Loader, spec: &Spec) -> Result<()> {
    let wanted = spec.keys.saturating_sub(loader.summary.total());
    let databases = spec.databases.len();
    for (place, database) in spec.databases.iter().enumerate() {
        loader.select(*database).await?;
        // The first database has what the division leaves over, and so never less than the others.
        let share = wanted / databases + if place == 0 { wanted % databases } else { 0 };
        for number in 0..share {
            key(loader, *database, number).await?;
        }
    }
    loader.flush().await
}

async fn key(loader: &mut Loader, database: u32, number: usize) -> Result<()> {
    let kind = match loader.random.random_range(0..100) {
        0..45 => "string",
        45..60 => "hash",
        60..72 => "list",
        72..84 => "set",
        84..95 => "zset",
        95..98 => "stream",
        _ => "hll",
    };
    let mut key = format!("{kind}:{database}:{number}").into_bytes();
    if loader.random.random_bool(0.02) {
        key.extend(b"\xff\x00\xc3");
        key.push(loader.random.random());
    }
    match kind {
        "string" => string(loader, &key).await?,
        "stream" => stream(loader, &key).await?,
        "hll" => {
            let members = members(loader, 50);
            let words = std::iter::once(&key).chain(&members);
            loader.make("string", command("PFADD", words)).await?;
        }
        kind => collection(loader, kind, &key).await?,
    }
    if loader.random.random_bool(0.25) {
        loader.expire(&key).await?;
    }
    Ok(())
}

async fn string(loader: &mut Loader, key: &[u8]) -> Result<()> {
    let value = match loader.random.random_range(0..4) {
        0 => loader.random.random::<i64>().to_string().into_bytes(),
        1 => loader.bytes(2_000),
        _ => loader.bytes(100),
    };
    loader.make("string", command("SET", [key, &value])).await
}

async fn collection(loader: &mut Loader, kind: &'static str, key: &[u8]) -> Result<()> {
    let members = members(loader, 20);
    let mut words = vec![key.to_vec()];
    let name = match kind {
        "hash" => {
            for member in members {
                words.push(member);
                words.push(loader.bytes(40));
            }
            "HSET"
        }
        "zset" => {
            for member in members {
                let score: f64 = match loader.random.random_range(0..10) {
                    0 => f64::INFINITY,
                    1 => f64::NEG_INFINITY,
                    2..6 => f64::from(loader.random.random_range(-1000..1000)),
                    _ => loader.random.random::<f64>() * 1e6 - 5e5,
                };
                words.push(score.to_string().into_bytes());
                words.push(member);
            }
            "ZADD"
        }
        "list" => {
            words.extend(members);
            "RPUSH"
        }
        _ => {
            words.extend(members);
            "SADD"
        }
    };
    loader.make(kind, command(name, &words)).await
}

/// At least one member; numbers or bytes, so that sets come as intsets too.
fn members(loader: &mut Loader, most: usize) -> Vec<Vec<u8>> {
    let count = loader.random.random_range(1..=most);
    let numbers = loader.random.random_bool(0.3);
    (0..count)
        .map(|_| {
            if numbers {
                loader.random.random_range(-100_000..100_000).to_string().into_bytes()
            } else {
                loader.bytes(30)
            }
        })
        .collect()
}

async fn stream(loader: &mut Loader, key: &[u8]) -> Result<()> {
    let entries = loader.random.random_range(1..10);
    for entry in 1..=entries {
        let id = format!("{}-{entry}", 1_700_000_000_000_u64 + entry);
        let value = loader.bytes(40);
        let add = command("XADD", [key, id.as_bytes(), b"field", &value]);
        if entry == 1 {
            loader.make("stream", add).await?;
        } else {
            loader.send(add).await?;
        }
    }
    if loader.random.random_bool(0.5) {
        loader.send(command("XGROUP", [b"CREATE", key, b"group", b"0"])).await?;
        let read = [&b"GROUP"[..], b"group", b"consumer", b"COUNT", b"3", b"STREAMS", key, b">"];
        loader.send(command("XREADGROUP", read)).await?;
    }
    Ok(())
}
