//! `HSETEX`, which writes fields of a hash with their expiry: Valkey's append-only file holds hashes that way, and Redis 8
//! knows it, too. Servers that keep such times without knowing the command take the two that it stands for.

use bytes::Bytes;

/// `HSET` and, where the fields expire, `HPEXPIREAT` for
/// `HSETEX key [FNX | FXX] [EXAT seconds | PXAT milliseconds] FIELDS n field value …`.
///
/// A file holds only what was carried out, so that its condition was met. `None`: not of that shape, or a time that means
/// nothing here (`EX`, `PX`: from when on? `KEEPTTL`: which one?).
pub(super) fn apart(command: &[Bytes]) -> Option<(Vec<Bytes>, Option<Vec<Bytes>>)> {
    let [name, key, words @ ..] = command else { return None };
    if !name.eq_ignore_ascii_case(b"HSETEX") {
        return None;
    }
    let (mut words, mut at_ms) = (words.iter(), None);
    loop {
        match words.next()?.to_ascii_uppercase().as_slice() {
            b"FNX" | b"FXX" => {}
            b"PXAT" => at_ms = Some(number(words.next()?)?),
            b"EXAT" => at_ms = Some(number(words.next()?)?.saturating_mul(1000)),
            b"FIELDS" => break,
            _ => return None,
        }
    }
    let fields = number(words.next()?)?;
    let pairs = words.as_slice();
    if fields == 0 || usize::try_from(fields).ok()?.checked_mul(2)? != pairs.len() {
        return None;
    }
    let word = Bytes::from_static;
    let set = [word(b"HSET"), key.clone()].into_iter().chain(pairs.iter().cloned());
    let expire = at_ms.map(|at_ms| {
        let time = Bytes::from(at_ms.to_string());
        let head = [word(b"HPEXPIREAT"), key.clone(), time, word(b"FIELDS")];
        let names = pairs.iter().step_by(2).cloned();
        head.into_iter().chain([Bytes::from(fields.to_string())]).chain(names).collect()
    });
    Some((set.collect(), expire))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both commands as lines.
    fn parts(line: &str) -> Option<String> {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        let line = |command: Vec<Bytes>| {
            let words = command.iter().map(|word| String::from_utf8_lossy(word).into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        let (set, expire) = apart(&words)?;
        Some([set].into_iter().chain(expire).map(line).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn fields_are_written_and_then_expire() {
        for (written, want) in [
            ("HSETEX h PXAT 99 FIELDS 1 f v", "HSET h f v; HPEXPIREAT h 99 FIELDS 1 f"),
            (
                "hsetex h FNX pxat 99 fields 2 f v g w",
                "HSET h f v g w; HPEXPIREAT h 99 FIELDS 2 f g",
            ),
            ("HSETEX h FXX EXAT 99 FIELDS 1 f v", "HSET h f v; HPEXPIREAT h 99000 FIELDS 1 f"),
            ("HSETEX h FIELDS 1 FIELDS v", "HSET h FIELDS v"),
        ] {
            assert_eq!(parts(written).as_deref(), Some(want), "{written}");
        }
        for wrong in [
            "HSET h f v",
            "HSETEX h",
            "HSETEX h FIELDS 0",
            "HSETEX h FIELDS 2 f v",
            "HSETEX h FIELDS 1 f",
            "HSETEX h FIELDS -1 f",
            "HSETEX h PXAT x FIELDS 1 f v",
            "HSETEX h EX 5 FIELDS 1 f v",
            "HSETEX h PX 5 FIELDS 1 f v",
            "HSETEX h KEEPTTL FIELDS 1 f v",
            "HSETEX h PXAT 99",
        ] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
