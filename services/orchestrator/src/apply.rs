//! Carries out plans. This file and those below it (the call of a plan, the status, Events) are the only ones that write to
//! the cluster. Dumb on purpose: what to write was decided elsewhere, and every write may be repeated.

mod call;
mod events;
mod status;

use std::fmt::Debug;

use coffer_api::{
    BackupConfiguration, BackupSession, RestoreSession, names,
    session::{KEY, Sensitive},
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
use serde_json::json;

use crate::{
    auto_backup::decide::BINDING,
    cache::Cached,
    context::{Context, Error},
    plan::{Action, Child, SessionSecret},
    trigger::Trigger,
};

pub use self::{call::call, status::status};

/// Who we are to server-side apply.
pub const FIELD_MANAGER: &str = "coffer-orchestrator";
/// Annotation of a session that somebody wants stopped: who.
pub const CANCELLED_BY: &str = "stash.appscode.com/cancelled-by";

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
