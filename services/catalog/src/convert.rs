//! Between the contract and the domain.

use crate::resolve::{Request, Resolved, Step};
use coffer_api::Task;
use coffer_proto::catalog::v1;
use coffer_runtime::fault::{Class, Fault};
use serde::Serialize;

/// A resolved object cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("write a {kind} as JSON")]
pub struct Unwritable {
    kind: &'static str,
    #[source]
    source: serde_json::Error,
}

impl Fault for Unwritable {
    fn class(&self) -> Class {
        Class::Internal
    }
}

impl From<v1::ResolveRequest> for Request {
    fn from(request: v1::ResolveRequest) -> Self {
        let v1::ResolveRequest { task, params, inputs } = request;
        Self { task, params: params.into_iter().collect(), inputs: inputs.into_iter().collect() }
    }
}

impl TryFrom<Resolved> for v1::ResolveResponse {
    type Error = Unwritable;

    fn try_from(resolved: Resolved) -> Result<Self, Unwritable> {
        let Resolved { steps, volumes } = resolved;
        let steps = steps.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let volumes =
            volumes.iter().map(|volume| json("volume", volume)).collect::<Result<_, _>>()?;
        Ok(Self { steps, volumes })
    }
}

impl TryFrom<Step> for v1::Step {
    type Error = Unwritable;

    fn try_from(step: Step) -> Result<Self, Unwritable> {
        let Step { function, index, container } = step;
        // An object has at most 1.5 MB, so its steps are far from 2³².
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Ok(Self { function, index, container: json("container", &container)? })
    }
}

/// The Task as the contract lists it.
pub(crate) fn task(task: &Task) -> v1::Task {
    v1::Task {
        name: task.metadata.name.clone().unwrap_or_default(),
        functions: task.spec.steps.iter().map(|step| step.name.clone()).collect(),
    }
}

fn json(kind: &'static str, object: &impl Serialize) -> Result<String, Unwritable> {
    serde_json::to_string(object).map_err(|source| Unwritable { kind, source })
}
