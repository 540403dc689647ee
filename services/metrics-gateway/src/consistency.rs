//! What makes a push unacceptable: the rules of a Prometheus scrape, applied before anything is stored, so that a
//! scrape can never fail for what somebody pushed.
//!
//! The texts are those of the Go client library, which the original returns.
use std::{
    collections::{HashMap, HashSet},
    fmt,
    fmt::Write,
};

use crate::{
    exposition::{go_float, quote::quote},
    family::{Family, Kind, Labels, Series, Value, is_label_name},
};

/// Named in one answer at most; a push can hold a million of them.
const NAMED_AT_MOST: usize = 10;

/// One rule that a push breaks.
#[allow(missing_docs, reason = "the fields are what the message shows")]
#[derive(Debug, PartialEq)]
pub enum Violation {
    /// A sample carries a time. Prometheus stamps what it scrapes itself.
    Timestamp,
    /// The gateway's own family of that name has another type.
    OwnKind { name: String, pushed: Kind, own: Kind },
    /// Another group's family of that name has another type.
    Kind { name: String, series: String, existing: Kind },
    /// A label that Prometheus would not take.
    LabelName { name: String, series: String, label: String },
    /// `quantile` in a summary or `le` in a histogram, given by the group.
    BoundLabel { name: String, series: String, label: &'static str },
    /// The same name and labels are there already.
    Duplicate { name: String, series: String },
    /// The name is what a sample line of another family is called.
    PartOf { name: String, base: String, kind: Kind },
    /// Another family is called what a sample line of this one would be.
    HasPart { name: String, kind: Kind, part: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timestamp => f.write_str("pushed metrics must not have timestamps"),
            Self::OwnKind { name, pushed, own } => {
                write!(f, "gathered metric family {name} has type {pushed} but should have {own}")
            }
            Self::Kind { name, series, existing } => {
                write!(f, "collected metric \"{name}\" {series} is not a {existing}")
            }
            Self::LabelName { name, series, label } => write!(
                f,
                "collected metric \"{name}\" {series} has a label with an invalid name: {label}"
            ),
            Self::BoundLabel { name, series, label } => write!(
                f,
                "collected metric \"{name}\" {series} must not have an explicit \"{label}\" label"
            ),
            Self::Duplicate { name, series } => write!(
                f,
                "collected metric \"{name}\" {series} was collected before with the same name and label values"
            ),
            Self::PartOf { name, base, kind } => write!(
                f,
                "collected metric named \"{name}\" collides with previously collected {} named \"{base}\"",
                kind.name()
            ),
            Self::HasPart { name, kind, part } => {
                let own = if *kind == Kind::Histogram && part.ends_with("_bucket") {
                    "histogram"
                } else {
                    "histogram or summary"
                };
                write!(
                    f,
                    "collected {own} named \"{name}\" collides with previously collected metric named \"{part}\""
                )
            }
        }
    }
}

/// All that is wrong with one push; never empty.
#[derive(Debug, PartialEq)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return only.fmt(f);
        }
        write!(f, "{} error(s) occurred:", self.0.len())?;
        for violation in self.0.iter().take(NAMED_AT_MOST) {
            write!(f, "\n* {violation}")?;
        }
        match self.0.len().checked_sub(NAMED_AT_MOST) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n* and {more} more"),
        }
    }
}

/// What is there besides the push: every other group, and the gateway's own families.
pub trait Surroundings {
    /// The type of the gateway's own family of that name.
    fn own_kind(&self, name: &str) -> Option<Kind>;
    /// The type of that name in other groups.
    fn kind_elsewhere(&self, name: &str) -> Option<Kind>;
    /// Whether another group has that very series.
    fn has_elsewhere(&self, name: &str, labels: &Labels) -> bool;
    /// The type of that name in this group, where the push leaves it as it is.
    fn kind_kept(&self, name: &str) -> Option<Kind>;
}

/// Checks families whose labels are final (`Labels::in_group`), each name once.
pub fn check(families: &[Family], around: &impl Surroundings) -> Vec<Violation> {
    let pushed: HashMap<&str, Kind> =
        families.iter().map(|family| (family.name.as_str(), family.kind)).collect();
    let mut found = Vec::new();
    for family in families {
        check_kind(family, around, &mut found);
        check_names(family, &pushed, around, &mut found);
        check_series(family, around, &mut found);
    }
    found
}

