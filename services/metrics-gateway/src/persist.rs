//! Keeps the store over restarts: one file, written whole beside the old one, synced, and renamed over it.
//!
//! The format is ours: JSON lines, a header, one line a group, and a last line that proves completeness. The
//! original's is a dump of Go's memory, not worth imitating: who moves over pushes again, or scrapes the old gateway
//! once more and pushes what it says. Numbers are strings, since JSON has no NaN and no infinity.
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    family::{Family, Kind, Labels, Series, Value},
    groups::{Group, Rejected, Store, Stored},
};

const FORMAT: &str = "coffer-metrics-gateway";
const VERSION: u32 = 1;

/// Why the groups could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be written; the old one is as it was.
    #[error("save groups to {path}")]
    Save {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there and cannot be read.
    #[error("read groups from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "read groups from {path}: it is not a file of this program (format {FORMAT:?}, version {VERSION}): {reason}"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A line is damaged.
    #[error(
        "read groups from {path}, line {line}: the file is damaged; move it away to start without it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The last line is missing, or counts another number of groups.
    #[error("read groups from {0}: the file ends early; move it away to start without it")]
    Incomplete(PathBuf),
    /// A group does not fit the others.
    #[error("restore a group from {path}, line {line}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        #[source]
        source: Rejected,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Group(GroupLine),
    End { groups: usize },
}

#[derive(Serialize, Deserialize)]
struct GroupLine {
    grouping: Vec<(String, String)>,
    pushed: Option<DateTime<Utc>>,
    failed: Option<DateTime<Utc>>,
    families: Vec<FamilyLine>,
}

#[derive(Serialize, Deserialize)]
struct FamilyLine {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    kind: Kind,
    at: DateTime<Utc>,
    series: Vec<SeriesLine>,
}

#[derive(Serialize, Deserialize)]
struct SeriesLine {
    labels: Vec<(String, String)>,
    #[serde(flatten)]
    value: ValueLine,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueLine {
    Value(Text),
    Summary { count: u64, sum: Text, quantiles: Vec<(Text, Text)> },
    Histogram { count: u64, sum: Text, buckets: Vec<(Text, u64)> },
}

/// A float as text that reads back to the very same bits, NaN's payload apart.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Text(f64);

impl From<Text> for String {
    fn from(number: Text) -> Self {
        number.0.to_string()
    }
}

impl TryFrom<String> for Text {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// Writes all groups, so that the file holds either all of them or what it held before.
///
/// # Errors
/// When the directory cannot be written to, or the disk is full.
pub fn save(path: &Path, groups: &[Group]) -> Result<(), Error> {
    write(path, groups).map_err(|source| Error::Save { path: path.to_owned(), source })
}

fn write(path: &Path, groups: &[Group]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".in_progress");
    let temporary = PathBuf::from(temporary);
    let mut out = BufWriter::new(File::create(&temporary)?);
    write_line(&mut out, &Header { format: FORMAT.to_owned(), version: VERSION })?;
    for group in groups {
        write_line(&mut out, &Line::Group(group_line(group)))?;
    }
    write_line(&mut out, &Line::End { groups: groups.len() })?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The rename itself must survive a power cut too.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Reads a file that [`save`] wrote into the store. A file that is not there is an empty store.
///
/// # Errors
/// When there is a file that cannot be read to its end: starting without it would quietly forget what was pushed.
pub fn load(path: &Path, store: &Store) -> Result<(), Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(read(error)),
    };
    let mut lines = BufReader::new(file).split(b'\n').enumerate();
    let foreign = |reason: String| Error::Foreign { path: path.to_owned(), reason };
    let Some((_, first)) = lines.next() else { return Err(Error::Incomplete(path.to_owned())) };
    let header: Header = serde_json::from_slice(&first.map_err(read)?)
        .map_err(|error| foreign(format!("its first line does not parse ({error})")))?;
    if header.format != FORMAT || header.version != VERSION {
        let found = format!("found format {:?}, version {}", header.format, header.version);
        return Err(foreign(found));
    }
    let mut restored = 0;
    for (index, line) in lines {
        let number = index + 1;
        let line: Line = serde_json::from_slice(&line.map_err(read)?)
            .map_err(|source| Error::Damaged { path: path.to_owned(), line: number, source })?;
        match line {
            Line::Group(group) => {
                let refused =
                    |source| Error::Refused { path: path.to_owned(), line: number, source };
                store.restore(group_from(group)).map_err(refused)?;
                restored += 1;
            }
            Line::End { groups } if groups == restored => return Ok(()),
            Line::End { .. } => break,
        }
    }
    Err(Error::Incomplete(path.to_owned()))
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn group_line(group: &Group) -> GroupLine {
    let Group { grouping, families, pushed, failed } = group;
    let families = families
        .values()
        .map(|stored| {
            let Family { name, help, kind, series } = &stored.family;
            FamilyLine {
                name: name.clone(),
                help: help.clone(),
                kind: *kind,
                at: stored.at,
                series: series.iter().map(series_line).collect(),
            }
        })
        .collect();
    GroupLine { grouping: pairs(grouping), pushed: *pushed, failed: *failed, families }
}

fn series_line(series: &Series) -> SeriesLine {
    let value = match &series.value {
        Value::Number(value) => ValueLine::Value(Text(*value)),
        Value::Summary { count, sum, quantiles } => ValueLine::Summary {
            count: *count,
            sum: Text(*sum),
            quantiles: quantiles.iter().map(|(a, b)| (Text(*a), Text(*b))).collect(),
        },
        Value::Histogram { count, sum, buckets } => ValueLine::Histogram {
            count: *count,
            sum: Text(*sum),
            buckets: buckets.iter().map(|(bound, below)| (Text(*bound), *below)).collect(),
        },
    };
    SeriesLine { labels: pairs(&series.labels), value }
}

fn group_from(line: GroupLine) -> Group {
    let GroupLine { grouping, pushed, failed, families } = line;
    let families = families
        .into_iter()
        .map(|line| {
            let FamilyLine { name, help, kind, at, series } = line;
            let series = series.into_iter().map(series_from).collect();
            let family = Family { name: name.clone(), help, kind, series };
            (name, Arc::new(Stored { family, at }))
        })
        .collect();
    Group { grouping: grouping.into_iter().collect(), families, pushed, failed }
}

fn series_from(line: SeriesLine) -> Series {
    let value = match line.value {
        ValueLine::Value(value) => Value::Number(value.0),
        ValueLine::Summary { count, sum, quantiles } => Value::Summary {
            count,
            sum: sum.0,
            quantiles: quantiles.into_iter().map(|(a, b)| (a.0, b.0)).collect(),
        },
        ValueLine::Histogram { count, sum, buckets } => Value::Histogram {
            count,
            sum: sum.0,
            buckets: buckets.into_iter().map(|(bound, below)| (bound.0, below)).collect(),
        },
    };
    Series { labels: line.labels.into_iter().collect(), value }
}

#[cfg(test)]
mod tests;
