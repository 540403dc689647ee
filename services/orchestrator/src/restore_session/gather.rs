//! Every read about a RestoreSession; what a stage does not need is not read.

use std::collections::BTreeMap;

use coffer_api::{AppBinding, Repository, RestoreSession, app_binding::AddonTask, names};
use kube::ResourceExt;

use crate::{
    context::{Context, Error},
    executor::Worker,
    gather::{self, Prepared, Source, Wanted},
    plan::Lookup,
    policy,
    queue::{Kind, Turn},
    rules, turns, variables,
};

use super::decide::{Stage, stage};

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The Repository.
    pub repository: Lookup<Repository>,
    /// Its Secret.
    pub secret: Lookup<()>,
    /// Labels of the RestoreSession's namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// The target.
    pub target: Lookup<AppBinding>,
    /// Before the start: whether it may have its Job.
    pub turn: Option<Turn>,
    /// Before the start, once everything is there and it is its turn.
    pub prepared: Option<Prepared>,
    /// The restore's worker; before the start, when a Job was made all the same.
    pub worker: Worker,
    /// With a worker: what it waits for before it can begin, if it does.
    pub waiting: Option<String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            repository: Lookup::Missing,
            secret: Lookup::Missing,
            namespace_labels: BTreeMap::new(),
            target: Lookup::Missing,
            turn: None,
            prepared: None,
            worker: Worker::default(),
            waiting: None,
        }
    }
}

/// Reads what admission needs: whatever the spec names.
pub(crate) async fn admission(ctx: &Context, object: &RestoreSession) -> Result<Facts, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let reference = object.spec.repository.as_ref();
    let repository = gather::repository(ctx, Source::Server, &namespace, reference).await;
    Ok(Facts {
        namespace_labels: gather::namespace_labels(ctx, repository.found(), &namespace).await?,
        repository,
        target: target(ctx, object, &namespace).await,
        ..Facts::default()
    })
}

async fn target(ctx: &Context, object: &RestoreSession, namespace: &str) -> Lookup<AppBinding> {
    match object.spec.target.as_ref().map(|target| &target.reference) {
        Some(target) if target.is_app_binding() => {
            gather::look_up(ctx, target.namespace_or(namespace), &target.name).await
        }
        Some(_) | None => Lookup::Missing,
    }
}

/// Reads.
pub async fn gather(ctx: &Context, object: &RestoreSession) -> Result<Facts, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let mut facts = Facts::default();
    let stage = stage(object);
    if object.metadata.deletion_timestamp.is_some() || stage == Stage::Final {
        return Ok(facts);
    }
    let spec = &object.spec;
    let target = spec.target.clone().unwrap_or_default();
    facts.target = self::target(ctx, object, &namespace).await;
    if matches!(stage, Stage::Started | Stage::Settled) {
        let name = names::restore_job(&object.name_any(), 0);
        facts.worker = gather::worker(ctx, &namespace, &name).await?;
        facts.waiting = gather::waiting(ctx, "RestoreSession", object);
        return Ok(facts);
    }
    let job = names::restore_job(&object.name_any(), 0);
    facts.worker.job = gather::own_job(ctx, object, &job).await?;
    facts.repository =
        gather::repository(ctx, Source::Server, &namespace, spec.repository.as_ref()).await;
    let Lookup::Found(repository) = facts.repository.clone() else { return Ok(facts) };
    facts.secret = gather::storage_secret(ctx, &repository).await;
    facts.namespace_labels = gather::namespace_labels(ctx, Some(&repository), &namespace).await?;
    let allowed = policy::may_use(&repository, &namespace, &facts.namespace_labels).is_ok();
    let choice = rules::choose(spec.rules_in_force(), &target.alias);
    let (true, true, Ok(choice)) = (allowed, facts.target.found().is_some(), choice) else {
        return Ok(facts);
    };
    let place = turns::repository(spec.repository.as_ref(), &namespace);
    let turn = ctx.turns.ask(Kind::Restore, object, 0, place, ctx.clock.now());
    facts.turn = Some(turn.clone());
    if turn != Turn::Go {
        return Ok(facts);
    }
    let name = object.name_any();
    let common = variables::Common {
        namespace: &namespace,
        invoker_kind: "RestoreSession",
        invoker_name: &name,
        repository: &repository,
        target: &target.reference,
        temp_dir: spec.temp_dir.as_ref(),
        interim: spec.interim_volume_template.as_ref(),
        pushgateway_url: &ctx.settings.pushgateway_url,
        image: &ctx.settings.trigger_image,
    };
    let pod = spec.runtime_settings.as_ref().and_then(|settings| settings.pod.as_ref());
    let wanted = Wanted {
        namespace: &namespace,
        target: &target.reference,
        service_account: pod.map(|pod| pod.service_account_name.as_str()),
        task: spec.task.as_ref(),
        which: AddonTask::Restore,
        variables: variables::restore(&common, &name, &target, &choice),
    };
    facts.prepared = Some(gather::prepare(ctx, wanted).await?);
    Ok(facts)
}
