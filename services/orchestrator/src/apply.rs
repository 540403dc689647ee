//! Carries out plans: the only file that writes to the cluster. Dumb on purpose: what to write was decided elsewhere, and
//! every write may be repeated.

mod events;

use std::fmt::Debug;

use coffer_api::{
    BackupConfiguration, BackupSession, Repository, RestoreSession, names,
    session::{KEY, Sensitive},
    size, time,
};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Secret, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    auto_backup::decide::BINDING,
    cache::Cached,
    calls,
    context::{Context, Error, describe},
    metrics,
    plan::{Action, Answer, Call, Child, Done, Notice, SessionSecret},
    trigger::Trigger,
};

/// Who we are to server-side apply.
pub const FIELD_MANAGER: &str = "coffer-orchestrator";
/// Annotation of a session that somebody wants stopped: who.
pub const CANCELLED_BY: &str = "stash.appscode.com/cancelled-by";
/// Times that a status is written on top of what others wrote into the rest of the object, before the pass is repeated.
const STATUS_WRITES: usize = 4;
/// Errors of a check that are shown; the rest is counted.
const SHOWN: usize = 5;

/// An object that a controller of ours looks after.
pub trait Kept:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}

impl<K> Kept for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

fn api<K: Kept>(ctx: &Context, namespace: &str) -> Api<K> {
    Api::namespaced(ctx.client.clone(), namespace)
}

