//! The same data for every server: each type in each of its encodings, with the edges of each.

use super::{Make, Server, noise};

/// Numbers around every border between two widths of a listpack, a ziplist or an intset.
const NUMBERS: [i64; 31] = [
    0,
    1,
    12,
    13,
    127,
    128,
    255,
    256,
    4095,
    4096,
    32_767,
    32_768,
    65_535,
    8_388_607,
    8_388_608,
    2_147_483_647,
    2_147_483_648,
    i64::MAX - 1,
    i64::MAX,
    -1,
    -2,
    -128,
    -129,
    -4096,
    -4097,
    -32_768,
    -32_769,
    -8_388_608,
    -8_388_609,
    -2_147_483_649,
    i64::MIN,
];

/// Lengths around every border between two widths of a length.
const LENGTHS: [usize; 16] =
    [0, 1, 20, 21, 63, 64, 127, 128, 252, 253, 254, 255, 4095, 4096, 16_383, 16_384];

/// What makes a server keep collections packed, also those with long elements.
pub(crate) const PACKED: &[&str] = &[
    "--hash-max-ziplist-entries",
    "5000",
    "--hash-max-ziplist-value",
    "100000",
    "--zset-max-ziplist-entries",
    "5000",
    "--zset-max-ziplist-value",
    "100000",
];

/// What makes a server unpack everything.
pub(crate) const UNPACKED: &[&str] = &[
    "--hash-max-ziplist-entries",
    "0",
    "--zset-max-ziplist-entries",
    "0",
    "--set-max-intset-entries",
    "0",
    "--rdbcompression",
    "no",
];

fn elements(longest: usize) -> Vec<Vec<u8>> {
    let numbers = NUMBERS.iter().map(|number| number.to_string().into_bytes());
    let texts = LENGTHS.iter().filter(|length| **length <= longest).map(|length| noise(*length));
    let like_numbers = ["00", "-0", "+1", "1.5", " 1", "9223372036854775808", "inf"];
    let packable = std::iter::once(b"abc".repeat(longest.min(9000) / 3));
    numbers.chain(texts).chain(like_numbers.map(|text| text.into())).chain(packable).collect()
}

/// Fills in what every server since 2.8 has.
pub(crate) fn fill(server: &mut Server) {
    fill_edges(server, 16_384);
    fill_big(server);
}

/// The edges of every encoding, with elements of at most so many bytes.
pub(crate) fn fill_edges(server: &mut Server, longest: usize) {
    let elements = elements(longest);
    for (index, element) in elements.iter().enumerate() {
        server.run(&[b"SET", format!("string:{index}").as_bytes(), element]);
        server.run(&[b"RPUSH", b"list", element]);
        server.run(&[b"LPUSH", b"list:backwards", element]);
        server.run(&[b"SADD", b"set", element]);
        server.run(&[b"HSET", b"hash:values", format!("f{index}").as_bytes(), element]);
        server.run(&[b"HSET", b"hash:fields", element, b"v"]);
        server.run(&[b"ZADD", b"zset:members", b"1", element]);
        if !element.is_empty() {
            server.run(&[b"SET", element, b"by its name"]);
        }
    }
    server.run(&[b"SET", b"", b"without a name"]);
    for (index, number) in NUMBERS.iter().enumerate() {
        let number = number.to_string();
        let small = number.len() < 6;
        server.run(&[b"SADD", b"intset", number.as_bytes()]);
        if small {
            server.run(&[b"SADD", b"intset:16", number.as_bytes()]);
        } else if number.len() < 10 {
            server.run(&[b"SADD", b"intset:32", number.as_bytes()]);
        }
        server.run(&[b"ZADD", b"zset:scores", number.as_bytes(), format!("m{index}").as_bytes()]);
    }
    // Without -0, whose sign servers keep or drop as it suits them.
    let scores = [
        "inf",
        "-inf",
        "1e300",
        "-1e-300",
        "0.1",
        "3.3333333333333335",
        "1.5",
        "5e-324",
        "0.30000000000000004",
        "9007199254740993",
        "1.7976931348623157e308",
    ];
    for score in scores {
        server.run(&[b"ZADD", b"zset:scores", score.as_bytes(), score.as_bytes()]);
    }
    for line in [
        "PFADD hll a b c d e f",
        "SETBIT bits 100000 1",
        "SET later x",
        "PEXPIREAT later 4102444800123",
        "SADD later:set x",
        "PEXPIREAT later:set 4102444800000",
        "SELECT 3",
        "SET string:0 of-database-three",
        "RPUSH l x",
        "SELECT 15",
        "HSET h f v",
        "SELECT 0",
    ] {
        server.line(line);
    }
}

