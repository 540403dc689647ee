//! Reads the text format, line by line and byte by byte, with the original's words for what is wrong.
//!
//! The original's quirks are kept where clients meet them: a missing last line feed is an error, a carriage return is
//! part of the value, `_sum` and `_count` belong to a summary only after its `# TYPE` line. Not kept: text that is not
//! UTF-8 in a help line, which the original stores and hands to Prometheus.
mod error;

use std::collections::BTreeMap;

pub use self::error::{Error, Problem};
use super::quote::{quote, quote_byte};
use crate::family::{Family, Kind, Labels, Series, Value};

/// What a body held.
#[derive(Debug)]
pub struct Parsed {
    /// Sorted by name; those without a sample are left out.
    pub families: Vec<Family>,
    /// Whether any sample carried a timestamp, which a push must not.
    pub timestamps: bool,
}

/// Reads a body.
///
/// # Errors
/// At the first line that does not follow the format; nothing of the body is then used.
pub fn parse(body: &[u8]) -> Result<Parsed, Error> {
    let mut parser = Parser { body, at: 0, line: 0, families: BTreeMap::new(), timestamps: false };
    loop {
        parser.line += 1;
        match parser.line() {
            Ok(true) => {}
            Ok(false) => break,
            Err(problem) => return Err(Error { line: parser.line, problem }),
        }
    }
    let families = parser.families.into_iter().filter(|(_, draft)| !draft.series.is_empty());
    let families = families.map(|(name, draft)| draft.finish(name)).collect();
    Ok(Parsed { families, timestamps: parser.timestamps })
}

/// A family while its lines arrive.
#[derive(Default)]
struct Draft {
    help: Option<String>,
    kind: Option<Kind>,
    series: Vec<Series>,
    /// Where a summary's or histogram's series stands: its lines share one.
    by_labels: BTreeMap<Labels, usize>,
}

impl Draft {
    fn finish(self, name: String) -> Family {
        let kind = self.kind.unwrap_or(Kind::Untyped);
        Family { name, help: self.help, kind, series: self.series }
    }
}

/// Which part of its family a sample's name stands for.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Plain,
    Sum,
    Count,
}

struct Parser<'a> {
    body: &'a [u8],
    at: usize,
    line: usize,
    families: BTreeMap<String, Draft>,
    timestamps: bool,
}

impl<'a> Parser<'a> {
    /// One line; `false` when there is none left.
    fn line(&mut self) -> Result<bool, Problem> {
        self.skip_blanks();
        match self.body.get(self.at) {
            None => Ok(false),
            Some(b'\n') => {
                self.at += 1;
                Ok(true)
            }
            Some(b'#') => {
                self.at += 1;
                self.comment()?;
                Ok(true)
            }
            Some(_) => {
                self.sample()?;
                Ok(true)
            }
        }
    }

    fn comment(&mut self) -> Result<(), Problem> {
        self.skip_blanks();
        let keyword = self.word()?;
        if keyword != b"HELP" && keyword != b"TYPE" {
            self.rest_of_line()?;
            return Ok(());
        }
        self.skip_blanks();
        let name = self.name(true);
        if self.peek()? == b'\n' {
            self.at += 1;
            return Ok(());
        }
        if !matches!(self.peek()?, b' ' | b'\t') || name.is_empty() {
            return Err(Problem::MetricNameInComment);
        }
        let (family, _) = self.family_of(&name);
        self.skip_blanks();
        if self.peek()? == b'\n' {
            self.at += 1;
            return Ok(());
        }
        if keyword == b"HELP" { self.help(family) } else { self.kind(family) }
    }

    fn help(&mut self, family: String) -> Result<(), Problem> {
        if self.draft(&family).help.is_some() {
            return Err(Problem::SecondHelp(family));
        }
        let text = unescape(self.rest_of_line()?)?;
        let text = String::from_utf8(text).map_err(|_| Problem::HelpNotUtf8(family.clone()))?;
        self.draft(&family).help = Some(text);
        Ok(())
    }

