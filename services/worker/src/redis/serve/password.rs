//! How a target is known that comes from another address than the one that was dialled, as it does behind a Service: it
//! is told a password for its master, which nobody else has, and brings it when it comes again.
//!
//! That is a setting of the target's own, so it is told only when it is needed, and has its own again before it loads.

use coffer_runtime::fault::chain;

use super::ask_when_loaded;
use super::straight::{config, refusal};
use crate::redis::{Client, Error};

const SETTING: &[u8] = b"masterauth";
const BYTES: usize = 16;

#[derive(Default)]
pub(super) struct Password {
    told: Option<Told>,
}

struct Told {
    word: String,
    /// What the target had in its place.
    before: Vec<u8>,
}

impl Password {
    /// What the target brings that was told.
    pub(super) fn word(&self) -> Option<&[u8]> {
        self.told.as_ref().map(|told| told.word.as_bytes())
    }

    /// Tells it to the target. Gives back why not, if so.
    pub(super) async fn tell(&mut self, client: &mut Client) -> Result<Option<String>, Error> {
        let Some(before) = config(client, SETTING).await? else {
            return Ok(Some("the user may not CONFIG GET masterauth".to_owned()));
        };
        let Some(word) = random() else {
            return Ok(Some("this machine has no randomness".to_owned()));
        };
        // Before the answer, without which nobody knows that it was not done.
        self.told = Some(Told { word: word.clone(), before: before.to_vec() });
        let reply = client.ask(&[b"CONFIG", b"SET", SETTING, word.as_bytes()]).await?;
        let refused = refusal(&reply);
        if refused.is_some() {
            self.told = None;
        }
        Ok(refused)
    }

    /// Sets the target back to how it was. Gives back what a user should know.
    pub(super) async fn put_back(&mut self, client: &mut Client) -> Option<String> {
        let Told { before, .. } = self.told.as_ref()?;
        let why = match ask_when_loaded(client, &[b"CONFIG", b"SET", SETTING, before]).await {
            Ok(reply) => refusal(&reply),
            Err(error) => Some(chain(&error)),
        };
        let left = why.and_then(|why| self.left(client.address(), &why));
        if left.is_none() {
            self.told = None;
        }
        left
    }

    /// What a user should know who finds the target as it is.
    pub(super) fn left(&self, address: &str, why: &str) -> Option<String> {
        self.told.as_ref().map(|_| {
            format!(
                "masterauth of {address} was set for this Job and may be so still; set it back with CONFIG SET, or it \
                 cannot attach to its next master: {why}"
            )
        })
    }
}

fn random() -> Option<String> {
    let mut bytes = [0; BYTES];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).ok().map(|()| hex::encode(bytes))
}
