//! Sealing and opening: AES-256-CTR with Poly1305-AES, as restic lays it out.
//!
//! A sealed message is `nonce (16) || ciphertext || tag (16)`. The tag covers the ciphertext only and
//! is checked before anything opened is given out. restic's counter is the whole 128-bit nonce, big endian.

use aes::Aes256;
use aes::cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::error::{Error, Result};
use crate::pieces::{self, Expected};

/// The bytes before the ciphertext.
pub(crate) const NONCE_LEN: usize = 16;
/// The bytes after the ciphertext.
pub(crate) const TAG_LEN: usize = 16;
/// What sealing adds to a message.
pub(crate) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

type Ctr = ctr::Ctr128BE<Aes256>;

/// Cipher and authenticator take turns on pieces of this size, so that the second finds them in the first
/// cache. Whole blocks of both.
const STRIDE: usize = 8 * 1024;

/// Fills `bytes` from the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    OsRng.try_fill_bytes(bytes).map_err(|source| Error::internal("draw random bytes", source))
}

/// The message is shorter than its frame, or its tag does not fit: damaged, or another key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authentication tag does not match")]
pub(crate) struct Forged;

/// The three keys everything in a repository is sealed with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealingKey {
    pub(crate) encrypt: [u8; 32],
    pub(crate) mac_k: [u8; 16],
    pub(crate) mac_r: [u8; 16],
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(redacted)")
    }
}

impl SealingKey {
    /// A key for a new repository.
    pub(crate) fn generate() -> Result<Self> {
        let mut bytes = [0; 64];
        random(&mut bytes)?;
        Ok(Self::from_bytes(&bytes))
    }

    /// The key that scrypt's 64 bytes of output are.
    pub(crate) fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// Appends what these pieces are together, sealed. Each stride is encrypted right after it was copied.
    pub(crate) fn seal_onto(&self, plain: &[&[u8]], out: &mut Vec<u8>) -> Result<()> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        out.reserve_exact(pieces::length(plain) + OVERHEAD);
        out.extend_from_slice(&nonce);
        let mut cipher = self.keystream(&nonce);
        let mut mac = self.authenticator(&nonce);
        let mut authenticated = out.len();
        for stride in plain.iter().flat_map(|piece| piece.chunks(STRIDE)) {
            let start = out.len();
            out.extend_from_slice(stride);
            cipher.apply_keystream(&mut out[start..]);
            // The last is kept back: it may be short.
            while out.len() - authenticated > STRIDE {
                mac.update_padded(&out[authenticated..authenticated + STRIDE]);
                authenticated += STRIDE;
            }
        }
        let tag = mac.compute_unpadded(&out[authenticated..]);
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Seals what lies between the room for a nonce and the room for a tag.
    ///
    /// # Panics
    /// If there is not that much room.
    pub(crate) fn seal_frame(&self, frame: &mut [u8]) -> Result<()> {
        let (nonce, rest) = frame.split_at_mut(NONCE_LEN);
        let (content, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        random(nonce)?;
        let mut fixed = [0; NONCE_LEN];
        fixed.copy_from_slice(nonce);
        let mut cipher = self.keystream(&fixed);
        let mut mac = self.authenticator(&fixed);
        let (head, last) = content.split_at_mut(whole_strides(content.len()));
        for stride in head.chunks_mut(STRIDE) {
            cipher.apply_keystream(stride);
            mac.update_padded(stride);
        }
        cipher.apply_keystream(last);
        tag.copy_from_slice(&mac.compute_unpadded(last));
        Ok(())
    }

    /// Seals a copy of `plain`.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut message = Vec::new();
        self.seal_onto(&[plain], &mut message)?;
        Ok(message)
    }

    /// The content of a sealed message.
    pub(crate) fn open(&self, message: &[u8]) -> Result<Vec<u8>, Forged> {
        let mut plain = Vec::new();
        self.open_into(message, &mut plain)?;
        Ok(plain)
    }

    /// Replaces `plain` by the content of a sealed message.
    pub(crate) fn open_into(&self, message: &[u8], plain: &mut Vec<u8>) -> Result<(), Forged> {
        let (nonce, ciphertext, tag) = parts(message)?;
        plain.clear();
        plain.extend_from_slice(ciphertext);
        self.open_parts(nonce, plain, tag).inspect_err(|Forged| plain.clear())
    }

    /// Opens a sealed message where it lies, and gives its content. After a failure its bytes mean
    /// nothing.
    pub(crate) fn open_in_place<'a>(&self, message: &'a mut [u8]) -> Result<&'a mut [u8], Forged> {
        let (nonce, rest) = message.split_first_chunk_mut::<NONCE_LEN>().ok_or(Forged)?;
        let (content, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        self.open_parts(nonce, content, tag)?;
        Ok(content)
    }

    /// Whether a sealed message opens to what these pieces are together; keeps nothing of it.
    pub(crate) fn holds(&self, message: &[u8], plain: &[&[u8]]) -> Result<bool, Forged> {
        let mut expected = Expected::new(plain);
        self.open_by_pieces(message, |piece| _ = expected.take(piece))?;
        Ok(expected.came())
    }

    /// Opens a sealed message and shows its content piece by piece. Only the end tells whether it is
    /// authentic: `each` must not let anything out before.
    pub(crate) fn open_by_pieces(
        &self,
        message: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Forged> {
        let (nonce, ciphertext, tag) = parts(message)?;
        let mut cipher = self.keystream(nonce);
        let mut mac = self.authenticator(nonce);
        let mut room = [0; STRIDE];
        let mut open = |stride: &[u8]| {
            let opened = &mut room[..stride.len()];
            // Refused only at the end of the keystream, exabytes away.
            cipher.apply_keystream_b2b(stride, opened).map_err(|_| Forged)?;
            each(opened);
            Ok(())
        };
        let (head, last) = ciphertext.split_at(whole_strides(ciphertext.len()));
        for stride in head.chunks(STRIDE) {
            mac.update_padded(stride);
            open(stride)?;
        }
        open(last)?;
        matches(&mac.compute_unpadded(last), tag)
    }

    /// Decrypts, and authenticates what it decrypts on the way.
    fn open_parts(
        &self,
        nonce: &[u8; NONCE_LEN],
        content: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        let mut cipher = self.keystream(nonce);
        let mut mac = self.authenticator(nonce);
        let (head, last) = content.split_at_mut(whole_strides(content.len()));
        for stride in head.chunks_mut(STRIDE) {
            mac.update_padded(stride);
            cipher.apply_keystream(stride);
        }
        let expected = mac.compute_unpadded(last);
        cipher.apply_keystream(last);
        matches(&expected, tag)
    }

    fn keystream(&self, nonce: &[u8; NONCE_LEN]) -> Ctr {
        Ctr::new(&self.encrypt.into(), nonce.into())
    }

    fn authenticator(&self, nonce: &[u8; NONCE_LEN]) -> Poly1305 {
        let mut pad = (*nonce).into();
        aes::Aes128::new(&self.mac_k.into()).encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&pad);
        Poly1305::new(&key.into())
    }
}

