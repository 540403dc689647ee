//! What a gateway says before it takes a snapshot, and how long the dump waits for it.

use std::time::Duration;

use coffer_runtime::Clock;
use tokio::sync::watch;

use crate::progress::State;

/// How long a gateway is given to say a word before the Redis is made to fork: for one that is full, not there or locked
/// out of the repository, it would do so in vain. One that speaks is waited for; those of earlier versions say nothing.
const SPEAKS_WITHIN: Duration = Duration::from_secs(10);

/// What the gateway has said of a snapshot that is to begin.
#[derive(Clone)]
pub(super) enum Gate {
    Silent,
    /// For what, in words.
    Waits(String),
    Begun,
}

/// A snapshot that could not begin at once.
#[derive(Debug, PartialEq)]
pub(crate) struct Late {
    pub(crate) after: Duration,
    /// What the gateway waited for last.
    pub(crate) words: String,
}

/// Waits until the gateway takes the snapshot, or has said nothing for too long. Gives what it waited for, if it did. Does not
/// end when the call does, which says why.
pub(super) async fn opened(
    repository: &str,
    mut gate: watch::Receiver<Gate>,
    meter: &watch::Sender<State>,
    clock: &Clock,
) -> Option<Late> {
    let since = clock.now();
    let mut late = None;
    tokio::select! {
        biased;
        spoke = gate.wait_for(|gate| !matches!(gate, Gate::Silent)) => {
            if spoke.is_err() {
                return std::future::pending().await;
            }
        }
        () = clock.sleep(SPEAKS_WITHIN) => {
            tracing::info!(
                repository,
                "the storage-gateway does not say whether it takes the snapshot; the dump begins, and waits for it"
            );
            return None;
        }
    }
    loop {
        let Gate::Waits(words) = gate.borrow_and_update().clone() else {
            meter.send_modify(|state| state.waiting.clear());
            let after = (clock.now() - since).to_std().unwrap_or_default();
            return late.map(|words| Late { after, words });
        };
        if late.as_ref() != Some(&words) {
            tracing::info!(repository, words);
            meter.send_modify(|state| state.waiting.clone_from(&words));
            late = Some(words);
        }
        if gate.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use std::pin::{Pin, pin};

    async fn still<F: Future<Output = Option<Late>>>(waiting: &mut Pin<&mut F>) {
        tokio::select! {
            biased;
            late = waiting => panic!("it waits no longer: {late:?}"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn who_speaks_is_waited_for_and_who_says_nothing_is_not() {
        let clock = Clock::stepped(DateTime::UNIX_EPOCH);
        let (meter, state) = watch::channel(State::default());
        let (says, gate) = watch::channel(Gate::Silent);
        let mut waiting = pin!(opened("repo", gate, &meter, &clock));
        still(&mut waiting).await;
        clock.step(SPEAKS_WITHIN / 2);
        says.send_replace(Gate::Waits("a lock".to_owned()));
        still(&mut waiting).await;
        assert_eq!(state.borrow().waiting, "a lock");
        clock.step(100 * SPEAKS_WITHIN);
        still(&mut waiting).await;
        says.send_replace(Gate::Begun);
        let late = waiting.await;
        assert_eq!(late, Some(Late { after: Duration::from_secs(1005), words: "a lock".into() }));
        assert_eq!(state.borrow().waiting, "");

        let (_silent, gate) = watch::channel(Gate::Silent);
        let mut waiting = pin!(opened("repo", gate, &meter, &clock));
        still(&mut waiting).await;
        clock.step(SPEAKS_WITHIN);
        assert_eq!(waiting.await, None);
    }

    #[tokio::test]
    async fn a_call_that_ends_is_left_to_say_why() {
        let clock = Clock::stepped(DateTime::UNIX_EPOCH);
        let (meter, _state) = watch::channel(State::default());
        for said in [Gate::Silent, Gate::Waits("a lock".to_owned())] {
            let (says, gate) = watch::channel(said);
            let mut waiting = pin!(opened("repo", gate, &meter, &clock));
            still(&mut waiting).await;
            drop(says);
            still(&mut waiting).await;
        }
    }
}
