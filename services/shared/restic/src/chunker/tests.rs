//! Our cuts beside those of restic's algorithm, word for word.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;
use crate::polynomial::Polynomial;

fn polynomial() -> Polynomial {
    Polynomial::checked(0x3da3358b4dc173).unwrap()
}

/// The ends of chunks by restic's algorithm word for word: a ring window, one byte after the other.
fn reference(data: &[u8]) -> Vec<usize> {
    let polynomial = polynomial();
    let mut cuts = Vec::new();
    let (mut window, mut at, mut fingerprint, mut count) = ([0_u8; WINDOW], 0, 0_u64, 0_usize);
    let tables = Tables::new(polynomial);
    let mut slide = |fingerprint: &mut u64, window: &mut [u8; WINDOW], byte: u8| {
        *fingerprint ^= tables.out[usize::from(window[at])];
        window[at] = byte;
        at = (at + 1) % WINDOW;
        // Plain division instead of the table.
        let shifted = u128::from(*fingerprint) << 8 | u128::from(byte);
        *fingerprint = reduce_wide(shifted, polynomial.bits());
    };
    slide(&mut fingerprint, &mut window, 1);
    for (position, byte) in data.iter().enumerate() {
        count += 1;
        if count <= MIN - WINDOW {
            continue;
        }
        slide(&mut fingerprint, &mut window, *byte);
        if count >= MIN && (fingerprint & MASK == 0 || count >= MAX) {
            cuts.push(position + 1);
            (window, fingerprint, count) = ([0; WINDOW], 0, 0);
            slide(&mut fingerprint, &mut window, 1);
        }
    }
    if cuts.last().copied().unwrap_or(0) < data.len() {
        cuts.push(data.len());
    }
    cuts
}

fn reduce_wide(mut x: u128, modulus: u64) -> u64 {
    while x.checked_ilog2().is_some_and(|d| d >= 53) {
        x ^= u128::from(modulus) << (x.ilog2() - 53);
    }
    u64::try_from(x).unwrap()
}

fn cuts(data: &[u8], pieces: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut chunker = Chunker::new(Arc::new(Tables::new(polynomial())));
    let (mut chunks, mut rest) = (Vec::new(), data);
    for piece in pieces {
        let (head, tail) = rest.split_at(piece.min(rest.len()));
        chunker.push(Bytes::copy_from_slice(head), &mut chunks);
        rest = tail;
    }
    chunker.push(Bytes::copy_from_slice(rest), &mut chunks);
    chunker.finish(&mut chunks);
    let mut whole = Vec::new();
    let mut cuts = Vec::new();
    for chunk in &chunks {
        chunk.slices().iter().for_each(|piece| whole.extend_from_slice(piece));
        cuts.push(whole.len());
        assert!(chunk.len() <= MAX && (chunk.len() >= MIN || whole.len() == data.len()));
    }
    assert!(whole == data, "the chunks are not the input");
    cuts
}

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut data);
    data
}

#[test]
fn cuts_are_restics_on_random_data() {
    let data = random(7, 24 << 20);
    let expected = reference(&data);
    assert!(expected.len() > 8);
    assert_eq!(cuts(&data, std::iter::empty()), expected);
}

#[test]
fn monotonous_data_is_cut_at_the_limits() {
    let data = vec![0; 2 * MAX + 100];
    assert_eq!(cuts(&data, std::iter::empty()), reference(&data));
    let data = vec![b'x'; 2 * MAX + 100];
    assert_eq!(cuts(&data, std::iter::empty()), [MAX, 2 * MAX, data.len()]);
    for piece in [1 << 20, (1 << 20) - 7, MAX - 1] {
        assert_eq!(cuts(&data, std::iter::repeat_n(piece, 20)), [MAX, 2 * MAX, data.len()]);
    }
}

#[test]
fn blocks_do_not_move_the_cuts_of_random_data() {
    let data = random(8, 12 << 20);
    let expected = reference(&data);
    for piece in [1 << 20, ROUND, ROUND + 1, WINDOW, 100_003] {
        let pieces = std::iter::repeat_n(piece, data.len() / piece);
        assert_eq!(cuts(&data, pieces), expected, "{piece}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn pieces_do_not_move_cuts(seed: u64, len in 0_usize..(3 << 20), repeat in 1_usize..5000) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut data = random(seed, len);
        // A stretch of repetition, so that both kinds of cut occur.
        if len > 2 * repeat {
            let pattern = data[..repeat].to_vec();
            let half = &mut data[len / 2..];
            half.chunks_mut(repeat).for_each(|c| c.copy_from_slice(&pattern[..c.len()]));
        }
        let pieces: Vec<usize> = (0..200).map(|_| rng.random_range(0..100_000)).collect();
        prop_assert_eq!(cuts(&data, pieces.into_iter()), reference(&data));
    }
}

proptest! {
    /// Strips, both ways, against single bytes, on polynomials of all kinds and with places that hit
    /// often: data of few values makes windows that recur, and cuts in neighbouring strips.
    #[test]
    fn strips_find_what_bytes_find(seed: u64, values in 1_u8..=255) {
        let tables = Tables::new(Polynomial::random().unwrap());
        let mut rng = StdRng::seed_from_u64(seed);
        let mut data: Vec<u8> = (0..WINDOW + ROUND).map(|_| rng.random::<u8>() % values).collect();
        // Windows with a zero fingerprint: cuts at places of our choice, several of them.
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..=ROUND);
            data[at..at + WINDOW].fill(0);
        }
        let expected = tables.scan_plainly(&data, WINDOW).map(|end| end - WINDOW);
        prop_assert_eq!(tables.scan_lanes(&data), expected);
        prop_assert_eq!(tables.scan_round(&data), expected);
    }

    /// A single place at which a chunk ends, in any strip.
    #[test]
    fn no_place_is_overlooked(seed: u64, at in 1..=ROUND) {
        let tables = Tables::new(polynomial());
        let mut data = vec![b'x'; WINDOW + ROUND];
        StdRng::seed_from_u64(seed).fill_bytes(&mut data[at..at + WINDOW]);
        // A window's last three bytes are in its fingerprint as they are.
        let end = at + WINDOW;
        data[end - 3..end].fill(0);
        let wrong = tables.fingerprint(&data[at..end]) & MASK;
        data[end - 3..end].copy_from_slice(&wrong.to_be_bytes()[5..]);
        let expected = tables.scan_plainly(&data, WINDOW).map(|end| end - WINDOW);
        prop_assert!(expected.is_some_and(|end| end <= at));
        prop_assert_eq!(tables.scan_lanes(&data), expected);
        prop_assert_eq!(tables.scan_round(&data), expected);
    }
}

#[test]
fn a_cut_in_the_incomplete_round_at_the_end_is_found() {
    let tables = Tables::new(polynomial());
    let mut data = vec![b'x'; MIN + ROUND + 1000];
    let end = data.len() - 500;
    data[end - WINDOW..end].fill(0);
    assert_eq!(cuts(&data, std::iter::empty()), [end, data.len()]);
    assert_eq!(tables.cut(&data), Some(end));
    assert_eq!(tables.cut(&data[..end - 1]), None);
}
