//! Where in a bucket or container a repository lies: exactly where restic has it, whatever characters are in the name.
//!
//! Coffer used to encode some of them with percent signs. What was written there must not be lost sight of, so that place
//! is kept in mind.

use object_store::path::Path;

/// A path in a bucket, without slashes at its ends; may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    path: Path,
    former: Vec<Path>,
}

impl Prefix {
    /// The path as restic has it, and the words of the Repository that it was made of.
    ///
    /// # Errors
    /// When no object can be named so.
    pub(super) fn new(path: &str, words: &str) -> Result<Self, &'static str> {
        // The second is where a name lay before it had to be written with escapes.
        let mut former = vec![Path::from(words), Path::from(path)];
        let path = Path::parse(path).map_err(|_| "it contains a control character")?;
        former.retain(|former| *former != path);
        former.dedup();
        Ok(Self { path, former })
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where Coffer would have put the repository before, as far as that is elsewhere.
    #[must_use]
    pub fn former(&self) -> &[Path] {
        &self.former
    }
}

/// What Go makes of the path of a URL; none if an escape in it is none, or it is not UTF-8 then.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.extend(hex::decode(part.get(..2)?).ok()?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// The path as it has to be written in a URL for restic.
pub(super) fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('#', "%23").replace('?', "%3F")
}
