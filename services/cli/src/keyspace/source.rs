//! How a keyspace is named on the command line.
use std::{fmt, path::PathBuf};

use anyhow::Context;
use coffer_api::session::{Redis, RedisTls, Sensitive};

const DEFAULT_PORT: u16 = 6379;

/// Where a keyspace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A server, a Sentinel, or any server of a cluster.
    Server {
        /// How to reach it.
        redis: Box<Redis>,
        /// The database that is meant alone; all when absent.
        database: Option<u64>,
    },
    /// An RDB file, or a dump of a scan.
    File(PathBuf),
    /// A snapshot.
    Snapshot {
        /// NAME or NAMESPACE/NAME.
        repository: String,
        /// Its id or `latest`.
        snapshot: String,
    },
}

/// How to log in to a server.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerArgs {
    /// Password of the servers; better in the environment than in an argument, which everybody sees
    #[arg(
        long,
        env = "REDISCLI_AUTH",
        hide_env_values = true,
        hide = true,
        value_name = "PASSWORD"
    )]
    pub redis_password: Option<String>,
    /// For rediss://: certificate of the servers' CA, PEM; the system's roots when absent
    #[arg(long, value_name = "FILE")]
    pub redis_ca_file: Option<PathBuf>,
    /// For rediss://: certificate of the client, PEM
    #[arg(long, value_name = "FILE", requires = "redis_key_file")]
    pub redis_cert_file: Option<PathBuf>,
    /// For rediss://: its key, PEM
    #[arg(long, value_name = "FILE", requires = "redis_cert_file")]
    pub redis_key_file: Option<PathBuf>,
}

impl Source {
    /// Understands an argument.
    ///
    /// # Errors
    /// When it is a url that leads to no server, or a file of a certificate cannot be read.
    pub fn parse(text: &str, server: &ServerArgs) -> anyhow::Result<Self> {
        if text.contains("://") {
            return Self::server(text, server).with_context(|| format!("understand {text:?}"));
        }
        let begins = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
        if begins || text.ends_with(".rdb") || text.ends_with(".resp") {
            return Ok(Self::File(PathBuf::from(text)));
        }
        let (repository, snapshot) = text.split_once('@').unwrap_or((text, "latest"));
        anyhow::ensure!(
            !repository.is_empty() && !snapshot.is_empty(),
            "{text:?} names no snapshot"
        );
        Ok(Self::Snapshot { repository: repository.to_owned(), snapshot: snapshot.to_owned() })
    }

    /// The database that is meant alone.
    #[must_use]
    pub const fn database(&self) -> Option<u64> {
        match self {
            Self::Server { database, .. } => *database,
            Self::File(_) | Self::Snapshot { .. } => None,
        }
    }

    fn server(text: &str, args: &ServerArgs) -> anyhow::Result<Self> {
        if let Some(rest) = text.strip_prefix("unix://") {
            return Self::socket(rest, args);
        }
        let uri: http::Uri = text.parse()?;
        let encrypted = match uri.scheme_str() {
            Some("redis") => false,
            Some("rediss") => true,
            _ => anyhow::bail!("only redis://, rediss:// and unix:// are servers"),
        };
        anyhow::ensure!(uri.query().is_none(), "a database stands behind the host: redis://HOST/3");
        let database = match uri.path().trim_start_matches('/') {
            "" => None,
            number => Some(number_of(number)?),
        };
        let user = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
        let (username, password) = login(user.map(|(user, _)| user), args)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        anyhow::ensure!(!host.is_empty(), "it names no host");
        let read = |file: &Option<PathBuf>| {
            let text = file.as_ref().map(|file| {
                std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
            });
            text.transpose()
        };
        let tls = match encrypted {
            false => None,
            true => Some(RedisTls {
                ca: read(&args.redis_ca_file)?,
                certificate: read(&args.redis_cert_file)?,
                key: read(&args.redis_key_file)?.map(Sensitive::new),
                ..RedisTls::default()
            }),
        };
        let (host, port) = (host.to_owned(), uri.port_u16().unwrap_or(DEFAULT_PORT));
        let redis = Box::new(Redis { host, port, username, password, tls, ..Redis::default() });
        Ok(Self::Server { redis, database })
    }

