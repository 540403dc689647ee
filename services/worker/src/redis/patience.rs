//! Waits for a server that is there and has something else to do: it loads its data, or a script runs for long. What it
//! answers so was not carried out, and may be asked again.

use std::time::Duration;

use coffer_rdb::strings::printable;
use tokio::time::{Instant, sleep};

use super::Error;
use super::error::first_word;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a server may be held up.
#[derive(Debug)]
pub(crate) struct Patience {
    wait: Duration,
    /// When it first said so, since it last did something.
    since: Option<Instant>,
}

impl Patience {
    pub(crate) const fn new(wait: Duration) -> Self {
        Self { wait, since: None }
    }

    /// Pauses before what was answered so is asked again.
    pub(crate) async fn pause(&mut self, address: &str, reply: &[u8]) -> Result<(), Error> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() + PAUSE > self.wait {
            let (address, reply) = (address.to_owned(), printable(reply, 300));
            return Err(Error::NotReady { address, waited: self.wait, reply });
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// The server did something.
    pub(crate) const fn moved_on(&mut self) {
        self.since = None;
    }
}

/// Whether an error reply says that the server is held up.
pub(crate) fn is_held_up(reply: &[u8]) -> bool {
    matches!(first_word(reply), "BUSY" | "LOADING")
}
