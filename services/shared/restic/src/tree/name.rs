//! Names as restic writes them into trees, and paths as people write them.
//!
//! A name in a tree is quoted as by Go's `strconv.Quote`, without the quotes around it: `a"b` lies there as `a\"b`, and a byte
//! that is no text as `\xff`. People see and give the name itself. One that is no text, or that would do something to a
//! terminal or to the path that it is a part of, is shown as it lies in the tree.

use std::borrow::Cow;

/// The path of a file in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilePath {
    /// For people.
    pub(crate) shown: String,
    /// The path itself, where it is text and not what is shown.
    real: Option<String>,
}

impl FilePath {
    /// That of a name in this folder, as it is quoted in the folder's tree.
    pub(crate) fn join(&self, quoted: &str) -> Self {
        let real = real(quoted);
        let shown = match &real {
            Some(real) if is_plain(real) => real.as_ref(),
            _ => quoted,
        };
        let shown = format!("{}/{shown}", self.shown);
        let folder = self.real.as_deref().unwrap_or(&self.shown);
        let real = real.map(|name| format!("{folder}/{name}")).filter(|real| *real != shown);
        Self { shown, real }
    }

    /// Whether this is the path that was asked for, [`clean`] as it should be.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        self.shown == wanted || self.real.as_deref() == Some(wanted)
    }
}

/// A name for people.
pub(crate) fn shown(quoted: &str) -> Cow<'_, str> {
    real(quoted).filter(|real| is_plain(real)).unwrap_or(Cow::Borrowed(quoted))
}

/// A path from the root, as restic takes one: it need not begin with a slash, and empty parts and dots lead nowhere.
pub(crate) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

fn is_plain(name: &str) -> bool {
    !name.chars().any(|c| c == '/' || c.is_control())
}

/// The name that is quoted, if it is text. What no Go program has quoted is taken as it is.
fn real(quoted: &str) -> Option<Cow<'_, str>> {
    if !quoted.contains(['\\', '"']) {
        return Some(Cow::Borrowed(quoted));
    }
    match unquote(quoted) {
        Some(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(quoted)),
    }
}

/// The bytes that a quoted name stands for; `None` if it was not quoted by Go's rules.
fn unquote(quoted: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '"' | '\n' => return None,
            '\\' => rest = unescape(rest, &mut bytes)?,
            next => push(next, &mut bytes),
        }
    }
    Some(bytes)
}

/// What follows a backslash; gives what follows that.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let (kind, rest) = text.split_at_checked(1)?;
    let character = match kind {
        "a" => 7,
        "b" => 8,
        "t" => b'\t',
        "n" => b'\n',
        "v" => 11,
        "f" => 12,
        "r" => b'\r',
        "\\" | "\"" => kind.as_bytes()[0],
        "x" => {
            let (byte, rest) = number(rest, 2, 16)?;
            bytes.push(u8::try_from(byte).ok()?);
            return Some(rest);
        }
        "u" | "U" => {
            let (code, rest) = number(rest, if kind == "u" { 4 } else { 8 }, 16)?;
            push(char::from_u32(code)?, bytes);
            return Some(rest);
        }
        _ => {
            let (byte, rest) = number(text, 3, 8)?;
            bytes.push(u8::try_from(byte).ok()?);
            return Some(rest);
        }
    };
    bytes.push(character);
    Some(rest)
}

/// A number of so many digits, and what follows it.
fn number(text: &str, digits: usize, radix: u32) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let is_number = number.chars().all(|digit| digit.is_digit(radix));
    let number = Some(number).filter(|_| is_number)?;
    Some((u32::from_str_radix(number, radix).ok()?, rest))
}

fn push(character: char, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unquoted_as_go_does() {
        for (quoted, name) in [
            ("plain ä€", Some("plain ä€".as_bytes())),
            (r#"a\"b\\c"#, Some(br#"a"b\c"#)),
            (r"\a\b\t\n\v\f\r", Some(b"\x07\x08\t\n\x0b\x0c\r")),
            (r"\xff\x00z\101", Some(b"\xff\x00zA")),
            (r"\u00e4\U0001f600", Some("ä😀".as_bytes())),
            ("a\"b", None),
            ("a\nb", None),
            (r"\", None),
            (r"\x1", None),
            (r"\x+1", None),
            (r"\xg1", None),
            (r"\400", None),
            (r"\ud800", None),
            (r"\'", None),
            (r"\ä", None),
            (r"\xä", None),
        ] {
            assert_eq!(unquote(quoted).as_deref(), name, "{quoted}");
        }
    }

    #[test]
    fn paths_are_shown_and_taken_by_their_names() {
        let path =
            |names: &[&str]| names.iter().fold(FilePath::default(), |at, name| at.join(name));
        for (names, shown, taken) in [
            (&["a", "b c"][..], "/a/b c", &["/a/b c"][..]),
            (&[r#"q\"b\\"#], r#"/q"b\"#, &[r#"/q"b\"#]),
            (&[r"a\nb", "ä"], r"/a\nb/ä", &[r"/a\nb/ä", "/a\nb/ä"]),
            (&[r"\x1b[1m"], r"/\x1b[1m", &[r"/\x1b[1m", "/\x1b[1m"]),
            (&[r"a\xff", r#"\""#], r#"/a\xff/""#, &[r#"/a\xff/""#]),
            (&[r"a\x2fb"], r"/a\x2fb", &[r"/a\x2fb"]),
            (&["no\"quote"], "/no\"quote", &["/no\"quote"]),
        ] {
            let path = path(names);
            assert_eq!(path.shown, shown);
            assert!(taken.iter().all(|taken| path.is(taken)), "{path:?}");
            assert!(!path.is("/a") && !path.is(""), "{path:?}");
        }
    }

    #[test]
    fn paths_are_taken_as_restic_takes_them() {
        for (path, cleaned) in [
            ("dump.rdb", "/dump.rdb"),
            ("./a//b/", "/a/b"),
            ("/a/../b", "/b"),
            ("../a", "/a"),
            ("", "/"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), cleaned, "{path:?}");
        }
    }
}
