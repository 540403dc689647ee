//! What the servers hold.

use anyhow::Result;
use coffer_tests::redis_server::RedisServer;
use rand::{RngCore as _, SeedableRng as _};

const LARGE_BYTES: usize = 10_000_000;

/// Half strings, a quarter hashes, the rest lists, sets and sorted sets; every fifth key with a time to live. Values are
/// of the generator's numbers, so that they compress about as much as identifiers do.
const FILL: &str = r"
math.randomseed(tonumber(ARGV[1]))
local function text(n) local t = {} for i = 1, n / 10 do t[i] = string.format('%010d', math.random(0, 2147483647)) end return table.concat(t) end
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local k, kind = string.format('%08d', i), i % 12
  if kind < 6 then k = 'string:' .. k redis.call('SET', k, text(100))
  elseif kind < 9 then k = 'hash:' .. k redis.call('HSET', k, 'name', text(20), 'mail', text(30), 'seen', i)
  elseif kind == 9 then k = 'list:' .. k for j = 1, 8 do redis.call('RPUSH', k, text(10)) end
  elseif kind == 10 then k = 'set:' .. k for j = 1, 8 do redis.call('SADD', k, text(10)) end
  else k = 'zset:' .. k for j = 1, 8 do redis.call('ZADD', k, j, text(10)) end end
  if i % 5 == 0 then redis.call('PEXPIREAT', k, 4102444800000 + i) end
end";

/// Small keys of all types.
pub(crate) async fn fill(redis: &RedisServer, keys: u64) -> Result<()> {
    for first in (1..=keys).step_by(20_000) {
        let last = (first + 19_999).min(keys);
        redis.command::<()>(&["EVAL", FILL, "0", &first.to_string(), &last.to_string()]).await?;
    }
    Ok(())
}

/// Strings of random bytes.
pub(crate) async fn fill_large(redis: &RedisServer, count: u64) -> Result<()> {
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let mut connection = redis.connect().await?;
    let mut value = vec![0; LARGE_BYTES];
    for key in 0..count {
        random.fill_bytes(&mut value);
        let mut set = redis::cmd("SET");
        set.arg(format!("large:{key}")).arg(&value).exec_async(&mut connection).await?;
    }
    Ok(())
}
