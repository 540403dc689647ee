//! Sizes as restic's flags take them: a number of bytes, or of KiB, MiB, GiB, TiB with a letter behind it.

/// `500`, `64k`, `16M`, `2G`, `1T`, each also with a trailing B or iB.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let text = text.strip_suffix('i').unwrap_or(text);
    let (number, shift) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("64k", 65_536),
            ("2M", 2 << 20),
            ("1GiB", 1 << 30),
            ("1tb", 1 << 40),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for junk in ["", "k", "-1", "1.5G", "99999999999T", "5x", "0x5"] {
            assert_eq!(parse(junk), None, "{junk}");
        }
    }
}
