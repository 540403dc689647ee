//! What can be done to a repository as a whole: the right that each operation needs, and whether it destroys. The one list
//! of both; a new operation does not compile without an answer.

/// An operation on a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Make it where there is none.
    Init,
    /// List its snapshots.
    List,
    /// Count what is there.
    Stats,
    /// Look for damage.
    Check,
    /// Say what forget would do.
    PlanForget,
    /// Say what prune would do.
    PlanPrune,
    /// List its keys.
    ListKeys,
    /// Read a file of a snapshot.
    Download,
    /// Copy its snapshots elsewhere.
    CopyFrom,
    /// Copy snapshots of elsewhere into it.
    CopyTo,
    /// Remove locks.
    Unlock,
    /// Let another password open it.
    AddKey,
    /// Let a password open it no more.
    RemoveKey,
    /// Replace the password.
    ChangeKey,
    /// Make the index agree with the packs.
    RepairIndex,
    /// Upgrade its format.
    Migrate,
    /// Free the space of what no snapshot uses.
    Prune,
    /// Delete snapshots by rules.
    Forget,
    /// Delete snapshots by name.
    DeleteSnapshots,
    /// Delete everything.
    Wipe,
}

/// What a user needs to be allowed, as if they had made that API call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// A verb on the Repository object.
    Repository(&'static str),
    /// To create RestoreSessions in the namespace: who may restore a snapshot into a Redis of theirs may read it.
    Restore,
}

impl Operation {
    /// Its name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::List => "list",
            Self::Stats => "stats",
            Self::Check => "check",
            Self::PlanForget | Self::Forget => "forget",
            Self::PlanPrune | Self::Prune => "prune",
            Self::ListKeys => "list-keys",
            Self::Download => "download",
            Self::CopyFrom | Self::CopyTo => "copy",
            Self::Unlock => "unlock",
            Self::AddKey => "add-key",
            Self::RemoveKey => "remove-key",
            Self::ChangeKey => "change-key",
            Self::RepairIndex => "repair-index",
            Self::Migrate => "migrate",
            Self::DeleteSnapshots => "delete",
            Self::Wipe => "wipe",
        }
    }

    /// What a user needs to be allowed.
    #[must_use]
    pub const fn right(self) -> Right {
        match self {
            Self::List
            | Self::Stats
            | Self::Check
            | Self::PlanForget
            | Self::PlanPrune
            | Self::ListKeys => Right::Repository("get"),
            Self::Download | Self::CopyFrom => Right::Restore,
            Self::Init
            | Self::CopyTo
            | Self::Unlock
            | Self::AddKey
            | Self::RemoveKey
            | Self::ChangeKey
            | Self::RepairIndex
            | Self::Migrate
            | Self::Prune => Right::Repository("update"),
            Self::Forget | Self::DeleteSnapshots | Self::Wipe => Right::Repository("delete"),
        }
    }

    /// Whether it deletes or replaces what a restore could need. Such an operation is not for an append-only repository.
    #[must_use]
    pub const fn destroys(self) -> bool {
        match self {
            Self::Init
            | Self::List
            | Self::Stats
            | Self::Check
            | Self::PlanForget
            | Self::PlanPrune
            | Self::ListKeys
            | Self::Download
            | Self::CopyFrom
            | Self::CopyTo
            | Self::Unlock
            | Self::AddKey => false,
            Self::RemoveKey
            | Self::ChangeKey
            | Self::RepairIndex
            | Self::Migrate
            | Self::Prune
            | Self::Forget
            | Self::DeleteSnapshots
            | Self::Wipe => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_only_read_can_destroy_nothing() {
        use Operation::*;
        let all = [
            Init,
            List,
            Stats,
            Check,
            PlanForget,
            PlanPrune,
            ListKeys,
            Download,
            CopyFrom,
            CopyTo,
            Unlock,
            AddKey,
            RemoveKey,
            ChangeKey,
            RepairIndex,
            Migrate,
            Prune,
            Forget,
            DeleteSnapshots,
            Wipe,
        ];
        for operation in all.into_iter().filter(|operation| operation.destroys()) {
            let right = operation.right();
            let enough = [Right::Repository("update"), Right::Repository("delete")];
            assert!(enough.contains(&right), "{operation:?} needs only {right:?}");
        }
        // Snapshots are taken away by those alone who may delete.
        for operation in [Forget, DeleteSnapshots, Wipe] {
            assert_eq!(operation.right(), Right::Repository("delete"));
        }
    }
}
