//! The data sets: bytes that do not compress, and what a Redis dump looks like.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::Result;

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Noise, like encrypted or compressed values.
    Random,
    /// Keys and values of a web shop: sessions, users, carts, scores, and some thumbnails.
    Redis,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Redis => "redis",
        }
    }
}

/// Writes a data set of some size. The same seed makes the same bytes.
pub(crate) fn write(kind: Kind, bytes: u64, path: &Path) -> Result<()> {
    let mut random = StdRng::seed_from_u64(bytes ^ 0x5eed);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut left = usize::try_from(bytes)?;
    let mut entries = Vec::with_capacity(1 << 20);
    let mut number = 0_u64;
    while left > 0 {
        entries.clear();
        match kind {
            Kind::Random => {
                entries.resize(1 << 20, 0);
                random.fill_bytes(&mut entries);
            }
            Kind::Redis => {
                while entries.len() < 1 << 20 {
                    number += 1;
                    entry(&mut random, number, &mut entries)?;
                }
            }
        }
        let taken = entries.len().min(left);
        file.write_all(&entries[..taken])?;
        left -= taken;
    }
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}

/// One key with its value, framed as in an RDB file: type byte, length, bytes.
fn entry(random: &mut StdRng, number: u64, out: &mut Vec<u8>) -> Result<()> {
    let (key, value) = match random.random_range(0..10) {
        0..=3 => (format!("session:{:016x}", random.next_u64()), session(random)),
        4..=6 => (format!("user:{number}"), user(random, number)),
        7 => (format!("cart:{number}"), cart(random)),
        8 => (format!("scores:{}", number % 5000), scores(random)),
        _ => {
            let mut thumbnail = vec![0; random.random_range(150..900)];
            random.fill_bytes(&mut thumbnail);
            (format!("thumb:{number}"), thumbnail)
        }
    };
    out.push(0);
    for bytes in [key.as_bytes(), &value] {
        out.push(0x80);
        out.extend_from_slice(&u32::try_from(bytes.len())?.to_be_bytes());
        out.extend_from_slice(bytes);
    }
    Ok(())
}

fn session(random: &mut StdRng) -> Vec<u8> {
    let agents = ["Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Macintosh)", "okhttp/4.12"];
    format!(
        r#"{{"user":{},"token":"{:032x}","ip":"10.{}.{}.{}","agent":"{}","created":17{:08},"csrf":"{:016x}","locale":"en_GB"}}"#,
        random.random_range(0..5_000_000),
        random.random::<u128>(),
        random.random::<u8>(),
        random.random::<u8>(),
        random.random::<u8>(),
        agents[random.random_range(0..agents.len())],
        random.random_range(0..100_000_000),
        random.next_u64(),
    )
    .into_bytes()
}

fn user(random: &mut StdRng, number: u64) -> Vec<u8> {
    let cities = ["Lisbon", "Kraków", "Nairobi", "Osaka", "Quito", "Tallinn"];
    let mut fields = format!(
        "name\x0cUser {number}\x05email\x14user{number}@mail{}.example\x04city\x08{}\x07balance{:08}\x05since2024-{:02}-{:02}T{:02}:{:02}:00Z",
        random.random_range(0..90),
        cities[random.random_range(0..cities.len())],
        random.random_range(0..100_000_000),
        random.random_range(1..13),
        random.random_range(1..29),
        random.random_range(0..24),
        random.random_range(0..60),
    )
    .into_bytes();
    fields.extend_from_slice(&random.random::<[u8; 12]>());
    fields
}

fn cart(random: &mut StdRng) -> Vec<u8> {
    let items = (0..random.random_range(1..12)).map(|_| {
        format!(
            r#"{{"sku":"{:08X}","qty":{},"cents":{}}}"#,
            random.random::<u32>(),
            random.random_range(1..4),
            random.random_range(99..250_000)
        )
    });
    format!("[{}]", items.collect::<Vec<_>>().join(",")).into_bytes()
}

/// A sorted set as the file has it: member, then the score as eight bytes.
fn scores(random: &mut StdRng) -> Vec<u8> {
    let mut set = Vec::new();
    for _ in 0..random.random_range(20..120) {
        set.extend_from_slice(
            format!("player:{:07}", random.random_range(0..9_999_999)).as_bytes(),
        );
        let score = f64::from(random.random_range(0..1_000_000_u32));
        set.extend_from_slice(&score.to_le_bytes());
    }
    set
}
