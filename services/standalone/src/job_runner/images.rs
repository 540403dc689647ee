//! Which program on this machine stands for which container image.

use std::path::PathBuf;

/// A program with its leading arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The executable; it takes the place of the image's entrypoint.
    pub path: PathBuf,
    /// Arguments before those of the container.
    pub args: Vec<String>,
}

/// An ordered table: the first pattern that matches wins.
#[derive(Debug, Clone, Default)]
pub struct ImageMap {
    rules: Vec<(String, Program)>,
}

impl ImageMap {
    /// Adds a rule. `*` in the pattern stands for any text; a pattern without tag and digest
    /// matches an image with any.
    #[must_use]
    pub fn with(mut self, pattern: impl Into<String>, program: Program) -> Self {
        self.rules.push((pattern.into(), program));
        self
    }

    /// The program that stands for an image.
    pub fn find(&self, image: &str) -> Option<&Program> {
        let bare = without_tag(image);
        self.rules
            .iter()
            .find(|(pattern, _)| matches(pattern, image) || matches(pattern, bare))
            .map(|(_, program)| program)
    }
}

/// `registry:5000/a/b:1.2@sha256:…` without tag and digest.
fn without_tag(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    image[name..].find(':').map_or(image, |colon| &image[..name + colon])
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_images() {
        let table = [
            ("redis", "redis", true),
            ("redis", "redis:7", true),
            ("redis", "redis@sha256:00", true),
            ("redis:7", "redis:7", true),
            ("redis:7", "redis:8", false),
            ("*/coffer-worker", "ghcr.io/x/coffer-worker:1", true),
            ("*/coffer-worker", "localhost:5000/coffer-worker", true),
            ("*", "anything:at/all", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("stashed/*", "stashed/stash-redis:7.0.5", true),
            ("stashed/*", "x/stashed/y", false),
        ];
        let program = |path: &str| Program { path: path.into(), args: Vec::new() };
        for (pattern, image, wanted) in table {
            let map = ImageMap::default().with(pattern, program("/bin/x"));
            assert_eq!(map.find(image).is_some(), wanted, "{pattern} {image}");
        }
        let map = ImageMap::default().with("a", program("/1")).with("*", program("/2"));
        assert_eq!(map.find("a:x"), Some(&program("/1")));
    }
}
