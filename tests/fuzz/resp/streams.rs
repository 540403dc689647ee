//! Commands and replies: however a stream is cut, the same of them or an error.
#![no_main]

use coffer_rdb::resp::{CommandReader, ReplyReader};
use libfuzzer_sys::fuzz_target;

const LARGEST: u64 = 1 << 20;

fn commands(stream: &[u8], cut: usize) -> Vec<Vec<bytes::Bytes>> {
    let mut reader = CommandReader::new(LARGEST);
    let mut commands = Vec::new();
    for piece in stream.chunks(cut) {
        reader.feed(piece);
        while let Ok(Some(command)) = reader.next() {
            commands.push(command);
        }
    }
    commands
}

fuzz_target!(|data: &[u8]| {
    let (stream, cut) = (data, data.len() % 251 + 1);
    let whole = commands(stream, usize::MAX);
    // Behind an error a reader is not asked again in earnest; up to there the two agree.
    let pieces = commands(stream, cut);
    let common = whole.len().min(pieces.len());
    assert_eq!(whole[..common], pieces[..common]);
    let mut replies = ReplyReader::new(LARGEST);
    for piece in stream.chunks(cut) {
        replies.buffer().extend_from_slice(piece);
        while let Ok(Some(_)) = replies.next() {}
    }
});
