//! Go's `%q`, so that an error says what the original's says: people and their scripts match on those texts.
use std::fmt::Write;

/// Text (or what should have been text) in double quotes.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            push_char(&mut out, char, '"');
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// One byte in single quotes.
pub fn quote_byte(byte: u8) -> String {
    let mut out = String::from("'");
    push_char(&mut out, char::from(byte), '\'');
    out.push('\'');
    out
}

fn push_char(out: &mut String, char: char, delimiter: char) {
    match char {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        char if char == delimiter => {
            out.push('\\');
            out.push(char);
        }
        char if char.is_ascii_control() => {
            let _ = write!(out, "\\x{:02x}", u32::from(char));
        }
        char if char.is_control() => {
            let _ = write!(out, "\\u{:04x}", u32::from(char));
        }
        char => out.push(char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote("a\"b\\\r\n".as_bytes()), r#""a\"b\\\r\n""#);
        assert_eq!(quote(b"\xff\x1f"), r#""\xff\x1f""#);
        assert_eq!(quote("αβ".as_bytes()), "\"αβ\"");
        assert_eq!(quote_byte(b'"'), "'\"'");
        assert_eq!(quote_byte(b'\''), "'\\''");
    }
}
