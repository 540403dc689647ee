//! A BackupBatch as the rest of this crate sees it: each member as a BackupConfiguration that has the batch's name, schedule
//! and repository. One session backs them all up, each with a Job of its own. Pure.

use coffer_api::{
    BackupBatch, BackupConfiguration,
    backup_batch::{BackupBatchMember, BackupBatchSpec, BackupBatchStatus},
    backup_configuration::{BackupConfigurationSpec, BackupConfigurationStatus},
    hook::BackupHooks,
};

/// Kind of the invoker, as sessions name it.
pub const KIND: &str = "BackupBatch";

/// The members of a batch, and what is to be done around and among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Each member with what it has from the batch.
    pub members: Vec<BackupConfiguration>,
    /// One after the other, and not all at a time.
    pub sequential: bool,
    /// Around all of them.
    pub hooks: Option<BackupHooks>,
}

/// Takes a batch apart.
#[must_use]
pub fn parts(batch: &BackupBatch) -> Batch {
    let BackupBatchSpec {
        members,
        schedule,
        driver,
        repository,
        retention_policy,
        paused,
        backup_history_limit,
        hooks,
        execution_order,
        time_out,
        retry_config,
        // Of the pod that would make the sessions: there is none.
        runtime_settings: _,
    } = batch.spec.clone();
    let BackupBatchStatus { observed_generation, phase, conditions, member_conditions: _ } =
        batch.status.clone().unwrap_or_default();
    let common = BackupConfigurationSpec {
        schedule,
        driver,
        repository,
        retention_policy,
        paused,
        backup_history_limit,
        time_out,
        retry_config,
        ..BackupConfigurationSpec::default()
    };
    let status = BackupConfigurationStatus { observed_generation, phase, conditions };
    let member = |member: BackupBatchMember| {
        let BackupBatchMember {
            target,
            task,
            runtime_settings,
            temp_dir,
            interim_volume_template,
            hooks,
        } = member;
        let spec = BackupConfigurationSpec {
            target,
            task,
            runtime_settings,
            temp_dir,
            interim_volume_template,
            hooks,
            ..common.clone()
        };
        let metadata = batch.metadata.clone();
        BackupConfiguration { metadata, spec, status: Some(status.clone()) }
    };
    Batch {
        members: members.into_iter().map(member).collect(),
        sequential: execution_order == "Sequential",
        hooks,
    }
}
