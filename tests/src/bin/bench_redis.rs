//! `make bench-redis`: the ways out of Redis and in, beside those that people use, and the limit that nature sets.
//!
//! All in one run, on the same server and the same data. Argument: thousands of keys (2000). The table goes to standard
//! output, the figures to `target/bench/redis.json`: `ratio` is ours over the peer, above 1 is better for us; `limit` is
//! what cannot be beaten, or must not be crossed. Ours is the time of the Job, from its start to the committed snapshot or
//! the last key; what a session does around it (the Job is made, retention, the check, metrics) has a line of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use coffer_tests::{
    coffer::{Coffer, Output},
    redis_server::{self, RedisServer, free_port},
};
use serde_json::json;

const SECRET: &str = "restic-secret";

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

#[tokio::main]
async fn main() -> ExitCode {
    match bench().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One line of the table.
struct Figure {
    case: &'static str,
    ours: f64,
    peer: Option<f64>,
    unit: &'static str,
    /// Whether more is better.
    more: bool,
    limit: Option<f64>,
}

impl Figure {
    const fn seconds(case: &'static str, ours: f64, peer: Option<f64>, limit: Option<f64>) -> Self {
        Self { case, ours, peer, unit: "s", more: false, limit }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| if self.more { self.ours / peer } else { peer / self.ours })
    }
}

async fn bench() -> Result<()> {
    let thousands: u64 = match std::env::args().nth(1) {
        Some(words) => words.parse().context("usage: bench-redis [THOUSANDS OF KEYS]")?,
        None => 2000,
    };
    fs::create_dir_all("target/bench")?;
    let figures = measure(thousands * 1000).await?;
    println!("{:<46} {:>9} {:>9} {:>6} {:>9}  unit", "case", "coffer", "peer", "ratio", "limit");
    let shown = |figure: Option<f64>| {
        figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"))
    };
    for figure in &figures {
        let (peer, ratio, limit) = (shown(figure.peer), shown(figure.ratio()), shown(figure.limit));
        println!(
            "{:<46} {:>9.2} {peer:>9} {ratio:>6} {limit:>9}  {}",
            figure.case, figure.ours, figure.unit
        );
    }
    let lines: Vec<_> = figures
        .iter()
        .map(|f| {
            json!({"case": f.case, "ours": f.ours, "peer": f.peer, "unit": f.unit, "ratio": f.ratio(),
                   "limit": f.limit})
        })
        .collect();
    fs::write("target/bench/redis.json", serde_json::to_string_pretty(&lines)?)?;
    Ok(())
}

async fn measure(keys: u64) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in("target")?;
    let folder = folder.path().canonicalize()?;
    eprintln!("filling a Redis with {keys} keys");
    let source = RedisServer::start(open()).await?;
    source.command::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await?;
    for first in (1..=keys).step_by(20_000) {
        let last = (first + 19_999).min(keys);
        source.command::<()>(&["EVAL", FILL, "0", &first.to_string(), &last.to_string()]).await?;
    }
    let target = RedisServer::start(open()).await?;
    let coffer = Coffer::up(&folder).await?;
    fs::write(folder.join("manifests.yaml"), manifests(&source, &target, &folder))?;
    let file = folder.join("manifests.yaml").display().to_string();
    coffer.run(&["apply", "-f", &file], Output::Captured)?;
    let bench = Bench { folder, source, target, coffer, keys };
    let mut figures = vec![];
    bench.backups(&mut figures).await?;
    bench.restores(&mut figures).await?;
    bench.canonical(&mut figures).await?;
    bench.coffer.down().await?;
    Ok(figures)
}

/// Without a password, as the peers' benchmarks are.
fn open() -> redis_server::Options {
    redis_server::Options { password: String::new(), ..redis_server::Options::default() }
}

struct Bench {
    folder: PathBuf,
    source: RedisServer,
    target: RedisServer,
    coffer: Coffer,
    keys: u64,
}

