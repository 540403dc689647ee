//! Every read about a BackupSession; what a stage does not need is not read.

use coffer_api::{
    AppBinding, BackupBatch, BackupConfiguration, BackupSession, Repository,
    app_binding::AddonTask, names, target::TargetRef,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    backup_configuration::gather::sessions,
    cache::index::Key,
    context::{Context, Error},
    executor::Worker,
    gather::{self, Prepared, Source, Wanted},
    plan::Lookup,
    queue::{self, Kind, Turn},
    turns, variables,
};

use super::{
    batch::{self, Batch},
    decide::{Stage, stage, target_stage},
};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The invoker; of a batch, the member that this pass is about.
    pub invoker: Option<BackupConfiguration>,
    /// The whole batch, if the invoker is one.
    pub batch: Option<Batch>,
    /// Which target this pass is about.
    pub at: usize,
    /// At the end of a batch's session: the worker of each target, and the `type` of its AppBinding.
    pub ends: Vec<(Worker, String)>,
    /// Its Repository.
    pub repository: Option<Repository>,
    /// All sessions with the invoker's labels, this one included if it carries them.
    pub siblings: Vec<BackupSession>,
    /// Before the start: unfinished sessions of other invokers with the same target.
    pub rivals: Vec<BackupSession>,
    /// Its Repository, for those who count Jobs.
    pub place: queue::Repository,
    /// Before the start: whether it may have its Job.
    pub turn: Option<Turn>,
    /// Before the start, when it is its turn.
    pub prepared: Option<Prepared>,
    /// The session's worker; before the start, when a Job was made all the same.
    pub worker: Worker,
    /// With a worker: what it waits for before it can begin, if it does.
    pub waiting: Option<String>,
    /// At the end: `type` of the AppBinding, for metric labels.
    pub app_type: String,
}

impl Facts {
    /// Kind of the invoker.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        if self.batch.is_some() { batch::KIND } else { "BackupConfiguration" }
    }

    /// What each target is backed up by, in their order.
    #[must_use]
    pub fn members(&self) -> &[BackupConfiguration] {
        match &self.batch {
            Some(batch) => &batch.members,
            None => self.invoker.as_slice(),
        }
    }
}

/// The invoker of a session.
pub async fn invoker(ctx: &Context, object: &BackupSession) -> Result<Facts, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let invoker = &object.spec.invoker;
    let mut facts = Facts::default();
    match invoker.kind.as_str() {
        "BackupConfiguration" => {
            facts.invoker = gather::get::<BackupConfiguration>(ctx, &namespace, &invoker.name)
                .await?
                .filter(|config| config.metadata.deletion_timestamp.is_none());
        }
        batch::KIND => {
            let found = gather::get::<BackupBatch>(ctx, &namespace, &invoker.name)
                .await?
                .filter(|batch| batch.metadata.deletion_timestamp.is_none());
            facts.batch = found.as_ref().map(batch::parts);
        }
        _ => {}
    }
    Ok(facts)
}

