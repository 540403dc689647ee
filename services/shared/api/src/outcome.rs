//! What a worker leaves behind: its container's termination message. Versioned JSON under 4 KiB, the kubelet's limit.
//! A missing one is itself a result: the session failed, with the reason from the container's exit state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Largest termination message that the kubelet keeps, in bytes.
pub const MAX_BYTES: usize = 4096;

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
    /// As JSON that fits: a long error loses its middle.
    #[must_use]
    pub fn to_message(&self) -> String {
        let json = |outcome: &Self| serde_json::to_string(outcome).unwrap_or_default();
        let mut shortened = self.clone();
        let mut text = json(&shortened);
        while text.len() > MAX_BYTES {
            if !shortened.warnings.is_empty() {
                shortened.warnings.pop();
            } else if let Result::Failed(failed) = &mut shortened.result {
                failed.error = elide(&failed.error);
            } else {
                return text;
            }
            text = json(&shortened);
        }
        text
    }

    /// Reads a termination message.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn from_message(text: &str) -> std::result::Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Cuts about a tenth out of the middle of a text.
fn elide(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let keep = chars.len() * 9 / 20;
    let head: String = chars[..keep].iter().collect();
    let tail: String = chars[chars.len() - keep..].iter().collect();
    format!("{head}…{tail}")
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
