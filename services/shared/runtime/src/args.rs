//! Groups of flags that several programs share, for `#[command(flatten)]`. Each has its variable `COFFER_*`; the
//! environment is read by clap here and nowhere else.

use crate::grant::{KeyError, Verifier};
use crate::tls::TlsOptions;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What every process takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where to answer probes and scrapes.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl AsRef<Self> for CommonArgs {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// How to log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// error, warn, info, debug, trace, or a filter like info,coffer_restic=debug
    #[arg(long, env = "COFFER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Lines for people or objects for machines
    #[arg(long, env = "COFFER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

impl Default for LogArgs {
    fn default() -> Self {
        Self { log_level: "info".to_owned(), log_format: LogFormat::Text }
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Where to answer probes and scrapes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Admin endpoint")]
pub struct AdminArgs {
    /// Address of /live, /ready and /metrics; no endpoint when absent
    #[arg(long, env = "COFFER_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
}

/// Where to serve gRPC.
#[derive(Debug, Clone, Args)]
pub struct ListenArgs {
    /// Address to serve gRPC on; port 0 takes a free one
    #[arg(long, env = "COFFER_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:7443")]
    pub listen: SocketAddr,
}

/// Certificates, in files that may be replaced while the process runs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Certificate chain of this process, PEM
    #[arg(long, env = "COFFER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, env = "COFFER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificates of the authorities to trust, PEM
    #[arg(long, env = "COFFER_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// The options, or none when no flag was given.
    #[must_use]
    pub fn options(&self) -> Option<TlsOptions> {
        let Self { tls_cert, tls_key, tls_ca } = self.clone();
        let identity = tls_cert.zip(tls_key);
        if identity.is_none() && tls_ca.is_none() {
            return None;
        }
        Some(TlsOptions::from_files(identity, tls_ca))
    }
}

/// How to verify the grants that workers show.
#[derive(Debug, Clone, Args)]
pub struct GrantArgs {
    /// Public key of the orchestrator's session grants, PEM; several while it is being replaced
    #[arg(long, env = "COFFER_GRANT_PUBLIC_KEY", value_name = "FILE")]
    pub grant_public_key: PathBuf,
}

impl GrantArgs {
    /// The verifier.
    ///
    /// # Errors
    /// When the file cannot be read or holds no such key.
    pub fn verifier(&self) -> Result<Verifier, KeyError> {
        Verifier::from_file(&self.grant_public_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        listen: ListenArgs,
        #[command(flatten)]
        tls: TlsArgs,
    }

    #[test]
    fn groups_flatten_and_have_defaults() {
        let program = Program::try_parse_from(["p", "--log-format", "json"]).unwrap();
        assert_eq!(program.common.log.log_format, LogFormat::Json);
        assert_eq!(program.common.log.log_level, "info");
        assert_eq!(program.listen.listen.port(), 7443);
        assert!(program.common.admin.admin_listen.is_none());
        assert!(program.tls.options().is_none());
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        assert!(Program::try_parse_from(["p", "--tls-cert", "a"]).is_err());
        let program = Program::try_parse_from(["p", "--tls-ca", "a"]).unwrap();
        assert!(program.tls.options().is_some());
    }
}
