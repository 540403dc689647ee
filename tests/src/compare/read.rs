//! Reads keys in pipelines and digests what they hold.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher as _},
};

use anyhow::{Context as _, Result, bail};
use redis::{Cmd, Pipeline, Value, aio::MultiplexedConnection};

use super::Entry;

/// Keys in a pipeline: enough to hide the round trips, few enough to hold their values.
const BATCH: usize = 1_000;

pub(super) struct Reader {
    connection: MultiplexedConnection,
    /// Fields of a hash can expire: Redis since 7.4, Valkey since 9.
    fields_expire: bool,
    functions: bool,
}

impl Reader {
    pub(super) async fn new(client: &redis::Client) -> Result<Self> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .context("connect to the Redis to compare")?;
        let mut command = redis::cmd("COMMAND");
        command.arg("INFO").arg("HPEXPIRETIME").arg("FUNCTION");
        let known: Vec<Value> = command.query_async(&mut connection).await?;
        let knows = |place: usize| {
            known
                .get(place)
                .is_some_and(|value| !matches!(value, Value::Nil) && *value != Value::Array(vec![]))
        };
        Ok(Self { fields_expire: knows(0), functions: knows(1), connection })
    }

    pub(super) async fn databases(&mut self) -> Result<Vec<u32>> {
        let info: String =
            redis::cmd("INFO").arg("keyspace").query_async(&mut self.connection).await?;
        let numbers = info.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':'));
        Ok(numbers.map(|(number, _)| number.parse()).collect::<Result<_, _>>()?)
    }

    pub(super) async fn functions(&mut self) -> Result<BTreeMap<String, u64>> {
        let mut libraries = BTreeMap::new();
        if !self.functions {
            return Ok(libraries);
        }
        let list: Vec<Value> = redis::cmd("FUNCTION")
            .arg("LIST")
            .arg("WITHCODE")
            .query_async(&mut self.connection)
            .await?;
        for library in list {
            let fields: BTreeMap<String, Value> = redis::from_redis_value(library)?;
            let name = fields.get("library_name").context("a function library without a name")?;
            let name: String = redis::from_redis_value(name.clone())?;
            let code = fields.get("library_code").context("a function library without code")?;
            libraries.insert(name, digest(code));
        }
        Ok(libraries)
    }

    /// Every key of a database; one that expires meanwhile may be missing.
    pub(super) async fn database(&mut self, database: u32) -> Result<BTreeMap<Vec<u8>, Entry>> {
        redis::cmd("SELECT").arg(database).exec_async(&mut self.connection).await?;
        let mut entries = BTreeMap::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("COUNT").arg(BATCH);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.connection).await?;
            self.batch(keys, &mut entries).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(entries);
            }
        }
    }

    async fn batch(
        &mut self,
        keys: Vec<Vec<u8>>,
        entries: &mut BTreeMap<Vec<u8>, Entry>,
    ) -> Result<()> {
        let mut facts = Pipeline::new();
        for key in &keys {
            facts.cmd("TYPE").arg(key).cmd("PEXPIRETIME").arg(key);
        }
        let facts: Vec<(String, i64)> = facts.query_async(&mut self.connection).await?;
        let mut values = Pipeline::new();
        for (key, (kind, _)) in keys.iter().zip(&facts) {
            values.add_command(read(kind, key));
        }
        let values: Vec<Value> = values.query_async(&mut self.connection).await?;
        for ((key, (kind, expires)), value) in keys.into_iter().zip(facts).zip(values) {
            if kind == "none" || expires == -2 {
                continue;
            }
            let mut entry = entry(kind, value)
                .with_context(|| format!("read key \"{}\"", key.escape_ascii()))?;
            entry.expires = (expires >= 0).then_some(expires);
            if entry.kind == "hash" && self.fields_expire {
                entry.rest = self.field_times(&key).await?;
            }
            entries.insert(key, entry);
        }
        Ok(())
    }

    async fn field_times(&mut self, key: &[u8]) -> Result<u64> {
        let mut fields: Vec<Vec<u8>> =
            redis::cmd("HKEYS").arg(key).query_async(&mut self.connection).await?;
        fields.sort_unstable();
        let mut times = redis::cmd("HPEXPIRETIME");
        times.arg(key).arg("FIELDS").arg(fields.len()).arg(&fields);
        Ok(digest(&times.query_async(&mut self.connection).await?))
    }
}