impl Bench {
    async fn backups(&self, figures: &mut Vec<Figure>) -> Result<()> {
        let port = self.source.port;
        for (case, compressed) in [
            ("backup by replication, to committed snapshot", "yes"),
            ("  with rdbcompression no", "no"),
        ] {
            self.source.command::<()>(&["CONFIG", "SET", "rdbcompression", compressed]).await?;
            let bare = self.shell(&format!("redis-cli -p {port} --rdb - > /dev/null 2>&1"))?;
            let peer = self.shell(&format!(
                "redis-cli -p {port} --rdb - 2> /dev/null | restic backup --quiet --stdin --stdin-filename dump.rdb"
            ))?;
            let (ours, around) = self.backup("replication")?;
            figures.push(Figure::seconds(case, ours, Some(peer), Some(bare)));
            if compressed == "yes" {
                let case = "  around it: the Job, retention, check, metrics";
                figures.push(Figure::seconds(case, around, None, None));
            }
        }
        let dump_go = Command::new("redis-dump-go").arg("-h").output().is_ok();
        let peer = match dump_go {
            true => Some(self.shell(&format!(
                "redis-dump-go -host 127.0.0.1 -port {port} -n 100 2> /dev/null | \
                 restic backup --quiet --stdin --stdin-filename dumpfile.resp"
            ))?),
            false => None,
        };
        let idle = Latency::watch(port).stop_after(Duration::from_secs(2))?;
        let latency = Latency::watch(port);
        let (ours, _) = self.backup("scan")?;
        let busy = latency.stop()?;
        figures.push(Figure::seconds(
            "backup by scan (peer: redis-dump-go -n 100)",
            ours,
            peer,
            None,
        ));
        figures.push(Figure {
            case: "  p99 of another client's GET meanwhile",
            ours: busy,
            peer: Some(idle),
            unit: "ms",
            more: false,
            limit: Some(1.0),
        });
        Ok(())
    }

    async fn restores(&self, figures: &mut Vec<Figure>) -> Result<()> {
        // What Stash's addon stores: typed commands. A server writes the same when it rewrites its log.
        let typed = self.typed_dump().await?;
        self.shell(&format!(
            "restic backup --quiet --stdin --stdin-filename typed.resp < {}",
            typed.display()
        ))?;
        self.source.command::<()>(&["CONFIG", "SET", "rdbcompression", "yes"]).await?;
        self.backup("replication")?;
        let port = self.target.port;
        let peer =
            self.shell(&format!("restic dump latest --path /typed.resp /typed.resp | redis-cli -p {port} --pipe > /dev/null"))?;
        self.is_complete().await?;
        self.target.command::<()>(&["FLUSHALL"]).await?;
        let ours = self.restore("keys")?;
        self.is_complete().await?;
        figures.push(Figure::seconds(
            "restore by keys (peer: redis-cli --pipe)",
            ours,
            Some(peer),
            None,
        ));
        self.target.command::<()>(&["FLUSHALL"]).await?;
        let own = self.own_loading()?;
        let ours = self.restore("replica")?;
        self.is_complete().await?;
        figures.push(Figure::seconds(
            "restore by replica (limit: the server's own)",
            ours,
            Some(peer),
            Some(own),
        ));
        Ok(())
    }

    /// How much of the data a second backup adds after a change of 1 % of the keys, which stand together.
    async fn canonical(&self, figures: &mut Vec<Figure>) -> Result<()> {
        self.backup("canonical")?;
        let whole = self.stored_bytes()?;
        // Every second one of these is a string.
        let last = (self.keys / 50).max(1).to_string();
        let script = "for i = 1, tonumber(ARGV[1]) do if i % 12 < 6 then \
            redis.call('APPEND', string.format('string:%08d', i), 'x') end end";
        self.source.command::<()>(&["EVAL", script, "0", &last]).await?;
        self.backup("canonical")?;
        let after_change = self.stored_bytes()?;
        figures.push(Figure {
            case: "canonical order, 1 % of a range changed: added",
            ours: percent(after_change - whole, whole),
            peer: None,
            unit: "%",
            more: false,
            limit: Some(6.0),
        });
        Ok(())
    }

