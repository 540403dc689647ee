//! Reads that several kinds share, each as owned facts: the repository with its Secret, the target's connection, the
//! resolved Task, and the Job with its pods. What starts or ends something is read from the API server, not from a cache: a
//! decision that is made on what was true a moment ago is made twice.

use std::collections::{BTreeMap, HashMap};

use coffer_api::{
    AppBinding, Repository,
    app_binding::AddonTask,
    session::Redis,
    target::{RepositoryRef, TargetRef, TaskRef},
};
use coffer_proto::catalog::v1::ResolveRequest;
use coffer_runtime::{
    fault::{self, Class},
    grant::SessionRef,
};
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        batch::v1::Job,
        core::v1::{Container, Event, Namespace, Pod, Secret, Volume},
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, PostParams},
    core::{NamespaceResourceScope, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use crate::{
    apply::Kept,
    cache::Cached,
    connection::{self, Secrets},
    context::{Context, Error, describe},
    executor::{self, Worker},
    plan::Lookup,
    policy,
    variables::{self, Variables},
};

/// Longest that the catalog may think about a Task.
const RESOLVE_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);
/// Objects of one page of a list.
const PAGE: u32 = 500;
/// Seconds that a worker waits for the Redis when the Task's parameters do not say.
const WAIT_TIMEOUT_SECONDS: u64 = 300;

/// Reads an object, as it is now.
pub async fn get<K>(ctx: &Context, namespace: &str, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    // An empty name would be a list.
    if name.is_empty() {
        return Ok(None);
    }
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    api.get_opt(name)
        .await
        .map_err(Error::cluster(format!("read {} {namespace}/{name}", K::kind(&()))))
}

