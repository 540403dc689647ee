//! How often keys were used, or how long ago: what a server goes by that throws keys away at its `maxmemory`. Where its
//! policy asks for neither, nor does a scan.

use coffer_rdb::entries::Usage;
use coffer_rdb::resp::Reply;

use super::ScanOptions;
use crate::options::Order;
use crate::redis::error::first_word;
use crate::redis::{Client, Error, Server};

/// Which of both counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    IdleTime,
    Frequency,
}

impl Question {
    fn of(policy: &str) -> Option<Self> {
        match policy.rsplit_once('-')?.1 {
            "lru" => Some(Self::IdleTime),
            "lfu" => Some(Self::Frequency),
            _ => None,
        }
    }

    /// The word behind `OBJECT`.
    pub(super) const fn word(self) -> &'static [u8] {
        match self {
            Self::IdleTime => b"IDLETIME",
            Self::Frequency => b"FREQ",
        }
    }

    /// The switch of `RESTORE` is the same word. `None` for a key that is gone, and when the policy was changed.
    pub(super) fn usage(self, reply: &Reply) -> Option<Usage> {
        let Reply::Integer(number) = reply else { return None };
        match self {
            Self::IdleTime => u64::try_from(*number).ok().map(Usage::IdleSeconds),
            Self::Frequency => u8::try_from(*number).ok().map(Usage::Frequency),
        }
    }
}

/// What is to be asked of each key; or nothing, and a remark if it matters.
pub(super) async fn find(
    client: &mut Client,
    server: &Server,
    options: &ScanOptions,
) -> Result<(Option<Question>, Option<String>), Error> {
    let policy = &server.maxmemory_policy;
    let Some(question) = Question::of(policy) else { return Ok((None, None)) };
    // Reading would make every key one that was used of late. Servers before 7.2 know no other way.
    client.ask(&[b"CLIENT", b"NO-TOUCH", b"ON"]).await?;
    let why = if options.typed {
        "typed commands cannot say it"
    } else if options.order == Order::Canonical {
        "it changes all the time, and in canonical order what did not change is to look the same"
    } else {
        match client.ask(&[b"OBJECT", question.word(), b"coffer:none"]).await? {
            Reply::Error(reply) if first_word(&reply) == "NOPERM" => "grant +object",
            _ => return Ok((Some(question), None)),
        }
    };
    let remark = format!(
        "how often and when keys were last used is not in this backup, which the server's maxmemory-policy {policy} \
         goes by: {why}"
    );
    Ok((None, Some(remark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_go_by_usage_are_known() {
        for (policy, question) in [
            ("noeviction", None),
            ("allkeys-random", None),
            ("volatile-ttl", None),
            ("volatile-lru", Some(Question::IdleTime)),
            ("allkeys-lfu", Some(Question::Frequency)),
            ("", None),
        ] {
            assert_eq!(Question::of(policy), question, "{policy}");
        }
    }
}