    /// Bytes of the files in the repository of canonical backups.
    fn stored_bytes(&self) -> Result<f64> {
        let du = Command::new("du")
            .args(["-sb"])
            .arg(self.folder.join("repository-canonical"))
            .output()?;
        let text = String::from_utf8(du.stdout)?;
        text.split_whitespace().next().and_then(|n| n.parse().ok()).context("du gave no number")
    }

    /// Seconds of the Job, and of the session around it.
    fn backup(&self, method: &str) -> Result<(f64, f64)> {
        eprintln!("backing up: {method}");
        self.session(&["backup", method])
    }

    fn session(&self, words: &[&str]) -> Result<(f64, f64)> {
        let clock = Instant::now();
        let flags = ["-n", "bench", "--quiet", "--output", "json"];
        let said = self.coffer.run(&[words, &flags].concat(), Output::Captured)?;
        let whole = clock.elapsed().as_secs_f64();
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let took = said["result"]["durationMs"].as_f64().context("the session has no duration")?;
        Ok((took / 1000.0, whole - took / 1000.0))
    }

    fn restore(&self, load: &str) -> Result<f64> {
        eprintln!("restoring: {load}");
        let task = format!("restore-{load}");
        let words = ["restore", "--repository", "replication", "--target", load, "--task", &task];
        Ok(self.session(&words)?.0)
    }

    async fn is_complete(&self) -> Result<()> {
        let restored: u64 = self.target.command(&["DBSIZE"]).await?;
        ensure!(restored == self.keys, "{} keys were backed up, {restored} came back", self.keys);
        Ok(())
    }