/// The objects of a kind that are wanted, of all namespaces. In pages: of ten thousand few are wanted, mostly.
pub async fn all<K: Kept>(ctx: &Context, wanted: impl Fn(&K) -> bool) -> Result<Vec<K>, Error> {
    let api: Api<K> = Api::all(ctx.client.clone());
    let (mut found, mut page) = (vec![], ListParams::default().limit(PAGE));
    loop {
        let act = format!("list all objects of kind {}", K::kind(&()));
        let listed = api.list(&page).await.map_err(Error::cluster(act))?;
        found.extend(listed.items.into_iter().filter(&wanted));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// One object as a lookup; one that is about to go is missing.
pub async fn look_up<K>(ctx: &Context, namespace: &str, name: &str) -> Lookup<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    match get::<K>(ctx, namespace, name).await {
        Ok(found) => found.filter(|k| k.meta().deletion_timestamp.is_none()).into(),
        Err(error) => Lookup::Unknown(error.describe()),
    }
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The caches, for what a change of it wakes the pass again; what is not there is asked of the API server.
    Caches,
    /// The API server, for what is decided once.
    Server,
}

/// An object that is about to go is missing.
pub async fn look_up_in<K>(ctx: &Context, source: Source, namespace: &str, name: &str) -> Lookup<K>
where
    K: Cached + Resource<Scope = NamespaceResourceScope>,
{
    let cached = match source {
        Source::Caches => K::cache(&ctx.caches).get(namespace, name),
        Source::Server => None,
    };
    match cached.filter(|object| object.meta().deletion_timestamp.is_none()) {
        Some(found) => Lookup::Found(found.as_ref().clone()),
        None => look_up(ctx, namespace, name).await,
    }
}

/// The Repository of an invoker.
pub async fn repository(
    ctx: &Context,
    source: Source,
    namespace: &str,
    reference: Option<&RepositoryRef>,
) -> Lookup<Repository> {
    match reference {
        Some(reference) => {
            look_up_in(ctx, source, reference.namespace_or(namespace), &reference.name).await
        }
        None => Lookup::Missing,
    }
}

/// Whether a Repository's Secret exists. Its content is the storage-gateway's business.
pub async fn storage_secret(ctx: &Context, repository: &Repository) -> Lookup<()> {
    let name = repository.spec.backend.storage_secret_name.as_str();
    let namespace = repository.namespace().unwrap_or_default();
    let found = look_up::<PartialObjectMeta<Secret>>(ctx, &namespace, name).await;
    match found {
        Lookup::Found(_) => Lookup::Found(()),
        Lookup::Missing => Lookup::Missing,
        Lookup::Unknown(why) => Lookup::Unknown(why),
    }
}

/// The labels of a namespace, if a Repository's policy asks for them.
pub async fn namespace_labels(
    ctx: &Context,
    repository: Option<&Repository>,
    name: &str,
) -> Result<BTreeMap<String, String>, Error> {
    if !repository.is_some_and(|repository| policy::asks_for_labels(repository, name)) {
        return Ok(BTreeMap::new());
    }
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    let found =
        api.get_opt(name).await.map_err(Error::cluster(format!("read Namespace {name}")))?;
    Ok(found.and_then(|namespace| namespace.metadata.labels).unwrap_or_default())
}

/// What the worker of a session says that it waits for before it can begin.
#[must_use]
pub fn waiting(ctx: &Context, kind: &str, session: &impl ResourceExt) -> Option<String> {
    let namespace = session.namespace().unwrap_or_default();
    ctx.progress.waiting(&SessionRef { kind: kind.to_owned(), namespace, name: session.name_any() })
}

/// A Job, the pods that belong to it, and what keeps them from starting.
pub async fn worker(ctx: &Context, namespace: &str, name: &str) -> Result<Worker, Error> {
    let job: Option<Job> = get(ctx, namespace, name).await?;
    let Some(uid) = job.as_ref().and_then(|job| job.metadata.uid.clone()) else {
        return Ok(Worker { job, ..Worker::default() });
    };
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    // The labels are those of the Job's own template; the owner decides.
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=stash.appscode.com");
    let pods = api
        .list(&ours)
        .await
        .map_err(Error::cluster(format!("list the pods of Job {namespace}/{name}")))?;
    let owned = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.uid == uid);
    let pods: Vec<Pod> = pods.into_iter().filter(owned).collect();
    let waiting = match executor::newest(&pods) {
        // A quota, or an admission that says no, is told about the Job.
        None => Some(uid),
        Some(pod) if executor::is_starting(pod) => pod.uid(),
        Some(_) => None,
    };
    let warning = match waiting {
        Some(uid) => Box::pin(warning(ctx, namespace, &uid)).await,
        None => None,
    };
    Ok(Worker { job, pods, warning })
}

/// The last word that Kubernetes had about an object, if it is a warning. Events are hints: one that cannot be read holds
/// nothing up.
async fn warning(ctx: &Context, namespace: &str, uid: &str) -> Option<String> {
    let api: Api<Event> = Api::namespaced(ctx.client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let events = match api.list(&about).await {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(namespace, uid, error = describe(&error), "events cannot be listed");
            return None;
        }
    };
    let at = |event: &Event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let single = event.event_time.as_ref().map(|time| time.0);
        last.or(single)
    };
    let last = events.into_iter().max_by_key(at)?;
    let text = |text: Option<String>| text.unwrap_or_default();
    (last.type_.as_deref() == Some("Warning"))
        .then(|| format!("{}: {}", text(last.reason), text(last.message)))
}

/// The Job of a session that has not started as far as its status says; none when there is none, or another's.
pub async fn own_job<K>(ctx: &Context, session: &K, name: &str) -> Result<Option<Job>, Error>
where
    K: Resource<DynamicType = ()>,
{
    let job: Option<Job> = get(ctx, &session.namespace().unwrap_or_default(), name).await?;
    let uid = session.meta().uid.as_deref();
    Ok(job.filter(|job| job.owner_references().iter().any(|o| Some(o.uid.as_str()) == uid)))
}

