//! The path of a push: `/metrics/job/<job>[/<label>/<value>]*`, any name followed by `@base64` when its value is
//! encoded. Takes the path as sent (percent-encoded) and yields a grouping key.
//!
//! Values that are not UTF-8 stop here. The original answers them with an error but stores them, and from then on
//! every scrape fails.
use base64::{Engine, alphabet, engine};

use crate::{
    exposition::quote::quote,
    family::{Labels, is_label_name},
};

/// Unpadded and lenient about spare bits, as Go's `RawURLEncoding`.
const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::URL_SAFE,
    engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(engine::DecodePaddingMode::RequireNone),
);

/// What follows a name whose value is base64.
const BASE64_SUFFIX: &str = "@base64";

/// Why a path names no group.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// An empty job.
    #[error("job name is required")]
    NoJob,
    /// A label without a value.
    #[error("odd number of components in label string {}", quote(.0))]
    Odd(Vec<u8>),
    /// Not a label name.
    #[error("improper label name {}", quote(.0))]
    LabelName(Vec<u8>),
    /// Not base64.
    #[error("invalid base64 encoding for {subject}={}: illegal base64 data at input byte {at}", quote(.text))]
    Base64 {
        /// `job name` or `label x`.
        subject: String,
        /// As it came.
        text: Vec<u8>,
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// Decoded, but no text.
    #[error("value of {subject} is not UTF-8: {}", quote(.value))]
    NotUtf8 {
        /// `job name` or `label x`.
        subject: String,
        /// Decoded.
        value: Vec<u8>,
    },
}

/// Where a decoded path leads.
#[derive(Debug, PartialEq)]
pub enum Place<'a> {
    /// A group.
    Group {
        /// Whether the job is base64.
        encoded: bool,
        /// The job.
        job: &'a [u8],
        /// The rest, from its slash on.
        labels: &'a [u8],
    },
    /// Elsewhere.
    Other(&'a [u8]),
}

/// Undoes percent-encoding; `None` where a `%` is not followed by two hexadecimal digits. `+` stays a plus.
pub fn decode(path: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

/// The reverse, for a `Location` header.
pub fn encode(path: &[u8]) -> String {
    let mut out = String::new();
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~/:@!$&'()*+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|nibble| {
                char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
            }));
        }
    }
    out
}

/// The path without empty, `.` and `..` parts; a slash at its end stays.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for part in &parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if parts.is_empty() || path.ends_with(b"/") {
        out.push(b'/');
    }
    out
}

/// Tells a push path from others.
pub fn place(path: &[u8]) -> Place<'_> {
    for (prefix, encoded) in [(&b"/metrics/job/"[..], false), (b"/metrics/job@base64/", true)] {
        if let Some(rest) = path.strip_prefix(prefix) {
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (job, labels) = rest.split_at(end);
            if !job.is_empty() {
                return Place::Group { encoded, job, labels };
            }
        }
    }
    Place::Other(path)
}

/// The grouping key of a push path.
///
/// # Errors
/// When the path is malformed; the text is what the client gets.
pub fn grouping(encoded: bool, job: &[u8], labels: &[u8]) -> Result<Labels, Error> {
    let subject = || "job name".to_owned();
    let job = if encoded { from_base64(job, subject)? } else { job.to_owned() };
    let job = text(job, subject)?;
    if job.is_empty() {
        return Err(Error::NoJob);
    }
    let mut pairs = Vec::new();
    if labels.len() > 1 {
        let parts: Vec<&[u8]> = labels[1..].split(|byte| *byte == b'/').collect();
        if !parts.len().is_multiple_of(2) {
            return Err(Error::Odd(labels.to_owned()));
        }
        for pair in parts.chunks_exact(2) {
            let (name, value) = (pair[0], pair[1]);
            let plain = name.strip_suffix(BASE64_SUFFIX.as_bytes());
            let name = std::str::from_utf8(plain.unwrap_or(name))
                .ok()
                .filter(|name| is_label_name(name))
                .ok_or_else(|| Error::LabelName(plain.unwrap_or(name).to_owned()))?;
            let subject = || format!("label {name}");
            let value =
                if plain.is_some() { from_base64(value, subject)? } else { value.to_owned() };
            pairs.push((name.to_owned(), text(value, subject)?));
        }
    }
    // A second job in the path does not count.
    pairs.push(("job".to_owned(), job));
    Ok(pairs.into_iter().collect())
}

