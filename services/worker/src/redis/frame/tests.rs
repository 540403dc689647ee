//! The frame against hand-made files, cut in every way.

use super::*;

const MARKER: [u8; MARKER_LEN] = *b"0123456789abcdef0123456789abcdef01234567";

/// A file with one key, or one that nobody knows how to read.
fn file(type_code: u8) -> Vec<u8> {
    let mut file = b"REDIS0010\xfe\x00".to_vec();
    file.extend([type_code, 1, b'k', 3, b'a', b'b', b'c', EOF_OPCODE]);
    let mut crc = Crc64::new();
    crc.update(&file);
    file.extend(crc.value().to_le_bytes());
    file
}

/// What comes out for input that arrives in pieces, what is left over, and what it was.
fn pass(
    ending: Ending,
    stream: &[u8],
    piece: usize,
) -> Result<(Vec<u8>, Vec<u8>, Content), Damage> {
    let mut frame = Frame::new(ending);
    let (mut received, mut out) = (BytesMut::new(), Vec::new());
    for chunk in stream.chunks(piece) {
        received.extend_from_slice(chunk);
        out.extend_from_slice(&frame.take(&mut received)?);
    }
    assert_eq!(frame.bytes(), out.len() as u64);
    Ok((out, received.to_vec(), frame.finish()?))
}

#[test]
fn both_framings_end_where_the_file_ends_however_it_is_cut() {
    for (type_code, opaque) in [(0, false), (99, true)] {
        let file = file(type_code);
        let with_marker = [&file[..], &MARKER, b"\n"].concat();
        let with_more = [&file[..], b"*1\r\n"].concat();
        for piece in 1..=with_marker.len() {
            for (ending, stream, behind) in [
                (Ending::Marker(MARKER), &with_marker, &b"\n"[..]),
                (Ending::Length(file.len() as u64), &with_more, b"*1\r\n"),
            ] {
                let (out, rest, content) = pass(ending, stream, piece).unwrap();
                assert_eq!(out, file, "{ending:?} in pieces of {piece}");
                assert_eq!(rest, behind, "{ending:?} in pieces of {piece}");
                match content {
                    Content::Counted(summary) => assert!(!opaque && summary.total() == 1),
                    Content::Opaque { reason } => {
                        assert!(opaque);
                        assert!(
                            reason.to_string().starts_with("unknown value type 99"),
                            "{reason}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_cut_or_damaged_passes_for_whole() {
    for type_code in [0, 99] {
        let file = file(type_code);
        let whole = [&file[..], &MARKER].concat();
        for len in 0..whole.len() {
            assert!(pass(Ending::Marker(MARKER), &whole[..len], 7).is_err(), "marker, {len}");
        }
        for len in 0..file.len() {
            assert!(
                pass(Ending::Length(file.len() as u64), &file[..len], 7).is_err(),
                "length, {len}"
            );
            // A server that announces less or more than it holds.
            assert!(pass(Ending::Length(len as u64), &file, 7).is_err(), "short, {len}");
        }
        for bit in 0..file.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(pass(Ending::Marker(MARKER), &damaged, 7).is_err(), "marker, bit {bit}");
            let damaged = &damaged[..file.len()];
            assert!(
                pass(Ending::Length(file.len() as u64), damaged, 7).is_err(),
                "length, bit {bit}"
            );
        }
    }
}

#[test]
fn the_length_must_be_the_files() {
    let file = file(0);
    let longer = [&file[..], b"xxxx"].concat();
    let damage = pass(Ending::Length(longer.len() as u64), &longer, 100).unwrap_err();
    assert_eq!(
        damage.what,
        format!("it ends after {} of the {} bytes announced", file.len(), longer.len())
    );
}
