//! Redis' own patterns, as `KEYS` and `SCAN … MATCH` read them: `*`, `?`, `[a-c]`, `[^x]` and `\` before a
//! character that is meant as it is. Keys are bytes, and so are patterns; the crates for file names know
//! slashes and UTF-8, which mean nothing here. Takes time in proportion to pattern times key at worst.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `*`
    Any,
    /// `?`
    One,
    /// A byte that must be there.
    Byte(u8),
    /// `[…]`: ranges, and whether a byte must be outside of them.
    Class { ranges: Vec<(u8, u8)>, outside: bool },
}

impl Glob {
    /// Reads a pattern. There is no wrong one: a bracket that is never closed ends with the pattern.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((&byte, behind)) = rest.split_first() {
            rest = behind;
            match byte {
                b'*' if parts.last() == Some(&Part::Any) => {}
                b'*' => parts.push(Part::Any),
                b'?' => parts.push(Part::One),
                b'[' => {
                    let (class, behind) = class(rest);
                    parts.push(class);
                    rest = behind;
                }
                b'\\' if !rest.is_empty() => {
                    parts.push(Part::Byte(rest[0]));
                    rest = &rest[1..];
                }
                byte => parts.push(Part::Byte(byte)),
            }
        }
        Self(parts)
    }

    /// Whether a key fits.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Where the last `*` was, and up to where it reaches: only the last one need ever be longer.
        let mut star: Option<(usize, usize)> = None;
        loop {
            match self.0.get(part) {
                None if at == key.len() => return true,
                Some(Part::Any) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(wanted) if key.get(at).is_some_and(|byte| wanted.takes(*byte)) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match star {
                Some((starred, reached)) if reached < key.len() => {
                    star = Some((starred, reached + 1));
                    part = starred + 1;
                    at = reached + 1;
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Byte(wanted) => *wanted == byte,
            Self::Class { ranges, outside } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *outside
            }
        }
    }
}

/// What is in brackets, and what follows them.
fn class(inside: &[u8]) -> (Part, &[u8]) {
    let (outside, mut rest) = match inside.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, inside),
    };
    let mut ranges = Vec::new();
    loop {
        match rest {
            [] => break,
            [b']', behind @ ..] => {
                rest = behind;
                break;
            }
            [b'\\', byte, behind @ ..] => {
                ranges.push((*byte, *byte));
                rest = behind;
            }
            [from, b'-', to, behind @ ..] => {
                ranges.push((*from.min(to), *from.max(to)));
                rest = behind;
            }
            [byte, behind @ ..] => {
                ranges.push((*byte, *byte));
                rest = behind;
            }
        }
    }
    (Part::Class { ranges, outside }, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_redis_does() {
        for (pattern, fits, misses) in [
            ("*", &["", "a", "a/b"][..], &[][..]),
            ("user:*", &["user:", "user:1"], &["user", "xuser:1"]),
            ("h?llo", &["hello", "h?llo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo"], &["hello"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("*:*:end", &["a:b:end", "a:end:b:end"], &["a:end", "a:b:end:"]),
            (r"a\*b", &["a*b"], &["axb"]),
            ("[abc", &["a"], &["d"]),
            ("", &[""], &["a"]),
            ("a**b", &["ab", "axxb"], &["a"]),
        ] {
            let glob = Glob::new(pattern.as_bytes());
            assert!(fits.iter().all(|key| glob.matches(key.as_bytes())), "{pattern}");
            assert!(!misses.iter().any(|key| glob.matches(key.as_bytes())), "{pattern}");
        }
        assert!(Glob::new(b"\xff*\x00").matches(b"\xff\x80\x00"));
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "a*".repeat(60);
        assert!(!Glob::new(format!("{pattern}b").as_bytes()).matches(&[b'a'; 20_000]));
    }
}
