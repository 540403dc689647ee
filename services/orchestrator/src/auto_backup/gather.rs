//! Every read about an AppBinding's auto-backup.

use coffer_api::{AppBinding, BackupBlueprint, BackupConfiguration};
use kube::{Api, api::ListParams};

use crate::context::{Context, Error};

use super::decide::{BINDING, mark, wanted};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The blueprints that the annotation names, in its order; none for one that does not exist.
    pub blueprints: Vec<(String, Option<BackupBlueprint>)>,
    /// The BackupConfigurations that were made for this AppBinding.
    pub made: Vec<BackupConfiguration>,
}

/// Reads.
///
/// # Errors
/// When the cluster does not answer.
pub async fn gather(ctx: &Context, object: &AppBinding) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    let blueprints: Api<BackupBlueprint> = Api::all(ctx.client.clone());
    for name in wanted(object) {
        let act = format!("read BackupBlueprint {name}");
        let found = blueprints.get_opt(&name).await.map_err(Error::cluster(act))?;
        facts.blueprints.push((name, found));
    }
    let configs: Api<BackupConfiguration> = Api::all(ctx.client.clone());
    let made = ListParams::default().labels(&format!("{BINDING}={}", mark(object)));
    let made = configs
        .list(&made)
        .await
        .map_err(Error::cluster("list the BackupConfigurations that blueprints made"))?;
    facts.made =
        made.items.into_iter().filter(|c| c.metadata.deletion_timestamp.is_none()).collect();
    Ok(facts)
}
