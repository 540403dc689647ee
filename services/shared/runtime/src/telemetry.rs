//! Logs: one subscriber for the process, to stderr, as text for people or JSON for machines.
//!
//! Errors are logged once, where they are handled, with their whole chain: `error = fault::chain(&error)`.

use crate::args::{LogArgs, LogFormat};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is neither a level nor a filter.
    #[error(
        "{text:?} is no log level; say error, warn, info, debug or trace, or a filter like info,coffer_restic=debug"
    )]
    Level {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a subscriber already.
    #[error("set up logging")]
    Install(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Installs the process's subscriber. For `main` only: a library never calls it.
///
/// # Errors
/// When the level cannot be parsed, or a subscriber is installed already.
pub fn init(args: &LogArgs) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&args.log_level)
        .map_err(|source| Error::Level { text: args.log_level.clone(), source })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let installed = match args.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(Error::Install)
}
