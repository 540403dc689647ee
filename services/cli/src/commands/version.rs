//! `coffer version`.
use std::process::ExitCode;

use serde_json::json;

use crate::{
    args::{Format, GlobalArgs},
    output,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the verb.
///
/// # Errors
/// When stdout cannot be written to.
pub fn run(global: &GlobalArgs) -> anyhow::Result<ExitCode> {
    let text = match global.output {
        Format::Table | Format::Wide | Format::Name => format!("coffer {VERSION}\n"),
        Format::Json => output::json(&json!({ "version": VERSION }))?,
        Format::Yaml => output::yaml(&json!({ "version": VERSION }))?,
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