    /// `[USER@]/PATH[?db=N]`, as other clients have it.
    fn socket(rest: &str, args: &ServerArgs) -> anyhow::Result<Self> {
        let (place, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
        let start = place.find('/').context("it names no socket: unix:///PATH")?;
        let (user, path) = place.split_at(start);
        let user = match user.strip_suffix('@') {
            Some(user) => Some(user),
            None if user.is_empty() => None,
            None => anyhow::bail!("the path of the socket must begin with /: unix:///PATH"),
        };
        let number = |query: &str| {
            let number = query.strip_prefix("db=").context("only ?db= is known")?;
            number_of(number)
        };
        let database = query.map(number).transpose()?;
        let (username, password) = login(user, args)?;
        let redis = Redis { host: path.to_owned(), username, password, ..Redis::default() };
        Ok(Self::Server { redis: Box::new(redis), database })
    }
}

fn number_of(database: &str) -> anyhow::Result<u64> {
    database.parse().with_context(|| format!("{database:?} is not the number of a database"))
}

/// User and password. Whoever names a user is logged in as that one: without a password too, since a user may need none.
fn login(
    user: Option<&str>,
    args: &ServerArgs,
) -> anyhow::Result<(Option<String>, Option<Sensitive>)> {
    let user = user.filter(|user| !user.is_empty());
    anyhow::ensure!(
        user.is_none_or(|user| !user.contains(':')),
        "it holds a password, which everybody on this machine can read there: set REDISCLI_AUTH"
    );
    let password = args.redis_password.clone().or_else(|| user.map(|_| String::new()));
    Ok((user.map(str::to_owned), password.map(Sensitive::new)))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { redis, database } => {
                write!(f, "Redis at {}", redis.host)?;
                if !redis.host.starts_with('/') {
                    write!(f, ":{}", redis.port)?;
                }
                database.map_or(Ok(()), |database| write!(f, ", database {database}"))
            }
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Snapshot { repository, snapshot } => {
                write!(f, "snapshot {snapshot} of Repository {repository}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_servers_files_and_snapshots_apart() {
        let shown = |text| Source::parse(text, &ServerArgs::default()).map(|it| it.to_string());
        for (text, want) in [
            ("redis://orders", "Redis at orders:6379"),
            ("rediss://reader@[::1]:7000/", "Redis at ::1:7000"),
            ("redis://reader@orders/3", "Redis at orders:6379, database 3"),
            ("unix:///run/redis.sock", "Redis at /run/redis.sock"),
            ("unix://reader@/run/a@b.sock?db=2", "Redis at /run/a@b.sock, database 2"),
            ("/tmp/x", "file /tmp/x"),
            ("dump.rdb", "file dump.rdb"),
            ("orders", "snapshot latest of Repository orders"),
            ("shop/orders@1a2b", "snapshot 1a2b of Repository shop/orders"),
        ] {
            assert_eq!(shown(text).unwrap(), want);
        }
        for wrong in [
            "redis://u:secret@h",
            "http://h",
            "redis://",
            "redis://h/x",
            "redis://h/3/4",
            "redis://h?db=3",
            "unix://",
            "unix://run/redis.sock",
            "unix://u:secret@/run/redis.sock",
            "unix:///run/redis.sock?database=3",
            "orders@",
            "@x",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn whoever_names_a_user_is_logged_in_as_that_one() {
        let login = |text, password: Option<&str>| {
            let args =
                ServerArgs { redis_password: password.map(str::to_owned), ..ServerArgs::default() };
            match Source::parse(text, &args).unwrap() {
                Source::Server { redis, .. } => {
                    (redis.username, redis.password.map(|it| it.reveal().to_owned()))
                }
                other => panic!("{other}"),
            }
        };
        let text = |text: &str| Some(text.to_owned());
        for url in ["redis://reader@h", "unix://reader@/s"] {
            assert_eq!(login(url, None), (text("reader"), text("")));
            assert_eq!(login(url, Some("p")), (text("reader"), text("p")));
        }
        assert_eq!(login("redis://h", None), (None, None));
        assert_eq!(login("redis://h", Some("p")), (None, text("p")));
    }
}
