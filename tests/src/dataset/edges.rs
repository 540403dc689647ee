//! The values that somebody once got wrong: odd keys, every number encoding, sizes around the limits of the compact
//! encodings, infinities, and streams with all that a stream can have.

use anyhow::Result;

use super::{Loader, Spec, command};

/// Library for [`Spec::functions`].
const LIBRARY: &str =
    "#!lua name=coffer_demo\nredis.register_function('coffer_answer', function() return 42 end)\n";

pub(super) async fn load(loader: &mut Loader, spec: &Spec) -> Result<()> {
    loader.select(spec.databases[0]).await?;
    strings(loader, spec).await?;
    collections(loader).await?;
    sorted_sets(loader).await?;
    streams(loader).await?;
    if spec.functions {
        loader.send(command("FUNCTION", ["LOAD", "REPLACE", LIBRARY])).await?;
    }
    loader.flush().await
}

async fn set(loader: &mut Loader, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
    loader.make("string", command("SET", [key.as_ref(), value.as_ref()])).await
}

async fn strings(loader: &mut Loader, spec: &Spec) -> Result<()> {
    for key in [
        &b""[..],
        b"\xff\xfe\x00\r\n",
        b"*3\r\n$3\r\nSET\r\n",
        b"key with spaces \"and\" 'quotes'",
        "ключ 🔑".as_bytes(),
    ] {
        set(loader, key, key).await?;
    }
    for byte in 0..=u8::MAX {
        set(loader, format!("edge:byte:{byte}"), [byte]).await?;
    }
    for number in [
        "0",
        "-1",
        "127",
        "-129",
        "32768",
        "2147483648",
        "9223372036854775807",
        "-9223372036854775808",
    ] {
        set(loader, format!("edge:int:{number}"), number).await?;
    }
    // Texts that look like numbers and must not become them.
    for text in ["007", "+1", "-0", "1e3", " 1", "9223372036854775808", "1.0", "inf", "nan"] {
        set(loader, format!("edge:no-int:{text}"), text).await?;
    }
    for length in [0, 43, 44, 45, 63, 64, 16_383, 16_384, 70_000] {
        set(loader, format!("edge:same:{length}"), "a".repeat(length)).await?;
    }
    loader.make("string", command("SETBIT", ["edge:bitmap", "100000", "1"])).await?;
    loader.make("string", command("PFADD", ["edge:hll:sparse", "a", "b", "c"])).await?;
    loader.make("string", command("PFADD", ["edge:hll:empty"])).await?;
    let many: Vec<String> = (0..5_000).map(|i| format!("visitor-{i}")).collect();
    let dense = ["edge:hll:dense"].into_iter().chain(many.iter().map(String::as_str));
    loader.make("string", command("PFADD", dense)).await?;
    set(loader, "edge:expiring", "soon").await?;
    loader.expire(b"edge:expiring").await?;
    if spec.largest_bytes > 0 {
        set(loader, "edge:largest", largest(spec)).await?;
    }
    Ok(())
}

