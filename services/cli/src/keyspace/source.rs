//! How a keyspace is named on the command line.
use std::{fmt, path::PathBuf};

use anyhow::Context;
use coffer_api::session::{Redis, RedisTls, Sensitive};

const DEFAULT_PORT: u16 = 6379;

/// Where a keyspace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A server, a Sentinel, or any server of a cluster.
    Server(Box<Redis>),
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

    fn server(text: &str, args: &ServerArgs) -> anyhow::Result<Self> {
        let uri: http::Uri = text.parse()?;
        let encrypted = match uri.scheme_str() {
            Some("redis") => false,
            Some("rediss") => true,
            _ => anyhow::bail!("only redis:// and rediss:// are servers"),
        };
        let user = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
        let user = user.map(|(user, _)| user).filter(|user| !user.is_empty());
        anyhow::ensure!(
            user.is_none_or(|user| !user.contains(':')),
            "it holds a password, which everybody on this machine can read there: set REDISCLI_AUTH"
        );
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
        Ok(Self::Server(Box::new(Redis {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(DEFAULT_PORT),
            username: user.map(str::to_owned),
            password: args.redis_password.clone().map(Sensitive::new),
            tls,
        })))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(redis) => write!(f, "Redis at {}:{}", redis.host, redis.port),
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
            ("/tmp/x", "file /tmp/x"),
            ("dump.rdb", "file dump.rdb"),
            ("orders", "snapshot latest of Repository orders"),
            ("shop/orders@1a2b", "snapshot 1a2b of Repository shop/orders"),
        ] {
            assert_eq!(shown(text).unwrap(), want);
        }
        for wrong in ["redis://u:secret@h", "http://h", "redis://", "orders@", "@x"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
