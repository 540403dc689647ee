//! What the index of a large repository takes in memory.

use crate::Result;
use crate::report::{Figure, Unit};

/// 10 TB of data are about this many bytes a blob at most.
const PROMISED: f64 = 100.0;

/// Builds an index of synthetic blobs, and counts the growth of this process.
pub(crate) fn figure(blobs: u64) -> Result<Figure> {
    eprintln!("measuring an index of {blobs} blobs");
    let taken = coffer_restic::speed::index_memory(blobs, || resident().unwrap_or(0));
    Ok(Figure {
        case: format!("index of {blobs} blobs"),
        ours: taken as f64 / blobs as f64,
        peer: None,
        unit: Unit::PerBlob,
        limit: Some(PROMISED),
    })
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