fn fill_big(server: &mut Server) {
    for index in 0..1500_u32 {
        let text = format!("{index}:{}", "z".repeat(index as usize % 90));
        let score = (f64::from(index) / 7.0).to_string();
        server.run(&[b"RPUSH", b"big:list", text.as_bytes()]);
        server.run(&[b"SADD", b"big:set", text.as_bytes()]);
        server.run(&[b"SADD", b"big:intset", (index * 1_000_003).to_string().as_bytes()]);
        server.run(&[b"HSET", b"big:hash", text.as_bytes(), score.as_bytes()]);
        server.run(&[b"ZADD", b"big:zset", score.as_bytes(), text.as_bytes()]);
    }
    server.run(&[b"SET", b"big:string", &noise(2 << 20)]);
    server.run(&[b"SET", b"big:packed", &b"0123456789".repeat(100_000)]);
}

/// Fills in streams as servers since 5.0 have them.
pub(crate) fn fill_streams(server: &mut Server, make: Make) {
    for line in [
        "XADD stream 1-1 a 1 b 2",
        "XADD stream 1-2 a 3 b 4",
        "XADD stream 5-0 c 5",
        "XADD stream 1000000000000-18446744073709551614 a 127 b -4096",
        "XADD stream 1000000000000-18446744073709551615 a x a y a z",
        "XADD stream 18446744073709551614-0 last one",
        "XGROUP CREATE stream readers 0",
        "XGROUP CREATE stream empty 5-0",
        "XREADGROUP GROUP readers alice COUNT 3 STREAMS stream >",
        "XREADGROUP GROUP readers bob COUNT 2 STREAMS stream >",
        "XACK stream readers 1-2",
        // Pending, and no longer there.
        "XDEL stream 5-0",
        "XCLAIM stream readers carol 0 1-1 TIME 1600000000000 RETRYCOUNT 17 FORCE JUSTID",
        // A consumer that has nothing.
        "XREADGROUP GROUP empty idle COUNT 1 STREAMS stream 0",
        "XGROUP CREATE stream:empty coffer $ MKSTREAM",
        "XADD stream:emptied 7-7 f v",
        "XDEL stream:emptied 7-7",
        "XADD stream:trimmed 1-1 f v",
        "XADD stream:trimmed 1-2 f v",
        "XADD stream:trimmed 1-3 f v",
        "XTRIM stream:trimmed MAXLEN 1",
        "PEXPIREAT stream:trimmed 4102444800999",
    ] {
        server.run(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    }
    for index in 0..700_u32 {
        let text = format!("{index}:{}", "s".repeat(index as usize % 50));
        let name: &[u8] = if index % 5 == 0 { b"other" } else { b"same" };
        server.run(&[b"XADD", b"big:stream", b"*", name, text.as_bytes()]);
    }
    server.line("XGROUP CREATE big:stream g 0");
    server.line("XREADGROUP GROUP g c COUNT 500 STREAMS big:stream >");
    if make.release() >= (6, 2) {
        server.line("XGROUP CREATECONSUMER big:stream g none");
    }
}

/// Fills in hashes with fields that expire.
pub(crate) fn fill_field_ttls(server: &mut Server) {
    for key in ["ttl:small", "ttl:large"] {
        let fields = if key == "ttl:small" { 5 } else { 700 };
        for index in 0..fields {
            let field = format!("f{index}");
            server.run(&[b"HSET", key.as_bytes(), field.as_bytes(), &noise(index)]);
            if index % 3 != 0 {
                let at = (4_102_444_800_000 + (index as u64 % 4) * 1001).to_string();
                let command: [&[u8]; 6] = [
                    b"HPEXPIREAT",
                    key.as_bytes(),
                    at.as_bytes(),
                    b"FIELDS",
                    b"1",
                    field.as_bytes(),
                ];
                server.run(&command);
            }
        }
    }
    // Fields that had times and have none any more.
    for line in [
        "HSET ttl:gone a 1 b 2",
        "HPEXPIREAT ttl:gone 4102444800000 FIELDS 1 a",
        "HPERSIST ttl:gone FIELDS 1 a",
    ] {
        server.line(line);
    }
}

/// Fills in everything that the server has.
pub(crate) fn fill_all(server: &mut Server, make: Make) {
    fill(server);
    fill_streams(server, make);
    if make.has_field_ttls() {
        fill_field_ttls(server);
    }
}