fn subject<K: Kept>(object: &K) -> String {
    format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

/// What was decided before the Lease was lost is not carried out after it: another one decides by now.
fn leads(ctx: &Context) -> Result<(), Error> {
    if ctx.leadership.holds(ctx.clock.now()) { Ok(()) } else { Err(Error::NotLeader) }
}

/// Carries out actions on behalf of `object`, in order.
pub async fn actions<K: Kept + Cached>(
    ctx: &Context,
    object: &K,
    actions: &[Action],
) -> Result<(), Error> {
    leads(ctx)?;
    for action in actions {
        match action {
            Action::AddFinalizer(finalizer) => finalizers(ctx, object, finalizer, true).await?,
            Action::RemoveFinalizer(finalizer) => finalizers(ctx, object, finalizer, false).await?,
            Action::CreateSession(session) => create_session(ctx, session).await?,
            Action::CreateRestore(session) => {
                create(ctx, session.as_ref(), object.meta().uid.as_deref()).await?;
            }
            Action::ApplyRepository(repository) => blueprinted(ctx, repository.as_ref()).await?,
            Action::ApplyConfiguration(config) => blueprinted(ctx, config.as_ref()).await?,
            Action::DeleteConfiguration(child) => {
                delete::<BackupConfiguration>(ctx, child).await?;
            }
            Action::ApplyTrigger(trigger) => {
                let Trigger { account, binding, cron_job } = trigger.as_ref();
                if let Some(account) = account {
                    server_side(ctx, account).await?;
                }
                server_side(ctx, binding).await?;
                server_side(ctx, cron_job).await?;
            }
            Action::DeleteTrigger(child) => {
                delete::<CronJob>(ctx, child).await?;
                delete::<RoleBinding>(ctx, child).await?;
                delete::<ServiceAccount>(ctx, child).await?;
            }
            Action::ApplyServiceAccount(account) => server_side(ctx, account.as_ref()).await?,
            Action::CreateSessionSecret(secret) => session_secret(ctx, object, secret).await?,
            Action::CreateClaim(claim) => {
                create(ctx, claim.as_ref(), object.meta().uid.as_deref()).await?;
            }
            Action::CreateJob(job) => {
                create(ctx, job.as_ref(), object.meta().uid.as_deref()).await?;
            }
            Action::DeleteJob(child) => delete::<Job>(ctx, child).await?,
            Action::DeleteSecret(child) => delete::<Secret>(ctx, child).await?,
            Action::ForgetProgress => {
                ctx.progress.forget(&coffer_runtime::grant::SessionRef {
                    kind: K::kind(&()).into_owned(),
                    namespace: object.namespace().unwrap_or_default(),
                    name: object.name_any(),
                });
            }
            Action::Emit(notice) => events::emit(ctx, object, notice).await,
        }
    }
    Ok(())
}

/// Writes a status when it differs from the one that was decided on; refused when somebody wrote the status meanwhile. A label
/// that somebody set meanwhile is no reason to refuse it: what a call did (a hook, a retention) would be done again.
pub async fn status<K: Kept + Cached, S: Serialize>(
    ctx: &Context,
    object: &K,
    old: Option<&S>,
    new: &S,
) -> Result<(), Error> {
    leads(ctx)?;
    let json = |source| Error::Json { what: "a status", source };
    let old = old.map(serde_json::to_value).transpose().map_err(json)?.unwrap_or(Value::Null);
    let mut new = serde_json::to_value(new).map_err(json)?;
    if old == new {
        return Ok(());
    }
    // A merge patch removes nothing that it does not name.
    if let (Some(old), Some(new)) = (old.as_object(), new.as_object_mut()) {
        for key in old.keys() {
            new.entry(key.clone()).or_insert(Value::Null);
        }
    }
    let mut version = object.resource_version();
    for left in (0..STATUS_WRITES).rev() {
        let patch = json!({"metadata": {"resourceVersion": version}, "status": new});
        let written = api::<K>(ctx, &object.namespace().unwrap_or_default())
            .patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::cluster(format!("write the status of {}", subject(object))));
        match written {
            Ok(written) => {
                K::cache(&ctx.caches).wrote(&written);
                break;
            }
            Err(error) if error.is_conflict() && left > 0 => {
                version = Some(same_status(ctx, object, &old).await?.ok_or(error)?);
                leads(ctx)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The version that an object has by now, if its status is still `old`.
async fn same_status<K: Kept>(
    ctx: &Context,
    object: &K,
    old: &Value,
) -> Result<Option<String>, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let found = crate::gather::get::<K>(ctx, &namespace, &name).await?;
    let Some(now) = found.filter(|now| now.uid() == object.uid()) else { return Ok(None) };
    let json =
        serde_json::to_value(&now).map_err(|source| Error::Json { what: "an object", source })?;
    Ok((json.get("status").unwrap_or(&Value::Null) == old)
        .then(|| now.resource_version())
        .flatten())
}

/// Makes a call of an object. Its failure is an answer; that of a hook is an Event of the object too.
pub async fn call<K: Kept>(ctx: &Context, object: &K, call: &Call) -> Answer {
    match call {
        Call::Forget { repository, policy } => {
            let answer = calls::forget(ctx, repository, policy).await?;
            let (kept, removed) = (answer.kept.len(), answer.removed.len());
            // A dry run removes nothing, and the status must not say that it did.
            let removed_for_real = if policy.dry_run { 0 } else { removed };
            let figures = json!({"snapshotsRemovedOnLastCleanup": removed_for_real});
            repository_status(ctx, &repository.namespace, &repository.name, figures).await?;
            Ok(Done::Forgot { kept, removed })
        }
        Call::Check { repository } => {
            let mut errors = calls::check(ctx, repository).await?.errors;
            let figures = json!({"integrity": errors.is_empty()});
            repository_status(ctx, &repository.namespace, &repository.name, figures).await?;
            if errors.len() > SHOWN {
                let more = errors.len() - SHOWN;
                errors.truncate(SHOWN);
                errors.push(format!("and {more} more"));
            }
            Ok(Done::Checked { errors })
        }
        Call::Figures { repository, group, labels, backup_time } => {
            let stats = calls::stats(ctx, repository).await?;
            let found =
                crate::gather::get::<Repository>(ctx, &repository.namespace, &repository.name)
                    .await
                    .map_err(|error| error.describe())?;
            let status = found.and_then(|repository| repository.status).unwrap_or_default();
            let formatted = size::format(stats.total_size);
            let taken = time::from_clock(*backup_time);
            let first = status.first_backup_time.unwrap_or_else(|| taken.clone());
            let figures = json!({
                "totalSize": formatted,
                "snapshotCount": stats.snapshots,
                "lastBackupTime": taken,
                "firstBackupTime": first,
            });
            repository_status(ctx, &repository.namespace, &repository.name, figures).await?;
            let removed = status.snapshots_removed_on_last_cleanup.unwrap_or(0);
            let families = metrics::repository_figures(
                labels,
                status.integrity.unwrap_or(true),
                stats.total_size,
                stats.snapshots,
                u64::try_from(removed).unwrap_or(0),
            );
            calls::push(ctx, group, &families).await?;
            Ok(Done::Figures { size: formatted, snapshots: stats.snapshots })
        }
        Call::CleanHistory { namespace, sessions } => {
            for name in sessions {
                let child = Child { namespace: namespace.clone(), name: name.clone() };
                delete::<BackupSession>(ctx, &child).await.map_err(|error| error.describe())?;
            }
            Ok(Done::Cleaned)
        }
        Call::Push { group, families } => {
            calls::push(ctx, group, families).await.map(|()| Done::Pushed)
        }
        Call::Hook(hook) => {
            let answer = crate::hook::run(ctx, hook).await;
            if let Err(why) = &answer {
                let reason = hook.moment.condition().failed;
                let notice = Notice { warning: true, reason, message: why.clone() };
                events::emit(ctx, object, &notice).await;
            }
            answer.map(Done::Hooked)
        }
        Call::Wipe { repository } => {
            calls::wipe(ctx, repository).await.map(|objects| Done::Wiped { objects })
        }
    }
}

/// Creates a session for a gRPC client; gives the one that exists when the name is taken.
pub async fn create_backup_session(
    ctx: &Context,
    session: &BackupSession,
) -> Result<(BackupSession, Created), Error> {
    create_or_get(ctx, session).await
}

/// The same for a restore.
pub async fn create_restore_session(
    ctx: &Context,
    session: &RestoreSession,
) -> Result<(RestoreSession, Created), Error> {
    create_or_get(ctx, session).await
}

/// Asks for a session to be stopped, in the name of `who`.
pub async fn cancel<K: Kept>(
    ctx: &Context,
    namespace: &str,
    name: &str,
    who: &str,
) -> Result<K, Error> {
    let patch = json!({"metadata": {"annotations": {CANCELLED_BY: who}}});
    api::<K>(ctx, namespace)
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(Error::cluster(format!("cancel {} {namespace}/{name}", K::kind(&()))))
}

/// Whether a create made the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It did.
    New,
    /// It was there before.
    Before,
}

async fn create_or_get<K: Kept>(ctx: &Context, object: &K) -> Result<(K, Created), Error> {
    let api = api::<K>(ctx, &object.namespace().unwrap_or_default());
    let act = |verb: &str| format!("{verb} {}", subject(object));
    match api.create(&PostParams::default(), object).await {
        Ok(created) => Ok((created, Created::New)),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let found = api.get(&object.name_any()).await.map_err(Error::cluster(act("read")))?;
            Ok((found, Created::Before))
        }
        Err(error) => Err(Error::cluster(act("create"))(error)),
    }
}

/// Creates an object; one that exists stays as it is, but must belong to `owner` when one is given.
async fn create<K: Kept>(ctx: &Context, object: &K, owner: Option<&str>) -> Result<K, Error> {
    let (found, created) = create_or_get(ctx, object).await?;
    let ours = owner.is_none_or(|uid| found.owner_references().iter().any(|o| o.uid == uid));
    if created == Created::Before && !ours {
        return Err(Error::Foreign {
            kind: kind::<K>(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        });
    }
    Ok(found)
}

/// A session whose name is taken by another invoker's is made under a name of its own: a backup that is due must not be
/// taken for made because somebody else's is there.
async fn create_session(ctx: &Context, session: &BackupSession) -> Result<(), Error> {
    let owner = session.owner_references().first().map(|owner| owner.uid.clone());
    let made = match create(ctx, session, owner.as_deref()).await {
        Err(Error::Foreign { .. }) => {
            let owner = owner.unwrap_or_default();
            let mut renamed = session.clone();
            renamed.metadata.name = Some(names::distinct_session(&session.name_any(), &owner));
            create(ctx, &renamed, Some(&owner)).await?
        }
        made => made?,
    };
    ctx.caches.backups.made(&made);
    Ok(())
}

/// The name of a kind of ours.
pub(crate) fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

async fn session_secret<K: Kept>(
    ctx: &Context,
    object: &K,
    wanted: &SessionSecret,
) -> Result<(), Error> {
    let SessionSecret { secret, document, grant } = wanted;
    let token = ctx
        .signer
        .sign(grant)
        .map_err(|source| Error::Sign { session: subject(object), source })?;
    let mut document = document.clone();
    document.grant = Sensitive::new(token.reveal());
    let text = serde_json::to_string(&document)
        .map_err(|source| Error::Json { what: "the session document", source })?;
    let mut secret = secret.clone();
    secret.data = Some([(KEY.to_owned(), k8s_openapi::ByteString(text.into_bytes()))].into());
    create(ctx, &secret, object.meta().uid.as_deref()).await.map(drop)
}

/// Applies what a blueprint makes. An object of that name that somebody else made is theirs.
async fn blueprinted<K: Kept>(ctx: &Context, object: &K) -> Result<(), Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let found = crate::gather::get::<K>(ctx, &namespace, &name).await?;
    let mark = |object: &K| object.labels().get(BINDING).cloned();
    if found.is_some_and(|found| mark(&found) != mark(object)) {
        return Err(Error::Foreign { kind: kind::<K>(), namespace, name });
    }
    server_side(ctx, object).await
}

async fn server_side<K: Kept>(ctx: &Context, object: &K) -> Result<(), Error> {
    api::<K>(ctx, &object.namespace().unwrap_or_default())
        .patch(
            &object.name_any(),
            &PatchParams::apply(FIELD_MANAGER).force(),
            &Patch::Apply(object),
        )
        .await
        .map_err(Error::cluster(format!("apply {}", subject(object))))?;
    Ok(())
}

async fn delete<K: Kept>(ctx: &Context, child: &Child) -> Result<(), Error> {
    let Child { namespace, name } = child;
    match api::<K>(ctx, namespace).delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => {
            Err(Error::cluster(format!("delete {} {namespace}/{name}", K::kind(&())))(error))
        }
    }
}

