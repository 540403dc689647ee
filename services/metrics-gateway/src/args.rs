//! Flags and environment → configuration. The flags that the original has too are spelled as there, dots included, so
//! that a Deployment's arguments can stay as they are.
use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use coffer_runtime::{
    args::{CommonArgs, ListenArgs, TlsArgs},
    grant::{KeyError, Verifier},
};

use crate::{Config, groups::Limits};

/// Keeps the last figures of Jobs that are gone, and shows them to Prometheus: a Pushgateway.
#[derive(Debug, Parser)]
#[command(name = "coffer-metrics-gateway", version)]
pub struct Args {
    /// Public key of the orchestrator's session grants, PEM; without, no worker may push over gRPC
    #[arg(long, env = "COFFER_GRANT_PUBLIC_KEY", value_name = "FILE")]
    grant_public_key: Option<PathBuf>,
    /// Address of the Pushgateway HTTP API, open to whoever reaches it
    #[arg(
        long = "web.listen-address", env = "COFFER_METRICS_WEB_LISTEN_ADDRESS", value_name = "ADDRESS",
        default_value = ":9091", value_parser = web_address,
    )]
    web_listen_address: SocketAddr,
    /// File to keep the groups in; they are lost at a restart when absent
    #[arg(long = "persistence.file", env = "COFFER_METRICS_PERSISTENCE_FILE", value_name = "FILE")]
    persistence_file: Option<OsString>,
    /// How often to write that file, if there is something new
    #[arg(
        long = "persistence.interval", env = "COFFER_METRICS_PERSISTENCE_INTERVAL", value_name = "DURATION",
        default_value = "5m", value_parser = humantime::parse_duration,
    )]
    persistence_interval: Duration,
    /// Largest body of a push, in bytes
    #[arg(
        long = "push.max-body-bytes", env = "COFFER_METRICS_PUSH_MAX_BODY_BYTES", value_name = "N",
        default_value_t = 16 * 1024 * 1024,
    )]
    max_body_bytes: usize,
    /// Most groups to hold; pushes to further ones are refused
    #[arg(
        long = "push.max-groups",
        env = "COFFER_METRICS_PUSH_MAX_GROUPS",
        value_name = "N",
        default_value_t = 100_000
    )]
    max_groups: usize,
    /// Most series to hold, over all groups; pushes with more are refused
    #[arg(
        long = "push.max-series",
        env = "COFFER_METRICS_PUSH_MAX_SERIES",
        value_name = "N",
        default_value_t = 1_000_000
    )]
    max_series: usize,
    #[command(flatten)]
    listen: ListenArgs,
    // These bring headings of their own, under which later flags would appear too.
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

impl Args {
    /// The configuration.
    ///
    /// # Errors
    /// When the file with the grants' key cannot be used.
    pub fn config(self) -> Result<Config, KeyError> {
        let flags = self.flags();
        Ok(Config {
            http_listen: self.web_listen_address.into(),
            grpc_listen: self.listen.listen.into(),
            tls: self.tls.options(),
            grants: self.grant_public_key.as_deref().map(Verifier::from_file).transpose()?,
            // The original's way to say "none", too.
            persistence_file: self
                .persistence_file
                .filter(|file| !file.is_empty())
                .map(PathBuf::from),
            persistence_interval: self.persistence_interval,
            limits: Limits { groups: self.max_groups, series: self.max_series },
            max_body_bytes: self.max_body_bytes,
            flags,
        })
    }

    fn flags(&self) -> BTreeMap<String, String> {
        let file = self.persistence_file.as_ref().map(|file| file.to_string_lossy().into_owned());
        let interval = humantime::format_duration(self.persistence_interval).to_string();
        [
            ("web.listen-address", self.web_listen_address.to_string()),
            ("persistence.file", file.unwrap_or_default()),
            ("persistence.interval", interval),
            ("push.max-body-bytes", self.max_body_bytes.to_string()),
            ("push.max-groups", self.max_groups.to_string()),
            ("push.max-series", self.max_series.to_string()),
        ]
        .into_iter()
        .map(|(flag, value)| (flag.to_owned(), value))
        .collect()
    }
}

/// As Go takes it: without a host, all of them.
fn web_address(text: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}").parse(),
        None => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_flags_are_understood() {
        let flags = [
            "p",
            "--web.listen-address=:56789",
            "--persistence.file=",
            "--persistence.interval=1m30s",
        ];
        let config = Args::try_parse_from(flags).unwrap().config().unwrap();
        assert_eq!(config.http_listen.address(), "0.0.0.0:56789".parse().unwrap());
        assert_eq!(config.persistence_file, None);
        assert_eq!(config.persistence_interval, Duration::from_secs(90));
        assert_eq!(config.flags["persistence.interval"], "1m 30s");
    }

    #[test]
    fn definition() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
