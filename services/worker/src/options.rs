//! What a Task's parameters ask for, understood. Every parameter is a text that may be empty; one that
//! makes no sense is refused by its name, since a default in its place would be another backup.

mod parse;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::args::{BackupArgs, RestoreArgs};
use crate::error::Error;
use crate::filter::Filter;
use crate::redis_args;
use parse::{choice, databases, globs, mapping, number, switch, types};

/// How to get the data out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The first of the others that the server allows.
    Auto,
    /// As a replica: one instant, complete.
    Replication,
    /// Key by key with `SCAN` and `DUMP`.
    Scan,
    /// Key by key with the commands for each type, for servers that refuse `DUMP`, and for older ones to read.
    Portable,
}

impl Method {
    /// The word in parameters, manifest and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Replication => "replication",
            Self::Scan => "scan",
            Self::Portable => "portable",
        }
    }
}

/// In which order a scan writes keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they come: no memory and no disk.
    Server,
    /// By database and name, so that two backups of similar data share most of their chunks.
    Canonical,
}

/// Which server of several to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The one that the AppBinding names; behind a Sentinel a replica, since any sync with a master leaves
    /// a replica in Sentinel's memory that it never forgets.
    Any,
    /// The one that the AppBinding or the Sentinel names.
    Master,
    /// The same, to write to: slots on their way are no obstacle.
    ToWrite,
    /// A healthy replica of it, if there is one.
    Replica,
}

/// How fast a scan may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So that other clients do not notice: a batch of ours takes the server a fraction of a millisecond.
    Gentle,
    /// As fast as the server answers.
    Full,
}

/// What a backup is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// How.
    pub method: Method,
    /// In which order, for a scan.
    pub order: Order,
    /// From which server.
    pub prefer: Prefer,
    /// How fast, for a scan.
    pub pace: Pace,
    /// Whether the digest of all keys is worked out meanwhile.
    pub digest: bool,
    /// Which keys.
    pub filter: Filter,
    /// Name of the master that a Sentinel is to be asked for; empty for its only one.
    pub sentinel_master: String,
}

impl Backup {
    /// Understands the flags.
    ///
    /// # Errors
    /// Names the first flag that makes no sense, alone or with the others.
    pub fn new(args: &BackupArgs) -> Result<Self, Error> {
        let stash = redis_args::parse(&args.addon.redis_args)?;
        let method = choice(
            "method",
            &args.method,
            &[
                ("", Method::Auto),
                ("auto", Method::Auto),
                ("replication", Method::Replication),
                ("scan", Method::Scan),
                ("portable", Method::Portable),
            ],
        )?;
        let order =
            [("", Order::Server), ("server", Order::Server), ("canonical", Order::Canonical)];
        let prefer = [("", Prefer::Any), ("master", Prefer::Master), ("replica", Prefer::Replica)];
        let pace = [("", Pace::Gentle), ("gentle", Pace::Gentle), ("full", Pace::Full)];
        let mut filter = Filter {
            include: globs(&args.filter.include),
            exclude: globs(&args.filter.exclude),
            ..Filter::default()
        };
        filter.add_databases(databases("databases", &args.filter.databases)?);
        stash.narrow(&mut filter)?;
        if stash.pipe_timeout.is_some() {
            return Err(Error::Flag {
                flag: "redis-args",
                value: args.addon.redis_args.clone(),
                problem: "--pipe-timeout is for a restore, where it limits the wait for the last answers: remove it",
            });
        }
        let options = Self {
            method,
            order: choice("order", &args.order, &order)?,
            prefer: choice("prefer", &args.prefer, &prefer)?,
            pace: choice("pace", &args.pace, &pace)?,
            digest: switch("digest", &args.digest)?,
            filter,
            sentinel_master: args.addon.sentinel_master.clone(),
        };
        options.agree()?;
        Ok(options)
    }