async fn finalizers<K: Kept + Cached>(
    ctx: &Context,
    object: &K,
    finalizer: &str,
    wanted: bool,
) -> Result<(), Error> {
    let mut all: Vec<String> = object.finalizers().to_vec();
    all.retain(|name| name != finalizer);
    if wanted {
        all.push(finalizer.to_owned());
    }
    let patch = json!({"metadata": {
        "resourceVersion": object.resource_version(), "finalizers": all}});
    let patched = api::<K>(ctx, &object.namespace().unwrap_or_default())
        .patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match patched {
        Ok(written) => {
            K::cache(&ctx.caches).wrote(&written);
            Ok(())
        }
        // Removing the last finalizer may be what deletes it.
        Err(kube::Error::Api(status)) if status.code == 404 && !wanted => Ok(()),
        Err(error) => {
            Err(Error::cluster(format!("set the finalizers of {}", subject(object)))(error))
        }
    }
}

/// Merges figures into a Repository's status. Each figure has one writer, so no other one is overwritten.
async fn repository_status(
    ctx: &Context,
    namespace: &str,
    name: &str,
    figures: Value,
) -> Result<(), String> {
    let patch = json!({ "status": figures });
    let patched = api::<Repository>(ctx, namespace)
        .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.map(|_| ()).map_err(|error| {
        format!("write the status of Repository {namespace}/{name}: {}", describe(&error))
    })
}
