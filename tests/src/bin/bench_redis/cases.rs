//! The cases, in the order of the table.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;

use crate::{
    bench::{Bench, Took},
    data,
    figure::Figure,
    latency::Latency,
};

/// How often what takes a few seconds is measured.
const ROUNDS: usize = 3;

const BY_REPLICA: &str = "restore by replica (limit: the server's own)";
/// What a worker may take in memory, in MiB: 64 beside the largest value.
const SMALL: f64 = 64.0;
const LARGE: f64 = 74.0;

impl Bench {
    pub(crate) async fn backups(&self, figures: &mut Vec<Figure>) -> Result<()> {
        for (case, compressed) in [
            ("backup by replication, to committed snapshot", "yes"),
            ("  with rdbcompression no", "no"),
        ] {
            self.source.command::<()>(&["CONFIG", "SET", "rdbcompression", compressed]).await?;
            let took = self.replication(ROUNDS, case, figures)?;
            if compressed == "yes" {
                let case = "  around it: the Job, retention, check, metrics";
                figures.push(Figure::seconds(case, took.around, None, None));
                figures.push(Figure::worker(&took, SMALL));
            }
        }
        let port = self.source.port;
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
        let took = self.backup("scan")?;
        let busy = latency.stop()?;
        figures.push(Figure::seconds(
            "backup by scan (peer: redis-dump-go -n 100)",
            took.seconds,
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
        figures.push(Figure::worker(&took, SMALL));
        Ok(())
    }

    pub(crate) async fn restores(&mut self, figures: &mut Vec<Figure>) -> Result<()> {
        self.source.command::<()>(&["CONFIG", "SET", "rdbcompression", "yes"]).await?;
        self.backup("replication")?;
        self.loads(figures, ["restore by keys (peer: redis-cli --pipe)", BY_REPLICA], SMALL).await
    }

    /// Few values, each of ten megabytes that do not compress.
    pub(crate) async fn large_values(
        &mut self,
        count: u64,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        self.source.command::<()>(&["FLUSHALL"]).await?;
        data::fill_large(&self.source, count).await?;
        let took = self.replication(1, "values of 10 MB: backup by replication", figures)?;
        figures.push(Figure::worker(&took, LARGE));
        let cases = ["values of 10 MB: restore by keys", "values of 10 MB: restore by replica"];
        self.loads(figures, cases, LARGE).await
    }

    /// The bare transfer, the peer's backup and ours. In each round into repositories that are new: the second would have
    /// nothing to store.
    fn replication(
        &self,
        rounds: usize,
        case: &'static str,
        figures: &mut Vec<Figure>,
    ) -> Result<Took> {
        let transfer = format!("redis-cli -p {} --rdb -", self.source.port);
        let (mut bare, mut peer, mut ours) = (vec![], vec![], vec![]);
        for _ in 0..rounds {
            self.remove_repositories()?;
            bare.push(self.shell(&format!("{transfer} > /dev/null 2>&1"))?);
            peer.push(self.shell(&format!(
                "{transfer} 2> /dev/null | restic backup --quiet --stdin --stdin-filename dump.rdb"
            ))?);
            ours.push(self.backup("replication")?);
        }
        let took = Took::of(ours);
        figures.push(Figure::seconds(case, took.seconds, Some(median(peer)), Some(median(bare))));
        Ok(took)
    }

    /// The last backup in each way, beside what Stash's addon does: typed commands, which a server writes, too, when it
    /// rewrites its log. Each into a server that was just started, for the memory of one that was emptied is in pieces.
    async fn loads(
        &mut self,
        figures: &mut Vec<Figure>,
        [by_keys, by_replica]: [&'static str; 2],
        memory_limit: f64,
    ) -> Result<()> {
        let typed = self.typed_dump().await?;
        self.shell(&format!(
            "restic backup --quiet --stdin --stdin-filename typed.resp < {}",
            typed.display()
        ))?;
        fs::remove_file(typed)?;
        let port = self.target.port;
        let (mut peer, mut keys, mut own, mut replica) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            self.target.restart().await?;
            peer.push(self.shell(&format!(
                "restic dump latest --path /typed.resp /typed.resp | redis-cli -p {port} --pipe > /dev/null"
            ))?);
            self.is_complete().await?;
            self.target.restart().await?;
            keys.push(self.restore("keys")?);
            self.is_complete().await?;
            self.target.restart().await?;
            own.push(self.own_loading()?);
            replica.push(self.restore("replica")?);
            self.is_complete().await?;
        }
        let (peer, own) = (median(peer), median(own));
        for (case, took, limit) in
            [(by_keys, Took::of(keys), None), (by_replica, Took::of(replica), Some(own))]
        {
            figures.push(Figure::seconds(case, took.seconds, Some(peer), limit));
            figures.push(Figure::worker(&took, memory_limit));
        }
        Ok(())
    }

    /// How much of the data a second backup adds after a change of 1 % of the keys, which stand together.
    pub(crate) async fn canonical(&self, keys: u64, figures: &mut Vec<Figure>) -> Result<()> {
        self.backup("canonical")?;
        let whole = self.stored_bytes()?;
        // Every second one of these is a string.
        let last = (keys / 50).max(1).to_string();
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
}

impl Took {
    /// The median of several times, and the most memory.
    fn of(several: Vec<Self>) -> Self {
        let each = |part: fn(&Self) -> f64| several.iter().map(part).collect::<Vec<_>>();
        Self {
            seconds: median(each(|took| took.seconds)),
            around: median(each(|took| took.around)),
            worker_mib: each(|took| took.worker_mib).into_iter().fold(0.0, f64::max),
        }
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole
}