    /// The append-only file of a server that has loaded the data, as commands from its first byte.
    async fn typed_dump(&self) -> Result<PathBuf> {
        for (name, value) in [("aof-use-rdb-preamble", "no"), ("appendonly", "yes")] {
            self.source.command::<()>(&["CONFIG", "SET", name, value]).await?;
        }
        loop {
            let info: String = self.source.command(&["INFO", "persistence"]).await?;
            if info.contains("aof_rewrite_in_progress:0")
                && info.contains("aof_rewrite_scheduled:0")
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let dir: Vec<String> = self.source.command(&["CONFIG", "GET", "dir"]).await?;
        let dir = Path::new(dir.get(1).context("no dir")?).join("appendonlydir");
        let bases = fs::read_dir(&dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        let base = bases.filter(|path| path.to_string_lossy().ends_with(".base.aof")).max();
        let typed = self.folder.join("typed.resp");
        fs::copy(base.context("the server wrote no base")?, &typed)?;
        self.source.command::<()>(&["CONFIG", "SET", "appendonly", "no"]).await?;
        Ok(typed)
    }

    /// How long a server takes to start on the file.
    fn own_loading(&self) -> Result<f64> {
        let data = self.folder.join("own");
        fs::create_dir_all(&data)?;
        self.shell(&format!(
            "redis-cli -p {} --rdb {}/dump.rdb > /dev/null 2>&1",
            self.source.port,
            data.display()
        ))?;
        let port = free_port()?.to_string();
        let clock = Instant::now();
        let mut server = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .spawn()?;
        let ready = self.shell(&format!(
            "until redis-cli -p {port} ping 2> /dev/null | grep -q PONG; do :; done"
        ));
        let took = clock.elapsed().as_secs_f64();
        stop(&mut server);
        ready.map(|_| took)
    }

    /// Runs a pipeline of the peers, with restic's repository at hand.
    fn shell(&self, pipeline: &str) -> Result<f64> {
        let repository = self.folder.join("peer");
        let command = |script: &str| {
            let mut shell = Command::new("bash");
            shell
                .args(["-c", &format!("set -o pipefail; {script}")])
                .env("RESTIC_PASSWORD", SECRET)
                .env("RESTIC_REPOSITORY", &repository);
            shell
        };
        if !repository.exists() {
            ensure!(command("restic init > /dev/null").status()?.success(), "restic init failed");
        }
        eprintln!("peer: {pipeline}");
        let clock = Instant::now();
        if !command(pipeline).status()?.success() {
            bail!("failed: {pipeline}");
        }
        Ok(clock.elapsed().as_secs_f64())
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Another client of the server: a GET every half millisecond, and how long each took.
struct Latency {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Vec<Duration>>>,
}

impl Latency {
    fn watch(port: u16) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
            let mut connection = client.get_connection()?;
            let mut took = vec![];
            while !stopped.load(Ordering::Relaxed) {
                let clock = Instant::now();
                redis::cmd("GET")
                    .arg("string:00000012")
                    .query::<Option<String>>(&mut connection)?;
                took.push(clock.elapsed());
                std::thread::park_timeout(Duration::from_micros(500));
            }
            Ok(took)
        });
        Self { stop, thread }
    }

    fn stop_after(self, span: Duration) -> Result<f64> {
        std::thread::park_timeout(span);
        self.stop()
    }

    /// The 99th percentile, in milliseconds.
    fn stop(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.thread.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        took.sort();
        let p99 = took.get(took.len() * 99 / 100).context("nothing was measured")?;
        Ok(p99.as_secs_f64() * 1000.0)
    }
}

fn manifests(source: &RedisServer, target: &RedisServer, folder: &Path) -> String {
    let mut all = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: bench}}\n---\napiVersion: v1\nkind: Secret\n\
         metadata: {{name: storage, namespace: bench}}\nstringData: {{RESTIC_PASSWORD: {SECRET}}}\n"
    );
    let binding = |name: &str, port: u16| {
        format!(
            "---\napiVersion: appcatalog.appscode.com/v1alpha1\nkind: AppBinding\n\
             metadata: {{name: {name}, namespace: bench}}\n\
             spec: {{type: redis, clientConfig: {{url: \"redis://127.0.0.1:{port}\"}}}}\n"
        )
    };
    all += &binding("source", source.port);
    for load in ["keys", "replica"] {
        all += &binding(load, target.port);
        all += &format!(
            "---\napiVersion: stash.appscode.com/v1beta1\nkind: Task\nmetadata: {{name: restore-{load}}}\n\
             spec: {{steps: [{{name: redis-restore-7.0.5, params: [{{name: load, value: {load}}}]}}]}}\n"
        );
    }
    for (name, params) in [
        ("replication", "{name: method, value: replication}"),
        ("scan", "{name: method, value: scan}"),
        ("canonical", "{name: order, value: canonical}"),
    ] {
        all += &format!(
            "---\napiVersion: stash.appscode.com/v1alpha1\nkind: Repository\n\
             metadata: {{name: {name}, namespace: bench}}\n\
             spec: {{backend: {{storageSecretName: storage, local: {{mountPath: /backup, \
             hostPath: {{path: \"{}\"}}}}}}}}\n\
             ---\napiVersion: stash.appscode.com/v1beta1\nkind: BackupConfiguration\n\
             metadata: {{name: {name}, namespace: bench}}\n\
             spec:\n  schedule: \"0 0 1 1 *\"\n  task: {{name: redis-backup-7.0.5, params: [{params}]}}\n\
             \x20 repository: {{name: {name}}}\n\
             \x20 target: {{ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: source}}}}\n\
             \x20 retentionPolicy: {{name: some, keepLast: 9, prune: false}}\n",
            folder.join(format!("repository-{name}")).display()
        );
    }
    all
}