    /// Whether the data can be had as the server writes them; if not, the reason.
    #[must_use]
    pub fn only_by_scan(&self) -> Option<&'static str> {
        if !self.filter.is_all() {
            Some("a part of the keys is asked for, and an RDB file always holds all of them")
        } else if self.order == Order::Canonical {
            Some("a canonical order is asked for, and an RDB file has the server's")
        } else {
            None
        }
    }

    fn agree(&self) -> Result<(), Error> {
        match (self.method, self.only_by_scan()) {
            (Method::Replication, Some(_)) => Err(Error::Flag {
                flag: "method",
                value: self.method.name().to_owned(),
                problem: "it stores the server's own file, whole and in the server's order; for a part of the \
                    keys (databases, include, exclude, args -db or -filter) or order: canonical set \
                    `method: scan`",
            }),
            _ => Ok(()),
        }
    }
}

/// How to get the data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Key by key.
    Keys,
    /// The target attaches to us as to its master.
    Replica,
}

/// What to do about a key that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Write the snapshot's.
    Replace,
    /// Leave the one that is there.
    Skip,
    /// Fail, before anything is written.
    Fail,
}

/// What to do about what the target cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// Fail, before anything is written.
    Fail,
    /// Leave it out and say so.
    Report,
}

/// What a restore is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// How.
    pub load: Load,
    /// About keys that are there.
    pub on_conflict: OnConflict,
    /// About what cannot be held.
    pub on_loss: OnLoss,
    /// Whether the target is emptied first.
    pub flush: bool,
    /// Whether nothing is to be written, only told.
    pub dry_run: bool,
    /// Whether the target is read back and compared.
    pub verify: bool,
    /// Which keys.
    pub filter: Filter,
    /// Databases that go to another number.
    pub mapping: BTreeMap<u64, u64>,
    /// Most keys a second.
    pub keys_per_second: Option<u64>,
    /// Most bytes a second.
    pub bytes_per_second: Option<u64>,
    /// Name of the master that a Sentinel is to be asked for; empty for its only one.
    pub sentinel_master: String,
    /// redis-cli's `--pipe-timeout`: how long the server may be silent once all is sent; 0 for ever.
    pub pipe_timeout: Option<Duration>,
}

impl Restore {
    /// Understands the flags.
    ///
    /// # Errors
    /// Names the first flag that makes no sense, alone or with the others.
    pub fn new(args: &RestoreArgs) -> Result<Self, Error> {
        let stash = redis_args::parse(&args.addon.redis_args)?;
        let load = [("", Load::Keys), ("keys", Load::Keys), ("replica", Load::Replica)];
        let on_conflict = [
            ("", OnConflict::Replace),
            ("replace", OnConflict::Replace),
            ("skip", OnConflict::Skip),
            ("fail", OnConflict::Fail),
        ];
        let on_loss = [("", OnLoss::Fail), ("fail", OnLoss::Fail), ("report", OnLoss::Report)];
        let mut filter = Filter {
            include: globs(&args.filter.include),
            exclude: globs(&args.filter.exclude),
            types: types("types", &args.types)?,
            ..Filter::default()
        };
        filter.add_databases(databases("databases", &args.filter.databases)?);
        stash.narrow(&mut filter)?;
        let options = Self {
            load: choice("load", &args.load, &load)?,
            on_conflict: choice("on-conflict", &args.on_conflict, &on_conflict)?,
            on_loss: choice("on-loss", &args.on_loss, &on_loss)?,
            flush: switch("flush", &args.flush)?,
            dry_run: switch("dry-run", &args.dry_run)?,
            verify: switch("verify", &args.verify)?,
            filter,
            mapping: mapping("database-map", &args.database_map)?,
            keys_per_second: number("max-keys-per-second", &args.max_keys_per_second)?,
            bytes_per_second: number("max-bytes-per-second", &args.max_bytes_per_second)?,
            sentinel_master: args.addon.sentinel_master.clone(),
            pipe_timeout: stash.pipe_timeout,
        };
        options.agree()?;
        Ok(options)
    }