/// What a session needs to start.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// All of it.
    Ready(Box<Preparation>),
    /// It cannot start; why, and what to do.
    Refused(String),
    /// Somebody who is needed does not answer.
    NotYet(String),
}

/// All that a Job and its session Secret are made of.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// `type` of the AppBinding.
    pub app_type: String,
    /// How to reach the Redis.
    pub redis: Redis,
    /// The resolved containers; at least one.
    pub containers: Vec<Container>,
    /// The Task's volumes.
    pub volumes: Vec<Volume>,
    /// Seconds that the worker waits for the Redis.
    pub wait_timeout_seconds: u64,
}

/// What to prepare.
pub struct Wanted<'a> {
    /// Namespace of the session.
    pub namespace: &'a str,
    /// The target.
    pub target: &'a TargetRef,
    /// ServiceAccount that the user named.
    pub service_account: Option<&'a str>,
    /// The invoker's Task.
    pub task: Option<&'a TaskRef>,
    /// Which of the addon's Tasks is meant.
    pub which: AddonTask,
    /// Variables of the Task.
    pub variables: Variables,
}

/// Reads the AppBinding, its Secrets and the Task. A read that is forbidden is told to the user, who may be the one to
/// mend it; every other failure is for the next pass.
pub async fn prepare(ctx: &Context, wanted: Wanted<'_>) -> Result<Prepared, Error> {
    match read(ctx, wanted).await {
        Err(error) if error.is_refusal() => Ok(Prepared::NotYet(error.describe())),
        other => other,
    }
}

async fn read(ctx: &Context, wanted: Wanted<'_>) -> Result<Prepared, Error> {
    let Wanted { namespace, target, service_account, task, which, variables } = wanted;
    let home = target.namespace_or(namespace);
    let Some(binding) = get::<AppBinding>(ctx, home, &target.name).await? else {
        return Ok(Prepared::Refused(format!(
            "AppBinding {home}/{} is not found: create it, or change the target",
            target.name
        )));
    };
    if home != namespace
        && let Err(why) = may_reach(ctx, namespace, home, service_account).await?
    {
        return Ok(Prepared::Refused(why));
    }
    let secrets = secrets(ctx, &binding, home, namespace).await?;
    let redis = match connection::connect(&binding, home, &secrets) {
        Ok(redis) => redis,
        Err(why) => return Ok(Prepared::Refused(why)),
    };
    let (task, params) = match variables::task(task, &binding, which) {
        Ok(task) => task,
        Err(why) => return Ok(Prepared::Refused(why)),
    };
    let wait = params.get("waitTimeout").map_or(Ok(WAIT_TIMEOUT_SECONDS), |text| text.parse());
    let Ok(wait_timeout_seconds) = wait else {
        return Ok(Prepared::Refused(
            "task parameter waitTimeout is no number of seconds".to_owned(),
        ));
    };
    let mut inputs: HashMap<String, String> = variables.into_iter().collect();
    // It has its effect here, whether or not the Task passes it on.
    inputs.extend(
        params.get_key_value("waitTimeout").map(|(name, value)| (name.clone(), value.clone())),
    );
    let params = params.into_iter().collect();
    let mut request = tonic::Request::new(ResolveRequest { task: task.clone(), params, inputs });
    request.set_timeout(RESOLVE_LIMIT);
    let resolved = match ctx.catalog.clone().resolve(request).await {
        Ok(resolved) => resolved.into_inner(),
        Err(status) => {
            let why = fault::describe(&status);
            return Ok(match fault::class_of(&status) {
                Class::Unavailable
                | Class::DeadlineExceeded
                | Class::Exhausted
                | Class::Cancelled => {
                    Prepared::NotYet(format!("the catalog does not answer: {why}"))
                }
                _ => Prepared::Refused(why),
            });
        }
    };
    let containers: Result<Vec<Container>, _> =
        resolved.steps.iter().map(|step| serde_json::from_str(&step.container)).collect();
    let volumes: Result<Vec<Volume>, _> =
        resolved.volumes.iter().map(|volume| serde_json::from_str(volume)).collect();
    Ok(match (containers, volumes) {
        (Ok(containers), Ok(_)) if containers.is_empty() => {
            Prepared::Refused(format!("Task {task} has no step that does anything"))
        }
        (Ok(containers), Ok(volumes)) => Prepared::Ready(Box::new(Preparation {
            app_type: binding.spec.kind.clone(),
            redis,
            containers,
            volumes,
            wait_timeout_seconds,
        })),
        (Err(error), _) | (_, Err(error)) => {
            Prepared::Refused(format!("Task {task} gives no valid pod: {error}"))
        }
    })
}

