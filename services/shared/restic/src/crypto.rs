//! Sealing and opening: AES-256-CTR with Poly1305-AES, as restic lays it out.
//!
//! A sealed message is `nonce (16) || ciphertext || tag (16)`. The tag covers the ciphertext only and
//! is checked before anything is decrypted. restic's counter is the whole 128-bit nonce, big endian.

use aes::Aes256;
use aes::cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::error::{Error, Result};

/// The bytes before the ciphertext.
pub(crate) const NONCE_LEN: usize = 16;
/// The bytes after the ciphertext.
pub(crate) const TAG_LEN: usize = 16;
/// What sealing adds to a message.
pub(crate) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

type Ctr = ctr::Ctr128BE<Aes256>;

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

    /// Seals `message[NONCE_LEN..]` where it lies: fills the nonce in front, appends the tag.
    ///
    /// The first `NONCE_LEN` bytes are room for the nonce; what they hold is overwritten.
    pub(crate) fn seal_in_place(&self, message: &mut Vec<u8>) -> Result<()> {
        if message.len() < NONCE_LEN {
            message.resize(NONCE_LEN, 0);
        }
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        message[..NONCE_LEN].copy_from_slice(&nonce);
        self.keystream(&nonce).apply_keystream(&mut message[NONCE_LEN..]);
        let tag = self.tag(&nonce, &message[NONCE_LEN..]);
        message.extend_from_slice(&tag);
        Ok(())
    }

    /// Seals a copy of `plain`.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut message = Vec::with_capacity(plain.len() + OVERHEAD);
        message.resize(NONCE_LEN, 0);
        message.extend_from_slice(plain);
        self.seal_in_place(&mut message)?;
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
        let (nonce, rest) = message.split_first_chunk::<NONCE_LEN>().ok_or(Forged)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Forged)?;
        let expected = self.tag(nonce, ciphertext);
        // Without early exit, so that the time does not tell how much of a forged tag is right.
        let difference = expected.iter().zip(tag).fold(0, |sum, (a, b)| sum | (a ^ b));
        if difference != 0 {
            return Err(Forged);
        }
        plain.clear();
        plain.extend_from_slice(ciphertext);
        self.keystream(nonce).apply_keystream(plain);
        Ok(())
    }

    fn keystream(&self, nonce: &[u8; NONCE_LEN]) -> Ctr {
        Ctr::new(&self.encrypt.into(), nonce.into())
    }

    fn tag(&self, nonce: &[u8; NONCE_LEN], ciphertext: &[u8]) -> [u8; TAG_LEN] {
        let mut pad = (*nonce).into();
        aes::Aes128::new(&self.mac_k.into()).encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&pad);
        Poly1305::new(&key.into()).compute_unpadded(ciphertext).into()
    }
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
        let tag = key.tag(&nonce, &hex::decode("f3f6").unwrap());
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
        }

        #[test]
        fn any_truncation_is_noticed(cut in 1_usize..64) {
            let key = SealingKey::generate().unwrap();
            let sealed = key.seal(&[7; 32]).unwrap();
            prop_assert_eq!(key.open(&sealed[..sealed.len() - cut]), Err(Forged));
        }
    }
}