/// Nonce, ciphertext and tag of a sealed message.
type Parts<'a> = (&'a [u8; NONCE_LEN], &'a [u8], &'a [u8; TAG_LEN]);

fn parts(message: &[u8]) -> Result<Parts<'_>, Forged> {
    let (nonce, rest) = message.split_first_chunk().ok_or(Forged)?;
    let (ciphertext, tag) = rest.split_last_chunk().ok_or(Forged)?;
    Ok((nonce, ciphertext, tag))
}

/// Where the last stride begins, which may be short, and is only empty if everything is.
const fn whole_strides(length: usize) -> usize {
    length.saturating_sub(1) / STRIDE * STRIDE
}

/// Without early exit, so that the time does not tell how much of a forged tag is right.
fn matches(expected: &[u8], tag: &[u8; TAG_LEN]) -> Result<(), Forged> {
    let difference = expected.iter().zip(tag).fold(0, |sum, (a, b)| sum | (a ^ b));
    if difference == 0 { Ok(()) } else { Err(Forged) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_restic_sealed_opens() {
        // From restic's own crypto tests: Poly1305-AES over an empty message and known key.
        let key = SealingKey {
            encrypt: [0; 32],
            mac_k: hex_array("ec074c835580741701425b623235add6"),
            mac_r: hex_array("851fc40c3467ac0be05cc20404f3f700"),
        };
        let nonce = hex_array("fb447350c4e868c52ac3275cf9d4327e");
        let tag = key.authenticator(&nonce).compute_unpadded(&hex::decode("f3f6").unwrap());
        assert_eq!(hex::encode(tag), "f4c633c3044fc145f84f335cb81953de");
    }

    fn hex_array(text: &str) -> [u8; 16] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    proptest! {
        #[test]
        fn round_trip(plain in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let key = SealingKey::generate().unwrap();
            let sealed = key.seal(&plain).unwrap();
            prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            prop_assert_eq!(key.open(&sealed).unwrap(), plain);
        }

        /// The ways that go stride by stride against the textbook: all of the cipher, then all of the
        /// authenticator.
        #[test]
        fn strides_change_nothing(length in 0_usize..5 * STRIDE, cut in 0_usize..40) {
            // Lengths around whole strides come up often enough this way.
            let length = if length % 2 == 0 { length } else { (length / STRIDE * STRIDE).saturating_sub(cut) };
            let plain: Vec<u8> = (0..=250).cycle().take(length).collect();
            let key = SealingKey::generate().unwrap();
            let (one, other) = plain.split_at(cut.min(length));
            let mut sealed = Vec::new();
            key.seal_onto(&[one, other], &mut sealed).unwrap();
            let (nonce, ciphertext, tag) = parts(&sealed).unwrap();
            let mut textbook = plain.clone();
            key.keystream(nonce).apply_keystream(&mut textbook);
            prop_assert!(ciphertext == textbook);
            prop_assert_eq!(&key.authenticator(nonce).compute_unpadded(ciphertext)[..], &tag[..]);

            prop_assert_eq!(key.holds(&sealed, &[&plain]), Ok(true));
            if length > 0 {
                let mut other = plain.clone();
                other[length - 1] ^= 1;
                prop_assert_eq!(key.holds(&sealed, &[&other]), Ok(false));
                prop_assert_eq!(key.holds(&sealed, &[&other[1..]]), Ok(false));
            }
            prop_assert!(key.open_in_place(&mut sealed).unwrap() == plain);
            let mut frame = [&[0; NONCE_LEN][..], &plain, &[0; TAG_LEN]].concat();
            key.seal_frame(&mut frame).unwrap();
            prop_assert!(key.open(&frame).unwrap() == plain);
        }

        #[test]
        fn any_flipped_bit_is_noticed(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let key = SealingKey::generate().unwrap();
            let mut sealed = key.seal(&plain).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(key.open(&sealed), Err(Forged));
            prop_assert_eq!(key.holds(&sealed, &[&plain]), Err(Forged));
            prop_assert!(key.open_in_place(&mut sealed).is_err());
        }

        #[test]
        fn any_truncation_is_noticed(cut in 1_usize..64) {
            let key = SealingKey::generate().unwrap();
            let sealed = key.seal(&[7; 32]).unwrap();
            prop_assert_eq!(key.open(&sealed[..sealed.len() - cut]), Err(Forged));
        }
    }
}