fn read(kind: &str, key: &[u8]) -> Cmd {
    let (name, rest): (&str, &[&str]) = match kind {
        "string" => ("GET", &[]),
        "list" => ("LRANGE", &["0", "-1"]),
        "set" => ("SMEMBERS", &[]),
        "hash" => ("HGETALL", &[]),
        "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        "stream" => ("XINFO", &["FULL", "COUNT", "0"]),
        "none" => ("EXISTS", &[]),
        // A module's: only the module could read it otherwise.
        _ => ("DUMP", &[]),
    };
    let mut command = redis::cmd(name);
    if kind == "stream" {
        command.arg("STREAM");
    }
    command.arg(key).arg(rest);
    command
}

fn entry(kind: String, value: Value) -> Result<Entry> {
    let (size, value, rest) = match (kind.as_str(), value) {
        ("string", Value::BulkString(bytes)) => (bytes.len(), digest_bytes(&bytes), 0),
        // In their order, which is part of the value.
        ("list", Value::Array(items)) => (items.len(), digest(&Value::Array(items)), 0),
        ("zset", Value::Array(items)) => (items.len() / 2, digest(&Value::Array(items)), 0),
        ("set", Value::Array(items) | Value::Set(items)) => (items.len(), digest_sorted(items), 0),
        ("hash", value) => {
            let pairs = pairs(value)?;
            let size = pairs.len();
            (
                size,
                digest_sorted(pairs.into_iter().map(|(f, v)| Value::Array(vec![f, v])).collect()),
                0,
            )
        }
        ("stream", value) => stream(value)?,
        ("string" | "list" | "zset" | "set", value) => {
            bail!("the server answered {value:?} for a {kind}")
        }
        (_, value) => (0, digest(&value), 0),
    };
    Ok(Entry { kind, size, value, rest, expires: None })
}

/// The reply of `XINFO STREAM key FULL COUNT 0`: number of entries, digest of the entries, digest of the rest. How the
/// server keeps it in memory (`radix-tree-*`) and what it derives (`lag`) are not part of the value.
fn stream(value: Value) -> Result<(usize, u64, u64)> {
    let mut size = 0;
    let mut entries = 0;
    let mut rest = Vec::new();
    for (name, value) in pairs(value)? {
        let name: String = redis::from_redis_value(name)?;
        match (name.as_str(), value) {
            ("radix-tree-keys" | "radix-tree-nodes", _) => {}
            ("entries", Value::Array(items)) => {
                size = items.len();
                entries = digest(&Value::Array(items));
            }
            ("groups", Value::Array(groups)) => {
                for group in groups {
                    for (name, value) in pairs(group)? {
                        if redis::from_redis_value::<String>(name.clone())? != "lag" {
                            rest.extend([name, value]);
                        }
                    }
                }
            }
            (name, value) => rest.extend([Value::SimpleString(name.to_owned()), value]),
        }
    }
    Ok((size, entries, digest(&Value::Array(rest))))
}

/// A map, which RESP2 gives as a flat array.
fn pairs(value: Value) -> Result<Vec<(Value, Value)>> {
    match value {
        Value::Map(pairs) => Ok(pairs),
        Value::Array(items) if items.len().is_multiple_of(2) => {
            let mut items = items.into_iter();
            Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
        }
        other => bail!("the server answered {other:?} where a map belongs"),
    }
}

fn digest_sorted(items: Vec<Value>) -> u64 {
    let mut digests: Vec<u64> = items.iter().map(digest).collect();
    digests.sort_unstable();
    let mut hasher = DefaultHasher::new();
    digests.into_iter().for_each(|digest| hasher.write_u64(digest));
    hasher.finish()
}

fn digest_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
    hasher.finish()
}

/// SipHash with fixed keys: the same in every process.
fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(&mut hasher, value);
    hasher.finish()
}

fn feed(hasher: &mut DefaultHasher, value: &Value) {
    let mut bytes = |bytes: &[u8]| {
        hasher.write_u8(b'$');
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    match value {
        Value::BulkString(text) => bytes(text),
        Value::SimpleString(text) => bytes(text.as_bytes()),
        Value::Int(number) => bytes(number.to_string().as_bytes()),
        Value::Array(items) | Value::Set(items) => {
            hasher.write_u8(b'*');
            hasher.write_usize(items.len());
            items.iter().for_each(|item| feed(hasher, item));
        }
        other => {
            hasher.write_u8(b'?');
            hasher.write(format!("{other:?}").as_bytes());
        }
    }
}
