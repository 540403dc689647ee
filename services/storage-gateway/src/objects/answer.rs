//! Successful answers of the thin stores, and what `object_store` wants to know of them.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use object_store::path::Path;
use object_store::{
    Attributes, Error, Extensions, GetOptions, GetResult, GetResultPayload, ObjectMeta, Result,
};
use std::ops::Range;

/// An answer that is a success, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// As the result of a GET or a HEAD.
    pub(super) fn into_result(
        self,
        store: &'static str,
        location: &Path,
        options: &GetOptions,
    ) -> Result<GetResult> {
        let failed = |problem: &str| Error::Generic {
            store,
            source: format!("the answer for {location} {problem}").into(),
        };
        let length = self.body.len() as u64;
        // Where the body begins in the object, and the object's size.
        let (start, size) = match self.header("content-range") {
            Some(text) => content_range(text).ok_or_else(|| failed("has no usable range"))?,
            None if options.head => {
                let size = self.header("content-length").and_then(|text| text.parse().ok());
                (0, size.ok_or_else(|| failed("tells no size"))?)
            }
            None => (0, length),
        };
        let range = match &options.range {
            Some(range) => range.as_range(size).map_err(|error| failed(&error.to_string()))?,
            None => 0..size,
        };
        let body = match options.head {
            true => Bytes::new(),
            // A server that knows no ranges has sent everything.
            false => part(&self.body, start, &range)
                .ok_or_else(|| failed("is another range than was asked for, or cut off"))?,
        };
        let last_modified = self.header("last-modified");
        let last_modified = last_modified.and_then(|text| DateTime::parse_from_rfc2822(text).ok());
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: last_modified.map_or(DateTime::<Utc>::UNIX_EPOCH, |time| time.to_utc()),
            size,
            e_tag: self.header("etag").map(str::to_owned),
            version: None,
        };
        let payload = GetResultPayload::Stream(futures::stream::iter([Ok(body)]).boxed());
        let attributes = Attributes::default();
        Ok(GetResult { payload, meta, range, attributes, extensions: self.extensions })
    }
}

/// `bytes 500-999/1234`: where it starts, and of how much.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()?))
}

/// The part of an object that was asked for, from a body that starts at `start`.
fn part(body: &Bytes, start: u64, wanted: &Range<u64>) -> Option<Bytes> {
    let from = usize::try_from(wanted.start.checked_sub(start)?).ok()?;
    let to = usize::try_from(wanted.end.checked_sub(start)?).ok()?;
    (from <= to && to <= body.len()).then(|| body.slice(from..to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::GetRange;

    fn read(
        header: Option<&str>,
        body: &'static str,
        range: Option<GetRange>,
    ) -> Option<Range<u64>> {
        let mut headers = HeaderMap::new();
        headers.extend(header.map(|h| (http::header::CONTENT_RANGE, h.parse().unwrap())));
        let (status, extensions) = (StatusCode::OK, Extensions::default());
        let answer = Answer { status, headers, extensions, body: body.into() };
        let options = GetOptions { range, ..GetOptions::default() };
        let result = answer.into_result("test", &Path::from("x"), &options).ok()?;
        Some(result.range)
    }

    #[test]
    fn only_the_range_that_was_asked_for_is_taken() {
        let some = |range: Range<u64>| Some(GetRange::Bounded(range));
        assert_eq!(read(None, "0123456789", None), Some(0..10));
        assert_eq!(read(Some("bytes 2-4/10"), "234", some(2..5)), Some(2..5));
        assert_eq!(read(None, "0123456789", some(2..5)), Some(2..5), "the server knows no ranges");
        assert_eq!(read(Some("bytes 7-9/10"), "789", some(7..20)), Some(7..10));
        assert_eq!(read(Some("bytes 0-2/10"), "012", some(2..5)), None);
        assert_eq!(read(Some("bytes 2-4/10"), "23", some(2..5)), None, "cut off");
        assert_eq!(read(Some("2-4 of 10"), "234", some(2..5)), None);
    }
}
