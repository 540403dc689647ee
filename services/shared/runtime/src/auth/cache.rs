//! What the cluster said about a token, for a few seconds: a progress bar that polls must not cost a review each time.

use super::User;
use crate::Secret;
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use std::collections::HashMap;

/// A token that is revoked goes on working for this long.
const LIFETIME: TimeDelta = TimeDelta::seconds(10);
/// Far more than the people and programs of one cluster; a bound against made-up tokens.
const MOST_ENTRIES: usize = 1024;

#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    user: Option<User>,
    until: DateTime<Utc>,
}

impl Cache {
    pub(super) fn get(&self, token: &Secret, now: DateTime<Utc>) -> Option<Option<User>> {
        let entries = self.entries.lock();
        entries
            .get(token.reveal())
            .filter(|entry| now < entry.until)
            .map(|entry| entry.user.clone())
    }

    pub(super) fn put(&self, token: Secret, user: Option<User>, now: DateTime<Utc>) {
        let mut entries = self.entries.lock();
        if entries.len() >= MOST_ENTRIES {
            entries.retain(|_, entry| now < entry.until);
        }
        if entries.len() >= MOST_ENTRIES {
            entries.clear();
        }
        entries.insert(token.reveal().to_owned(), Entry { user, until: now + LIFETIME });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_after_a_while_and_stays_small() {
        let cache = Cache::default();
        let now = DateTime::UNIX_EPOCH;
        let token = Secret::new("t");
        assert!(cache.get(&token, now).is_none());
        cache.put(token.clone(), None, now);
        assert_eq!(cache.get(&token, now + TimeDelta::seconds(9)), Some(None));
        assert!(cache.get(&token, now + LIFETIME).is_none());
        for number in 0..3 * MOST_ENTRIES {
            cache.put(Secret::new(number.to_string()), None, now);
        }
        assert!(cache.entries.lock().len() <= MOST_ENTRIES);
    }
}