    fn kind(&mut self, family: String) -> Result<(), Problem> {
        if self.draft(&family).kind.is_some() {
            return Err(Problem::SecondType(family));
        }
        let text = self.rest_of_line()?;
        let kind = std::str::from_utf8(text).ok().and_then(Kind::parse);
        let kind = kind.ok_or_else(|| Problem::UnknownType(quote(text)))?;
        self.draft(&family).kind = Some(kind);
        Ok(())
    }

    fn sample(&mut self) -> Result<(), Problem> {
        let name = self.name(true);
        if name.is_empty() {
            return Err(Problem::MetricName);
        }
        let (family, part) = self.family_of(&name);
        let kind = *self.draft(&family).kind.get_or_insert(Kind::Untyped);
        self.skip_blanks();
        let bound_label = match kind {
            Kind::Summary => Some("quantile"),
            Kind::Histogram => Some("le"),
            Kind::Counter | Kind::Gauge | Kind::Untyped => None,
        };
        let (labels, bound) = if self.peek()? == b'{' {
            self.labels(&family, bound_label)?
        } else {
            Default::default()
        };
        let text = self.word()?;
        let value = float(text).ok_or_else(|| Problem::Float(quote(text)))?;
        record(self.draft(&family), kind, part, labels, bound, value);
        if self.peek()? == b'\n' {
            self.at += 1;
            return Ok(());
        }
        self.timestamp()
    }

    fn timestamp(&mut self) -> Result<(), Problem> {
        self.skip_blanks();
        let text = self.word()?;
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        number.ok_or_else(|| Problem::Timestamp(quote(text)))?;
        let rest = self.rest_of_line()?;
        if !rest.is_empty() {
            return Err(Problem::AfterTimestamp(quote(rest)));
        }
        self.timestamps = true;
        Ok(())
    }

    /// From `{` to behind `}` and its blanks; `bound_label` is taken out of the set and read as a number.
    fn labels(
        &mut self,
        family: &str,
        bound_label: Option<&'static str>,
    ) -> Result<(Labels, Option<f64>), Problem> {
        let mut pairs: BTreeMap<String, String> = BTreeMap::new();
        let mut bound = None;
        self.at += 1;
        loop {
            self.skip_blanks();
            if self.peek()? == b'}' {
                break;
            }
            let name = self.name(false);
            if name.is_empty() {
                return Err(Problem::LabelName(family.to_owned()));
            }
            if name == "__name__" {
                return Err(Problem::ReservedLabelName);
            }
            self.skip_blanks();
            let found = self.peek()?;
            if found != b'=' {
                return Err(Problem::NoEquals(quote_byte(found)));
            }
            if pairs.contains_key(&name) {
                return Err(Problem::DuplicateLabel(family.to_owned()));
            }
            self.at += 1;
            self.skip_blanks();
            let value = self.label_value()?;
            self.skip_blanks();
            let after = self.peek()?;
            if after != b',' && after != b'}' {
                return Err(Problem::AfterLabelValue(quote(value.as_bytes())));
            }
            match bound_label {
                Some(label) if label == name => {
                    let got = float(value.as_bytes());
                    let got = got.ok_or_else(|| Problem::FloatInLabel {
                        label,
                        got: quote(value.as_bytes()),
                    })?;
                    bound = Some(got);
                }
                _ => {
                    pairs.insert(name, value);
                }
            }
            if after == b'}' {
                break;
            }
            self.at += 1;
        }
        self.at += 1;
        self.skip_blanks();
        self.peek()?;
        Ok((pairs.into_iter().collect(), bound))
    }