fn check_kind(family: &Family, around: &impl Surroundings, found: &mut Vec<Violation>) {
    let name = &family.name;
    if let Some(own) = around.own_kind(name) {
        if own != family.kind {
            found.push(Violation::OwnKind { name: name.clone(), pushed: family.kind, own });
        }
    } else if let Some(existing) = around.kind_elsewhere(name)
        && existing != family.kind
    {
        let series =
            family.series.first().map(|first| describe(family.kind, first)).unwrap_or_default();
        found.push(Violation::Kind { name: name.clone(), series, existing });
    }
}

/// A summary `x` is scraped as `x`, `x_sum` and `x_count`: nothing else may have those names.
fn check_names(
    family: &Family,
    pushed: &HashMap<&str, Kind>,
    around: &impl Surroundings,
    found: &mut Vec<Violation>,
) {
    let kind_of = |name: &str| {
        let in_push = pushed.get(name).copied();
        in_push
            .or_else(|| around.own_kind(name))
            .or_else(|| around.kind_elsewhere(name))
            .or_else(|| around.kind_kept(name))
    };
    let name = &family.name;
    for part in ["_count", "_sum", "_bucket"] {
        if let Some(base) = name.strip_suffix(part)
            && let Some(kind) = kind_of(base)
            && has_part(kind, part)
        {
            found.push(Violation::PartOf { name: name.clone(), base: base.to_owned(), kind });
        }
        // Where the other one is in the same push, it was named above.
        let other = format!("{name}{part}");
        if has_part(family.kind, part)
            && !pushed.contains_key(other.as_str())
            && kind_of(&other).is_some()
        {
            found.push(Violation::HasPart { name: name.clone(), kind: family.kind, part: other });
        }
    }
}

fn has_part(kind: Kind, part: &str) -> bool {
    match kind {
        Kind::Histogram => true,
        Kind::Summary => part != "_bucket",
        Kind::Counter | Kind::Gauge | Kind::Untyped => false,
    }
}

fn check_series(family: &Family, around: &impl Surroundings, found: &mut Vec<Violation>) {
    let name = &family.name;
    let bound_label = match family.kind {
        Kind::Summary => Some("quantile"),
        Kind::Histogram => Some("le"),
        Kind::Counter | Kind::Gauge | Kind::Untyped => None,
    };
    let mut seen = HashSet::with_capacity(family.series.len());
    for series in &family.series {
        if let Some((label, _)) = series.labels.iter().find(|(label, _)| !is_label_name(label)) {
            let label = label.to_owned();
            let series = describe(family.kind, series);
            found.push(Violation::LabelName { name: name.clone(), series, label });
        }
        if let Some(label) = bound_label
            && series.labels.get(label).is_some()
        {
            let series = describe(family.kind, series);
            found.push(Violation::BoundLabel { name: name.clone(), series, label });
        }
        if !seen.insert(&series.labels) || around.has_elsewhere(name, &series.labels) {
            found.push(Violation::Duplicate {
                name: name.clone(),
                series: describe(family.kind, series),
            });
        }
    }
}

/// A series as the original's messages show it: the text form of its protobuf message.
pub fn describe(kind: Kind, series: &Series) -> String {
    let mut out = String::from("{ ");
    // Writing to a String cannot fail.
    for (name, value) in series.labels.iter() {
        let _ = write!(out, "label:<name:{} value:{} > ", octal(name), octal(value));
    }
    match &series.value {
        Value::Number(value) => {
            let _ = write!(out, "{}:<value:{} > ", kind.name(), go_float(*value));
        }
        Value::Summary { count, sum, .. } => {
            let _ = write!(out, "summary:<sample_count:{count} sample_sum:{} > ", go_float(*sum));
        }
        Value::Histogram { count, sum, .. } => {
            let _ = write!(out, "histogram:<sample_count:{count} sample_sum:{} > ", go_float(*sum));
        }
    }
    out.push('}');
    out
}

/// In quotes, with bytes outside ASCII as `\316`.
fn octal(text: &str) -> String {
    if text.is_ascii() {
        return quote(text.as_bytes());
    }
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push('"');
    out
}