fn from_base64(value: &[u8], subject: impl Fn() -> String) -> Result<Vec<u8>, Error> {
    let unpadded = value.len() - value.iter().rev().take_while(|byte| **byte == b'=').count();
    BASE64.decode(&value[..unpadded]).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _)
            | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(at) => at.saturating_sub(1),
            base64::DecodeError::InvalidPadding => unpadded,
        };
        Error::Base64 { subject: subject(), text: value.to_owned(), at }
    })
}

fn text(value: Vec<u8>, subject: impl Fn() -> String) -> Result<String, Error> {
    String::from_utf8(value)
        .map_err(|error| Error::NotUtf8 { subject: subject(), value: error.into_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Result<Vec<(String, String)>, String> {
        let decoded = decode(path).unwrap();
        let Place::Group { encoded, job, labels } = place(&decoded) else {
            return Err("elsewhere".to_owned());
        };
        let labels = grouping(encoded, job, labels).map_err(|error| error.to_string())?;
        Ok(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect())
    }

    #[test]
    fn groups() {
        assert_eq!(key("/metrics/job/a"), pairs(&[("job", "a")]));
        assert_eq!(key("/metrics/job/a/"), pairs(&[("job", "a")]));
        assert_eq!(key("/metrics/job/a/b/c"), pairs(&[("b", "c"), ("job", "a")]));
        assert_eq!(key("/metrics/job/a/job/c"), pairs(&[("job", "a")]));
        assert_eq!(key("/metrics/job/i%20j+k"), pairs(&[("job", "i j+k")]));
        assert_eq!(key("/metrics/job/%CE%B1"), pairs(&[("job", "α")]));
        assert_eq!(key("/metrics/job@base64/zrEvYg"), pairs(&[("job", "α/b")]));
        assert_eq!(key("/metrics/job@base64/zrEvYg=="), pairs(&[("job", "α/b")]));
        assert_eq!(key("/metrics/job/a/b@base64/="), pairs(&[("b", ""), ("job", "a")]));
        assert_eq!(
            key("/metrics/job/a/b@base64/Yw/d/e"),
            pairs(&[("b", "c"), ("d", "e"), ("job", "a")])
        );
    }

    #[test]
    fn errors() {
        let odd = |text: &str| Err(format!("odd number of components in label string \"{text}\""));
        assert_eq!(key("/metrics/job/a/b"), odd("/b"));
        assert_eq!(key("/metrics/job/a/b/c/"), odd("/b/c/"));
        assert_eq!(key("/metrics/job/a/b%2Fc/c"), odd("/b/c/c"));
        assert_eq!(key("/metrics/job@base64/="), Err("job name is required".to_owned()));
        assert_eq!(key("/metrics/job/a/__b/c"), Err("improper label name \"__b\"".to_owned()));
        assert_eq!(key("/metrics/job/a/b-c/c"), Err("improper label name \"b-c\"".to_owned()));
        let text =
            "invalid base64 encoding for label b=\"!!\": illegal base64 data at input byte 0";
        assert_eq!(key("/metrics/job/a/b@base64/!!"), Err(text.to_owned()));
        assert_eq!(key("/metrics/job"), Err("elsewhere".to_owned()));
    }

    #[test]
    fn a_value_that_is_not_utf8_is_named() {
        let text = "value of job name is not UTF-8: \"\\xff\\x1f\"";
        assert_eq!(key("/metrics/job@base64/_x_"), Err(text.to_owned()));
        let text = "value of label b is not UTF-8: \"\\xff\"";
        assert_eq!(key("/metrics/job/a/b/%FF"), Err(text.to_owned()));
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean(b"/metrics/job/a//b"), b"/metrics/job/a/b");
        assert_eq!(clean(b"/metrics/job/b/z/../q"), b"/metrics/job/b/q");
        assert_eq!(clean(b"/metrics/job/a/"), b"/metrics/job/a/");
        assert_eq!(clean(b"/.."), b"/");
        assert_eq!(encode("/i j+k/α".as_bytes()), "/i%20j+k/%CE%B1");
        assert_eq!(decode("/%zz"), None);
        assert_eq!(decode("/%4"), None);
    }
}