async fn secrets(
    ctx: &Context,
    binding: &AppBinding,
    home: &str,
    namespace: &str,
) -> Result<Secrets, Error> {
    let data = |secret: Secret| secret.data.unwrap_or_default();
    let mut own: BTreeMap<String, BTreeMap<String, ByteString>> = BTreeMap::new();
    for name in connection::names(binding) {
        if let Some(secret) = get::<Secret>(ctx, home, name).await? {
            own.insert(name.to_owned(), data(secret));
        }
    }
    let mut certificate = None;
    if let Some(name) = binding.client_certificate_secret() {
        certificate = get::<Secret>(ctx, home, name).await?;
        // The original looks only here, in the invoker's namespace.
        if certificate.is_none() && namespace != home {
            certificate = get::<Secret>(ctx, namespace, name).await?;
        }
    }
    Ok(Secrets { own, certificate: certificate.map(data) })
}

/// Whether an invoker may use an AppBinding of another namespace: as in the original, an administrator gives rights there
/// to a ServiceAccount, and the invoker names it. Without this, whoever may write a BackupConfiguration anywhere could
/// read every Redis of the cluster.
async fn may_reach(
    ctx: &Context,
    namespace: &str,
    home: &str,
    service_account: Option<&str>,
) -> Result<Result<(), String>, Error> {
    let remedy = format!(
        "name in runtimeSettings.pod.serviceAccountName a ServiceAccount of {namespace} that may get secrets and appbindings in {home}"
    );
    let Some(account) = service_account.filter(|name| !name.is_empty()) else {
        return Ok(Err(format!("the target is in namespace {home}, not {namespace}: {remedy}")));
    };
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let api: Api<SubjectAccessReview> = Api::all(ctx.client.clone());
    for (group, resource) in [("", "secrets"), ("appcatalog.appscode.com", "appbindings")] {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.clone()),
                groups: Some(vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".to_owned(),
                ]),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some("get".to_owned()),
                    namespace: Some(home.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = match api.create(&PostParams::default(), &review).await {
            Ok(answer) => answer,
            Err(error) => {
                return Ok(Err(format!("ask what {user} may do: {}", describe(&error))));
            }
        };
        if !answer.status.is_some_and(|status| status.allowed) {
            return Ok(Err(format!("{user} may not get {resource} in namespace {home}: {remedy}")));
        }
    }
    Ok(Ok(()))
}

/// An object as it is now, wherever it lives; none when it is gone.
pub async fn refresh<K>(ctx: &Context, object: &K) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let url = K::url_path(&(), object.namespace().as_deref());
    let request = kube::core::Request::new(url)
        .get(&object.name_any(), &kube::api::GetParams::default())
        .map_err(|error| {
            Error::cluster(format!("read {}", K::kind(&())))(kube::Error::BuildRequest(error))
        })?;
    let act = || {
        let namespace = object.namespace().unwrap_or_default();
        format!("read {} {namespace}/{}", K::kind(&()), object.name_any())
    };
    match ctx.client.request::<K>(request).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Error::cluster(act())(error)),
    }
}