/// Half noise, half text in turns of 4 KiB, so that neither compression nor the lack of it hides the other.
fn largest(spec: &Spec) -> Vec<u8> {
    let mut value = vec![b'.'; spec.largest_bytes];
    let mut state = spec.seed | 1;
    for block in value.chunks_mut(8192) {
        let noise = block.len().min(4096);
        for word in block[..noise].chunks_mut(8) {
            // xorshift: the noise need not be good, only fast in a debug build.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
    }
    value
}

async fn collections(loader: &mut Loader) -> Result<()> {
    let odd: [&[u8]; 8] =
        [b"", b"\x00", b"\xff\xfe", b"0", b"-9223372036854775808", b"007", b"3.0", b"\r\n"];
    let key = |name: &'static str| std::iter::once(name.as_bytes());
    loader.make("list", command("RPUSH", key("edge:list:odd").chain(odd).chain(odd))).await?;
    loader.make("set", command("SADD", key("edge:set:odd").chain(odd))).await?;
    let pairs = odd.iter().flat_map(|field| [*field, *field]);
    loader.make("hash", command("HSET", key("edge:hash:odd").chain(pairs))).await?;

    let many: Vec<String> = (0..5_000).map(|i| format!("element-{i}")).collect();
    let many = || many.iter().map(String::as_bytes);
    loader.make("list", command("RPUSH", key("edge:list:many").chain(many()))).await?;
    loader.make("set", command("SADD", key("edge:set:many").chain(many()))).await?;
    loader.make("hash", command("HSET", key("edge:hash:many").chain(many()))).await?;
    let large = vec![b'x'; 100_000];
    loader
        .make("list", command("RPUSH", [b"edge:list:large", &b"small"[..], &large, b"small"]))
        .await?;
    loader.make("hash", command("HSET", [b"edge:hash:large", &b"field"[..], &large])).await?;
    loader.make("set", command("SADD", [b"edge:set:large", &large[..]])).await?;
    for (name, numbers) in [
        ("16", ["1", "-2", "300"]),
        ("32", ["1", "-70000", "2147483647"]),
        ("64", ["1", "-5000000000", "9223372036854775807"]),
    ] {
        let key = format!("edge:intset:{name}");
        loader.make("set", command("SADD", [key.as_str()].into_iter().chain(numbers))).await?;
    }
    for kind in ["list", "set", "hash"] {
        loader.expire(format!("edge:{kind}:odd").as_bytes()).await?;
    }
    Ok(())
}

async fn sorted_sets(loader: &mut Loader) -> Result<()> {
    let scores = [
        "+inf",
        "-inf",
        "0",
        "-0",
        "1",
        "-1",
        "0.1",
        "3.14159265358979",
        "1e300",
        "-1e-300",
        "5e-324",
        "1.7976931348623157e308",
        "9007199254740993",
        "0.30000000000000004",
    ];
    let members: Vec<String> = (0..scores.len()).map(|i| format!("m{i}")).collect();
    let small = scores.iter().zip(&members).flat_map(|(score, member)| [*score, member.as_str()]);
    let small: Vec<&str> = ["edge:zset:scores"].into_iter().chain(small).collect();
    loader.make("zset", command("ZADD", small)).await?;

    let many: Vec<String> = (0..3_000)
        .flat_map(|i| [format!("{}", f64::from(i) / 7.0), format!("member-{i}")])
        .chain(scores.iter().zip(&members).flat_map(|(s, m)| [(*s).to_owned(), m.clone()]))
        .collect();
    let many = ["edge:zset:many"].into_iter().chain(many.iter().map(String::as_str));
    loader.make("zset", command("ZADD", many)).await?;
    loader
        .make("zset", command("GEOADD", ["edge:geo", "13.361389", "38.115556", "Palermo"]))
        .await?;
    loader.expire(b"edge:zset:scores").await
}

async fn streams(loader: &mut Loader) -> Result<()> {
    // Entries, groups at different places, pending entries, a consumer without any, deleted and acknowledged ones.
    loader.make("stream", command("XADD", ["edge:stream", "1-1", "f", "v"])).await?;
    for i in 2..300 {
        let id = format!("{i}-0");
        let value = format!("value {i}");
        // Same fields as before or others: streams store the two differently.
        let field = if i % 10 == 0 { "other" } else { "f" };
        loader.send(command("XADD", ["edge:stream", &id, field, &value])).await?;
    }
    for words in [
        &["CREATE", "edge:stream", "readers", "0"][..],
        &["CREATE", "edge:stream", "late", "$"],
        &["CREATE", "edge:stream", "middle", "150-0", "ENTRIESREAD", "150"],
        &["CREATECONSUMER", "edge:stream", "readers", "idle"],
    ] {
        loader.send(command("XGROUP", words)).await?;
    }
    for (consumer, count) in [("anna", "20"), ("bert\u{0}", "7")] {
        loader
            .send(command(
                "XREADGROUP",
                ["GROUP", "readers", consumer, "COUNT", count, "STREAMS", "edge:stream", ">"],
            ))
            .await?;
    }
    loader.send(command("XACK", ["edge:stream", "readers", "1-1", "5-0"])).await?;
    loader
        .send(command(
            "XCLAIM",
            [
                "edge:stream",
                "readers",
                "anna",
                "0",
                "22-0",
                "RETRYCOUNT",
                "9",
                "TIME",
                "1600000000123",
            ],
        ))
        .await?;
    // An entry that is gone but still pending, and holes at the start, in the middle and at the end.
    loader.send(command("XDEL", ["edge:stream", "1-1", "3-0", "150-0", "299-0"])).await?;

    // Large ids, binary fields, trimmed.
    loader
        .make(
            "stream",
            command(
                "XADD",
                [&b"edge:stream:binary"[..], b"18446744073709551615-1", b"\xff\x00", b"\r\n"],
            ),
        )
        .await?;
    loader.make("stream", command("XADD", ["edge:stream:trimmed", "1-0", "a", "b"])).await?;
    for i in 2..200 {
        loader
            .send(command(
                "XADD",
                ["edge:stream:trimmed", "MAXLEN", "5", &format!("{i}-0"), "a", "b"],
            ))
            .await?;
    }
    // Empty, and yet with a last id and a group.
    loader
        .make("stream", command("XGROUP", ["CREATE", "edge:stream:empty", "g", "$", "MKSTREAM"]))
        .await?;
    loader.send(command("XADD", ["edge:stream:empty", "77-7", "a", "b"])).await?;
    loader.send(command("XDEL", ["edge:stream:empty", "77-7"])).await?;
    loader.expire(b"edge:stream:trimmed").await
}
