//! `coffer.catalog.v1.Catalog`: who may ask, what the library has, and the answer.

use crate::convert;
use crate::library::Library;
use crate::resolve::{self, Request, Resolved};
use coffer_proto::catalog::v1::catalog_server::Catalog;
use coffer_proto::catalog::v1::{
    ListTasksRequest, ListTasksResponse, ResolveRequest, ResolveResponse,
};
use coffer_runtime::auth::{Access, Gate};
use coffer_runtime::fault::{Fault, to_status};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Response, Status};

/// The service.
pub(crate) struct Server {
    pub(crate) gate: Gate,
    pub(crate) library: Library,
}

impl Server {
    async fn allow<T>(
        &self,
        request: &tonic::Request<T>,
        verb: &'static str,
        task: Option<&str>,
    ) -> Result<(), Status> {
        let caller = self.gate.caller(request).await?;
        let access = Access {
            group: "stash.appscode.com",
            resource: "tasks",
            verb,
            // Tasks belong to no namespace.
            namespace: String::new(),
            name: task.map(str::to_owned),
        };
        self.gate.authorize(&caller, &access).await
    }

    async fn resolved(&self, request: Request) -> Result<Resolved, Status> {
        if request.task.is_empty() {
            return Err(status(&resolve::Error::NoTask));
        }
        let task = self.library.task(&request.task).await.map_err(|error| status(&error))?;
        let task = task
            .ok_or_else(|| status(&resolve::Error::UnknownTask { task: request.task.clone() }))?;
        let expanded = resolve::expand_task(request, &task.spec).map_err(|error| status(&error))?;
        let mut functions = BTreeMap::new();
        for name in expanded.functions() {
            let function = self.library.function(&name).await.map_err(|error| status(&error))?;
            if let Some(function) = function {
                functions.insert(name, Arc::new(function.spec.clone()));
            }
        }
        expanded.resolve(&functions).map_err(|error| status(&error))
    }
}

fn status(fault: &impl Fault) -> Status {
    to_status(fault)
}

#[tonic::async_trait]
impl Catalog for Server {
    async fn resolve(
        &self,
        request: tonic::Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        self.allow(&request, "get", Some(&request.get_ref().task)).await?;
        let resolved = self.resolved(request.into_inner().into()).await?;
        resolved.try_into().map(Response::new).map_err(|error| status(&error))
    }

    async fn list_tasks(
        &self,
        request: tonic::Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        self.allow(&request, "list", None).await?;
        let tasks = self.library.tasks().map_err(|error| status(&error))?;
        let tasks = tasks.iter().map(|task| convert::task(task)).collect();
        Ok(Response::new(ListTasksResponse { tasks }))
    }
}
