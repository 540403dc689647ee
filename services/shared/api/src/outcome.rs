//! What a worker leaves behind: its container's termination message. Versioned JSON that the kubelet does not cut.
//! A missing one is itself a result: the session failed, with the reason from the container's exit state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod shorten;
use shorten::Shortened;

/// Largest message that is left, in bytes. The kubelet keeps 4 KiB of a container's, and 12 KiB of those of a pod, of which
/// each container may have the same share: also those that the Task has besides, and those that others inject. So there may
/// be six.
pub const MAX_BYTES: usize = 2048;

/// How a worker's job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Version of this document: 1.
    pub version: u32,
    /// The result.
    #[serde(flatten)]
    pub result: Result,
    /// From start to end, milliseconds.
    pub duration_ms: u64,
    /// What went wrong without harm to the data, such as a push of metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Success of either kind, or failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Result {
    /// A snapshot was committed.
    BackedUp(BackedUp),
    /// A snapshot was loaded.
    Restored(Restored),
    /// Nothing was committed, or the load is not complete.
    Failed(Failed),
}

/// Figures of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackedUp {
    /// Full snapshot id.
    pub snapshot_id: String,
    /// File name without a slash: `dump.rdb`.
    pub path: String,
    /// How the dump was made: `replication`, `scan` or `portable`.
    pub method: String,
    /// Why so, and from which server, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Bytes of the dump.
    pub bytes: u64,
    /// Bytes of new blobs, before compression.
    pub data_added: u64,
    /// Bytes stored for them.
    pub data_added_packed: u64,
    /// Files of the snapshot that are new.
    pub files_new: u64,
    /// Keys by type.
    pub keys: BTreeMap<String, u64>,
    /// False when the counts are not complete.
    pub counted: bool,
    /// Version of the server.
    pub server_version: String,
    /// Digest of all that users stored, when it was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Whether this backup created the repository.
    pub repository_created: bool,
}

/// Figures of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Full snapshot id.
    pub snapshot_id: String,
    /// File that was loaded.
    pub path: String,
    /// Bytes read.
    pub bytes: u64,
    /// Keys written, by type.
    pub restored: BTreeMap<String, u64>,
    /// Keys whose time to live had passed.
    pub expired: u64,
    /// Keys that were there before and were replaced.
    pub replaced: u64,
    /// Keys that were left out: there before and not to be replaced, or not to be had by the target.
    #[serde(default)]
    pub skipped: u64,
    /// How it was loaded, and what was found, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// Function libraries loaded.
    pub functions: u64,
    /// What the comparison with the target found, when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// A restore that was compared with its snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Keys that were compared.
    pub keys: u64,
    /// Those that are not in the target.
    pub lost: u64,
    /// Those that the target holds otherwise.
    pub changed: u64,
    /// Keys of the target that are not in the snapshot.
    pub added: u64,
}

/// Why it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// One word: the error's class, `Denied`, `Unavailable` and so on.
    pub class: String,
    /// The whole chain: object, cause, remedy.
    pub error: String,
    /// For a restore: keys written before it failed.
    #[serde(default)]
    pub keys_written: u64,
}

impl Outcome {
    /// As JSON that fits, whatever it tells: what is too long is cut, and shows it.
    #[must_use]
    pub fn to_message(&self) -> String {
        let mut shortened = Shortened::new(self);
        loop {
            let text = shortened.json();
            if text.len() <= MAX_BYTES || !shortened.step() {
                return text;
            }
        }
    }

    /// Reads a termination message.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn from_message(text: &str) -> std::result::Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_and_reads_back() {
        let error = format!("start {} \"quoted\" end", "ü".repeat(9000));
        let outcome = Outcome {
            version: 1,
            result: Result::Failed(Failed { class: "Denied".into(), error, keys_written: 7 }),
            duration_ms: 12,
            warnings: vec!["w".repeat(3000)],
        };
        let text = outcome.to_message();
        assert!(text.len() <= MAX_BYTES, "{}", text.len());
        let Result::Failed(failed) = Outcome::from_message(&text).unwrap().result else {
            panic!("not failed")
        };
        assert!(failed.error.starts_with("start ") && failed.error.ends_with("end"));
        assert_eq!(failed.keys_written, 7);
    }

    /// What a success is there for: the rest of it may be shortened.
    fn essence(outcome: &Outcome) -> (String, String, u64, u64, u64) {
        match &outcome.result {
            Result::BackedUp(done) => {
                let (id, digest) = (done.snapshot_id.clone(), done.digest.clone());
                (id, digest, done.bytes, done.keys.values().sum(), outcome.duration_ms)
            }
            Result::Restored(done) => {
                let verified = done.verified.unwrap_or_default();
                let keys = done.restored.values().sum();
                (
                    done.snapshot_id.clone(),
                    verified.lost.to_string(),
                    done.bytes,
                    keys,
                    done.skipped,
                )
            }
            Result::Failed(failed) => panic!("{failed:?}"),
        }
    }

    #[test]
    fn a_success_fits_and_keeps_what_it_is_there_for() {
        let shards: Vec<String> =
            (0..200).map(|n| format!("shard {n} by replication from 10.0.{n}.7:6379")).collect();
        let types = |n: u64| -> BTreeMap<String, u64> {
            (0..n).map(|n| (format!("type-{n}"), u64::MAX / 4096 - n)).collect()
        };
        for warnings in [
            vec![],
            vec!["a push of metrics failed".to_owned(); 400],
            vec!["\u{1}".repeat(9000), "\"".repeat(9000), "ü".repeat(9000)],
        ] {
            for (words, keys) in [
                (String::new(), types(3)),
                (shards.join("; "), types(3)),
                ("\u{1}".repeat(9000), types(900)),
            ] {
                let done = BackedUp {
                    snapshot_id: "5e".repeat(32),
                    path: "\u{1}".repeat(255),
                    method: "replication".into(),
                    reason: words.clone(),
                    bytes: u64::MAX,
                    data_added: u64::MAX,
                    data_added_packed: u64::MAX,
                    files_new: u64::MAX,
                    keys: keys.clone(),
                    server_version: "8".repeat(300),
                    digest: format!("coffer1:{}", "d1".repeat(32)),
                    ..BackedUp::default()
                };
                let verified = Verified { lost: u64::MAX, ..Verified::default() };
                let loaded = Restored {
                    snapshot_id: "5e".repeat(32),
                    path: "p".repeat(255),
                    bytes: u64::MAX,
                    restored: keys,
                    skipped: u64::MAX,
                    remark: words.clone(),
                    verified: Some(verified),
                    ..Restored::default()
                };
                for result in [Result::BackedUp(done), Result::Restored(loaded)] {
                    let warnings = warnings.clone();
                    let outcome = Outcome { version: 1, result, duration_ms: u64::MAX, warnings };
                    let text = outcome.to_message();
                    assert!(text.len() <= MAX_BYTES, "{}: {text}", text.len());
                    let read = Outcome::from_message(&text).unwrap();
                    assert_eq!(essence(&read), essence(&outcome));
                    assert_eq!(read.warnings.is_empty(), outcome.warnings.is_empty());
                    assert_eq!(text.contains('…'), read != outcome, "{text}");
                    if outcome.warnings.len() > 3 {
                        assert!(text.contains(" more warnings"), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_success_reads_back() {
        let outcome = Outcome {
            version: 1,
            result: Result::BackedUp(BackedUp { snapshot_id: "ab".into(), ..BackedUp::default() }),
            duration_ms: 1,
            warnings: vec![],
        };
        assert_eq!(Outcome::from_message(&outcome.to_message()).unwrap(), outcome);
    }
}