/// Reads about one target of a session whose invoker is known.
pub async fn gather(
    ctx: &Context,
    object: &BackupSession,
    invoker: &Facts,
    at: usize,
) -> Result<Facts, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let mut facts = Facts { at, ..invoker.clone() };
    if let Some(batch) = &facts.batch {
        facts.invoker = batch.members.get(at).cloned();
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(facts);
    }
    let targets = object.status.as_ref().map(|status| status.targets.as_slice());
    let stage = match stage(object) {
        Stage::Started | Stage::Waiting => target_stage(targets.unwrap_or_default().get(at)),
        session => session,
    };
    let job = names::backup_job(&object.name_any(), at);
    match stage {
        Stage::Started | Stage::Settled => {
            facts.worker = gather::worker(ctx, &namespace, &job).await?;
            facts.waiting = gather::waiting(ctx, "BackupSession", object);
        }
        Stage::Waiting => facts.worker.job = gather::own_job(ctx, object, &job).await?,
        Stage::Final => {}
    }
    let Some(config) = facts.invoker.clone() else { return Ok(facts) };
    facts.place = turns::repository(config.spec.repository.as_ref(), &namespace);
    facts.siblings = sessions(ctx, facts.kind(), &namespace, &config.name_any()).await?;
    if matches!(stage, Stage::Final) {
        return Ok(facts);
    }
    let repository =
        gather::repository(ctx, Source::Server, &namespace, config.spec.repository.as_ref()).await;
    facts.repository = match repository {
        Lookup::Found(repository) => Some(repository),
        Lookup::Missing => None,
        Lookup::Unknown(why) => return Err(Error::Unsure { why }),
    };
    let target = config.spec.target.clone().unwrap_or_default();
    match stage {
        Stage::Waiting => {
            let place = facts.place.clone();
            let turn = ctx.turns.ask(Kind::Backup, object, at, place, ctx.clock.now());
            // Who is in line waits in any case, and there may be a thousand.
            let source = if turn == Turn::Go { Source::Server } else { Source::Caches };
            facts.rivals = rivals(ctx, source, &namespace, &config, &target.reference).await?;
            if let (Some(repository), Turn::Go) = (&facts.repository, &turn) {
                let kind = facts.kind();
                facts.prepared = Some(prepare(ctx, object, kind, &config, repository).await?);
            }
            facts.turn = Some(turn);
        }
        Stage::Started | Stage::Settled => {
            let home = target.reference.namespace_or(&namespace).to_owned();
            let binding: Option<AppBinding> =
                gather::get(ctx, &home, &target.reference.name).await?;
            facts.app_type = binding.map(|binding| binding.spec.kind).unwrap_or_default();
            for (at, member) in facts.batch.iter().flat_map(|batch| &batch.members).enumerate() {
                let job = names::backup_job(&object.name_any(), at);
                let worker = gather::worker(ctx, &namespace, &job).await?;
                let target = member.spec.target.clone().unwrap_or_default().reference;
                let home = target.namespace_or(&namespace);
                let binding: Option<AppBinding> = gather::get(ctx, home, &target.name).await?;
                let kind = binding.map(|binding| binding.spec.kind).unwrap_or_default();
                facts.ends.push((worker, kind));
            }
        }
        Stage::Final => {}
    }
    Ok(facts)
}

async fn prepare(
    ctx: &Context,
    object: &BackupSession,
    kind: &str,
    config: &BackupConfiguration,
    repository: &Repository,
) -> Result<Prepared, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let target = config.spec.target.clone().unwrap_or_default();
    let invoker = config.name_any();
    let common = variables::Common {
        namespace: &namespace,
        invoker_kind: kind,
        invoker_name: &invoker,
        repository,
        target: &target.reference,
        temp_dir: config.spec.temp_dir.as_ref(),
        interim: config.spec.interim_volume_template.as_ref(),
        pushgateway_url: &ctx.settings.pushgateway_url,
        image: &ctx.settings.trigger_image,
    };
    let retention = &config.spec.retention_policy;
    let pod = config.spec.runtime_settings.as_ref().and_then(|settings| settings.pod.as_ref());
    let wanted = Wanted {
        namespace: &namespace,
        target: &target.reference,
        service_account: pod.map(|pod| pod.service_account_name.as_str()),
        task: config.spec.task.as_ref(),
        which: AddonTask::Backup,
        variables: variables::backup(&common, &object.name_any(), &target, retention),
    };
    gather::prepare(ctx, wanted).await
}

/// Unfinished sessions of other BackupConfigurations that back up the same object, in whatever namespace.
async fn rivals(
    ctx: &Context,
    source: Source,
    namespace: &str,
    config: &BackupConfiguration,
    target: &TargetRef,
) -> Result<Vec<BackupSession>, Error> {
    let home = target.namespace_or(namespace);
    let rival = |session: &BackupSession| {
        let own = session.namespace().unwrap_or_default();
        is_unfinished(session)
            && target_namespace(session) == home
            && (own != namespace || session.spec.invoker.name != config.name_any())
    };
    let (kind, name) = (target.kind.as_str(), super::label(&target.name));
    if source == Source::Caches {
        let key = Key::Labelled(kind.to_owned(), name.to_owned());
        let found = ctx.caches.backups.find(&key).into_iter();
        return Ok(found.filter(|s| rival(s)).map(|s| s.as_ref().clone()).collect());
    }
    let labels = format!("{}={kind},{}={name}", names::TARGET_KIND, names::TARGET_NAME);
    let api: Api<BackupSession> = Api::all(ctx.client.clone());
    let found = api
        .list(&ListParams::default().labels(&labels))
        .await
        .map_err(Error::cluster("list the sessions of other invokers with the same target"))?;
    Ok(found.items.into_iter().filter(rival).collect())
}

fn is_unfinished(session: &BackupSession) -> bool {
    let phase = session.status.as_ref().and_then(|status| status.phase);
    !phase.is_some_and(coffer_api::backup_session::SessionPhase::is_final)
}

fn target_namespace(session: &BackupSession) -> String {
    let named = session.labels().get(names::TARGET_NAMESPACE).filter(|name| !name.is_empty());
    named.cloned().or_else(|| session.namespace()).unwrap_or_default()
}