    fn label_value(&mut self) -> Result<String, Problem> {
        let found = self.peek()?;
        if found != b'"' {
            return Err(Problem::NoQuote(quote_byte(found)));
        }
        let mut value = Vec::new();
        loop {
            self.at += 1;
            match self.peek()? {
                b'"' => break,
                b'\n' => return Err(Problem::NewLine(quote(&value))),
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        escaped @ (b'"' | b'\\') => value.push(escaped),
                        b'n' => value.push(b'\n'),
                        other => return Err(Problem::Escape(char::from(other))),
                    }
                }
                byte => value.push(byte),
            }
        }
        self.at += 1;
        String::from_utf8(value).map_err(|error| Problem::LabelValue(quote(error.as_bytes())))
    }

    /// The family that a sample of this name belongs to, made when there is none yet.
    fn family_of(&mut self, name: &str) -> (String, Part) {
        if !self.families.contains_key(name) {
            for (suffix, part) in
                [("_sum", Part::Sum), ("_count", Part::Count), ("_bucket", Part::Plain)]
            {
                let Some(base) = name.strip_suffix(suffix) else { continue };
                let kind = self.families.get(base).and_then(|draft| draft.kind);
                if kind == Some(Kind::Histogram)
                    || kind == Some(Kind::Summary) && part != Part::Plain
                {
                    return (base.to_owned(), part);
                }
            }
        }
        (name.to_owned(), Part::Plain)
    }

    fn draft(&mut self, family: &str) -> &mut Draft {
        self.families.entry(family.to_owned()).or_default()
    }

    fn peek(&self) -> Result<u8, Problem> {
        self.body.get(self.at).copied().ok_or(Problem::UnexpectedEnd)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.body.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// A metric or label name; empty when there is none here.
    fn name(&mut self, colons: bool) -> String {
        let start = self.at;
        while let Some(&byte) = self.body.get(self.at) {
            let letter = byte.is_ascii_alphabetic() || byte == b'_' || colons && byte == b':';
            let later_digit = byte.is_ascii_digit() && self.at > start;
            if !letter && !later_digit {
                break;
            }
            self.at += 1;
        }
        self.body[start..self.at].iter().copied().map(char::from).collect()
    }

    /// Up to the next blank or line end, which must come.
    fn word(&mut self) -> Result<&'a [u8], Problem> {
        let rest = &self.body[self.at..];
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
        let end = end.ok_or(Problem::UnexpectedEnd)?;
        self.at += end;
        Ok(&rest[..end])
    }

    /// Up to the line end, which is consumed.
    fn rest_of_line(&mut self) -> Result<&'a [u8], Problem> {
        let rest = &self.body[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Problem::UnexpectedEnd)?;
        self.at += end + 1;
        Ok(&rest[..end])
    }
}

/// Adds one sample to its family.
fn record(
    draft: &mut Draft,
    kind: Kind,
    part: Part,
    labels: Labels,
    bound: Option<f64>,
    value: f64,
) {
    let empty = match kind {
        Kind::Counter | Kind::Gauge | Kind::Untyped => {
            draft.series.push(Series { labels, value: Value::Number(value) });
            return;
        }
        Kind::Summary => Value::Summary { count: 0, sum: 0.0, quantiles: Vec::new() },
        Kind::Histogram => Value::Histogram { count: 0, sum: 0.0, buckets: Vec::new() },
    };
    let next = draft.series.len();
    let at = *draft.by_labels.entry(labels.clone()).or_insert(next);
    if at == next {
        draft.series.push(Series { labels, value: empty });
    }
    match (&mut draft.series[at].value, part) {
        (Value::Summary { sum, .. } | Value::Histogram { sum, .. }, Part::Sum) => *sum = value,
        (Value::Summary { count, .. } | Value::Histogram { count, .. }, Part::Count) => {
            *count = whole(value);
        }
        (Value::Summary { quantiles, .. }, Part::Plain) => {
            quantiles.extend(bound.filter(|bound| !bound.is_nan()).map(|bound| (bound, value)));
        }
        (Value::Histogram { buckets, .. }, Part::Plain) => {
            let bucket = bound.filter(|bound| !bound.is_nan()).map(|bound| (bound, whole(value)));
            buckets.extend(bucket);
        }
        // A series of these kinds is made above, never as a number.
        (Value::Number(_), _) => {}
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole numbers written as floats; what is outside u64 is clamped to its ends"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// Go's notion of a float in text: as Rust's, but an overflow is an error, and NaN has no sign.
fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let signed = text.starts_with(['+', '-']);
    let refused = value.is_infinite() && digits || value.is_nan() && signed;
    (!refused).then_some(value)
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => out.push(b'\\'),
            Some(b'n') => out.push(b'\n'),
            Some(&other) => return Err(Problem::Escape(char::from(other))),
            None => return Err(Problem::Escape('\n')),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