    /// The database that keys of `database` go to.
    #[must_use]
    pub fn target_of(&self, database: u64) -> u64 {
        self.mapping.get(&database).copied().unwrap_or(database)
    }

    fn agree(&self) -> Result<(), Error> {
        let refuse = |flag: &'static str, value: &str, problem: &'static str| {
            Err(Error::Flag { flag, value: value.to_owned(), problem })
        };
        if self.flush && self.on_conflict != OnConflict::Replace {
            return refuse(
                "flush",
                "true",
                "it empties the target, so that no key can be in conflict: remove onConflict, or flush",
            );
        }
        if self.verify && (self.dry_run || self.on_conflict == OnConflict::Skip) {
            return refuse(
                "verify",
                "true",
                "the target is not to be as the snapshot: remove dryRun, and onConflict: skip",
            );
        }
        if self.load == Load::Replica && self.pipe_timeout.is_some() {
            return refuse(
                "redis-args",
                "--pipe-timeout",
                "the target takes the whole file by itself, and answers nothing meanwhile: remove it, or set `load: keys`",
            );
        }
        if self.load == Load::Replica {
            for (flag, rate) in [
                ("max-keys-per-second", self.keys_per_second),
                ("max-bytes-per-second", self.bytes_per_second),
            ] {
                if let Some(rate) = rate {
                    return refuse(
                        flag,
                        &rate.to_string(),
                        "with `load: replica` the target loads as fast as it can: remove it, or set `load: keys`",
                    );
                }
            }
            let partly = !self.filter.is_all() || !self.mapping.is_empty();
            if partly || self.dry_run || self.on_conflict != OnConflict::Replace {
                return refuse(
                    "load",
                    "replica",
                    "the target takes the whole file by itself: filters, databaseMap, onConflict and dryRun \
                     need `load: keys`",
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Job};
    use clap::Parser as _;

    fn job(words: &[&str]) -> Job {
        Args::try_parse_from(["coffer-worker"].iter().chain(words)).unwrap().job
    }

    fn understood(words: &[&str]) -> Result<Filter, String> {
        let filter = match job(words) {
            Job::BackupRedis(args) => Backup::new(&args).map(|backup| backup.filter),
            Job::RestoreRedis(args) => Restore::new(&args).map(|restore| restore.filter),
        };
        filter.map_err(|error| error.to_string())
    }

    #[test]
    fn args_and_params_go_together_unless_both_say_the_same() {
        for job in ["backup-redis", "restore-redis"] {
            let with = |more: &[&str]| understood(&[&[job], more].concat());
            let filter = with(&["--redis-args=-db 1 -filter a*", "--exclude=ab*"]).unwrap();
            assert!(filter.takes_database(1) && !filter.takes_database(0));
            assert!(filter.takes_key(b"a") && !filter.takes_key(b"ab") && !filter.takes_key(b"b"));
            assert!(with(&["--redis-args=-db 1", "--include=a*"]).is_ok());
            assert!(with(&["--redis-args=-db -1", "--databases=0,1"]).is_ok());
            for (args, param, named) in [
                ("-db 1", "--databases=0,1", ["-db", "databases"]),
                ("-filter b*", "--include=a*", ["-filter", "include"]),
            ] {
                let said = with(&[&format!("--redis-args={args}"), param]).unwrap_err();
                assert!(named.iter().all(|name| said.contains(name)), "{said}");
            }
        }
    }

    #[test]
    fn a_pipe_timeout_is_taken_where_there_is_a_pipe() {
        let timeout = "--redis-args=--pipe-timeout 300";
        let Job::RestoreRedis(args) = job(&["restore-redis", timeout]) else { panic!() };
        assert_eq!(Restore::new(&args).unwrap().pipe_timeout, Some(Duration::from_secs(300)));
        for words in [&["backup-redis"][..], &["restore-redis", "--load=replica"]] {
            let said = understood(&[words, &[timeout]].concat()).unwrap_err();
            assert!(said.contains("--pipe-timeout"), "{said}");
        }
    }
}
