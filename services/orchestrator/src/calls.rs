//! Calls to the storage-gateway and the metrics-gateway. A peer that is not there for a moment is tried again; any other
//! failure is an answer, for the session's conditions.

use std::{future::Future, time::Duration};

use coffer_api::{retention::RetentionPolicy, session::Repository};
use coffer_proto::{
    metrics::v1::{Family as ProtoFamily, Mode, PushRequest, Sample, Type},
    storage::v1::{
        CheckRequest, CheckResponse, CheckSummary, ForgetRequest, ForgetResponse, KeepPolicy,
        RepositoryRef, StatsRequest, StatsResponse, WipeRequest, check_response,
    },
};
use coffer_runtime::{fault, grpc};
use tonic::{Code, Request, Status};

use crate::{context::Context, metrics::Family, policy};

/// Longest that a call without progress may take. Those with progress take as long as they go on.
const LIMIT: Duration = Duration::from_secs(3600);
/// Pauses between attempts to reach a peer that is restarting.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];

/// Applies keep rules.
pub async fn forget(
    ctx: &Context,
    repository: &Repository,
    policy: &RetentionPolicy,
) -> Result<ForgetResponse, String> {
    let request = ForgetRequest {
        repository: Some(to_proto(repository)),
        keep: Some(keep(policy)?),
        prune: policy.prune,
        dry_run: policy.dry_run,
        ..ForgetRequest::default()
    };
    attempt(ctx, || {
        let (mut storage, request) = (ctx.storage.clone(), request.clone());
        async move {
            let answers = grpc::heard(&ctx.clock, storage.forget(request)).await?.into_inner();
            let result = |answer: ForgetResponse| answer.progress.is_none().then_some(answer);
            grpc::last(&ctx.clock, answers, result).await
        }
    })
    .await
}

/// Checks a repository.
pub async fn check(ctx: &Context, repository: &Repository) -> Result<CheckSummary, String> {
    let request =
        CheckRequest { repository: Some(to_proto(repository)), ..CheckRequest::default() };
    attempt(ctx, || {
        let (mut storage, request) = (ctx.storage.clone(), request.clone());
        async move {
            let answers = grpc::heard(&ctx.clock, storage.check(request)).await?.into_inner();
            let result = |answer: CheckResponse| match answer.message? {
                check_response::Message::Summary(summary) => Some(summary),
                check_response::Message::Progress(_) => None,
            };
            grpc::last(&ctx.clock, answers, result).await
        }
    })
    .await
}

/// A repository's figures.
pub async fn stats(ctx: &Context, repository: &Repository) -> Result<StatsResponse, String> {
    let request =
        StatsRequest { repository: Some(to_proto(repository)), ..StatsRequest::default() };
    attempt(ctx, || {
        let (mut storage, request) = (ctx.storage.clone(), request.clone());
        async move {
            let answers = grpc::heard(&ctx.clock, storage.stats(request)).await?.into_inner();
            let result = |answer: StatsResponse| answer.progress.is_none().then_some(answer);
            grpc::last(&ctx.clock, answers, result).await
        }
    })
    .await
}

/// Deletes a repository's data; how many objects that were.
pub async fn wipe(ctx: &Context, repository: &Repository) -> Result<u64, String> {
    let request = WipeRequest { repository: Some(to_proto(repository)) };
    attempt(ctx, || {
        let (mut storage, request) = (ctx.storage.clone(), limited(request.clone()));
        async move { storage.wipe(request).await.map(|response| response.into_inner().objects_deleted) }
    })
    .await
}

/// Pushes series to the group of a `job`, beside what is there.
pub async fn push(ctx: &Context, group: &str, families: &[Family]) -> Result<(), String> {
    let request = PushRequest {
        grouping: [("job".to_owned(), group.to_owned())].into(),
        families: grouped(families),
        mode: Mode::Unspecified.into(),
    };
    attempt(ctx, || {
        let (mut metrics, request) = (ctx.metrics.clone(), limited(request.clone()));
        async move { metrics.push(request).await.map(|_| ()) }
    })
    .await
}

/// A family is given once, with the samples of all targets.
fn grouped(families: &[Family]) -> Vec<ProtoFamily> {
    let mut all: Vec<ProtoFamily> = vec![];
    for Family { name, help, labels, value } in families {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let sample = Sample { labels: labels.collect(), value: *value };
        match all.iter_mut().find(|family| family.name == *name) {
            Some(family) => family.samples.push(sample),
            None => all.push(ProtoFamily {
                name: name.clone(),
                help: (*help).to_owned(),
                r#type: Type::Gauge.into(),
                samples: vec![sample],
            }),
        }
    }
    all
}

/// The rules as the storage-gateway takes them, whose zero is no rule and whose largest count never runs out. A count that
/// has no place there keeps everything that its rule is about: with one rule less, what it kept would be forgotten.
fn keep(policy: &RetentionPolicy) -> Result<KeepPolicy, String> {
    // The spec may have changed since the session began.
    policy::retention(policy)?;
    let count = |n: Option<i64>| n.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
    Ok(KeepPolicy {
        last: count(policy.keep_last),
        hourly: count(policy.keep_hourly),
        daily: count(policy.keep_daily),
        weekly: count(policy.keep_weekly),
        monthly: count(policy.keep_monthly),
        yearly: count(policy.keep_yearly),
        tags: policy.keep_tags.clone(),
        ..KeepPolicy::default()
    })
}

fn to_proto(repository: &Repository) -> RepositoryRef {
    RepositoryRef {
        namespace: repository.namespace.clone(),
        name: repository.name.clone(),
        lock_wait: None,
    }
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(LIMIT);
    request
}

async fn attempt<T, F, Fut>(ctx: &Context, mut call: F) -> Result<T, String>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    let mut pauses = PAUSES.iter();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) => match pauses.next() {
                Some(pause) if status.code() == Code::Unavailable => ctx.clock.sleep(*pause).await,
                Some(_) | None => return Err(fault::describe(&status)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_without_a_place_keeps_everything() {
        for (written, sent) in [
            (None, 0),
            (Some(0), 0),
            (Some(7), 7),
            (Some(4_294_967_295), u32::MAX),
            (Some(4_294_967_296), u32::MAX),
            (Some(9_999_999_999), u32::MAX),
            (Some(i64::MAX), u32::MAX),
        ] {
            let policy = RetentionPolicy {
                keep_last: written,
                keep_hourly: written,
                keep_daily: written,
                keep_weekly: written,
                keep_monthly: written,
                keep_yearly: written,
                ..RetentionPolicy::default()
            };
            let KeepPolicy { last, hourly, daily, weekly, monthly, yearly, .. } =
                keep(&policy).unwrap();
            assert_eq!([last, hourly, daily, weekly, monthly, yearly], [sent; 6], "{written:?}");
        }
        let negative =
            RetentionPolicy { keep_last: Some(3), keep_daily: Some(-1), ..Default::default() };
        let error = keep(&negative).unwrap_err();
        assert!(error.contains("keepDaily is -1: it cannot be negative"), "{error}");
    }
}
