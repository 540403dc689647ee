//! Every read about an AppBinding's auto-backup.

use coffer_api::{AppBinding, BackupBlueprint, BackupConfiguration};
use kube::{Api, api::ListParams};

use crate::{
    cache::index::Key,
    context::{Context, Error},
};

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
    if has_made(ctx, object) {
        facts.made = made(ctx, object).await?;
    }
    Ok(facts)
}

/// Reads what was made for an AppBinding that is gone.
///
/// # Errors
/// When the cluster does not answer.
pub async fn left(ctx: &Context, object: &AppBinding) -> Result<Facts, Error> {
    Ok(Facts { made: made(ctx, object).await?, ..Facts::default() })
}

/// Whether anything may have been made. Most AppBindings name no blueprint, and to list all BackupConfigurations for each of
/// ten thousand is to look at a hundred million. What the cache does not have yet is found at the next pass.
fn has_made(ctx: &Context, object: &AppBinding) -> bool {
    !wanted(object).is_empty() || !ctx.caches.configs.names(&Key::MadeFor(mark(object))).is_empty()
}

async fn made(ctx: &Context, object: &AppBinding) -> Result<Vec<BackupConfiguration>, Error> {
    let configs: Api<BackupConfiguration> = Api::all(ctx.client.clone());
    let ours = ListParams::default().labels(&format!("{BINDING}={}", mark(object)));
    let made = configs
        .list(&ours)
        .await
        .map_err(Error::cluster("list the BackupConfigurations that blueprints made"))?;
    Ok(made.items.into_iter().filter(|c| c.metadata.deletion_timestamp.is_none()).collect())
}
