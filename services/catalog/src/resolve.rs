//! Task, Functions, parameters and inputs to the containers of a pod. Pure: whoever calls has read the objects.
//!
//! Values, from the weakest to the strongest: the default in the Function, the parameters of the Task's step, the inputs
//! (what the orchestrator knows of the session), the parameters that the user gives, and last `ADDON_IMAGE`, the
//! Function's own image. So a user may override an input, such as `HOSTNAME`; a Task's author may not.
//!
//! A parameter of the user that no string of the Task and its Functions refers to is refused: it is misspelt, or meant for
//! another Function, and without it the session would do something else than was asked for.

mod container;

use coffer_api::fields;
use coffer_api::function::FunctionSpec;
use coffer_api::task::{FunctionRef, TaskSpec};
use coffer_api::template::Variables;
use coffer_runtime::fault::{Class, Fault};
use k8s_openapi::api::core::v1::{Container, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The step that writes status in the Tasks of Stash. The orchestrator does that work, so it gets no container.
pub const STATUS_FUNCTION: &str = "update-status";
/// The variable that holds a Function's own image.
const ADDON_IMAGE: &str = "ADDON_IMAGE";

/// What is to be resolved.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Name of the Task.
    pub task: String,
    /// The user's parameters.
    pub params: Variables,
    /// What the orchestrator knows.
    pub inputs: Variables,
}

/// A Task with nothing left open.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The containers, in order.
    pub steps: Vec<Step>,
    /// The volumes that they mount.
    pub volumes: Vec<Volume>,
}

/// A step that runs as a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Name of the Function.
    pub function: String,
    /// Position in the Task, from 0, the status step counted.
    pub index: usize,
    /// The container.
    pub container: Container,
}

/// A Task cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such Task.
    #[error(
        "task {task:?} does not exist; kubectl get tasks lists them, and deploy/catalog holds those of this version"
    )]
    UnknownTask {
        /// The name.
        task: String,
    },
    /// No name was given.
    #[error(
        "no task is named: neither the invoker nor the AppBinding (spec.parameters.stash.addon) names one"
    )]
    NoTask,
    /// A step names a Function that does not exist.
    #[error(
        "function {function:?}, step {step} of task {task:?}, does not exist; kubectl get functions lists them"
    )]
    UnknownFunction {
        /// The name.
        function: String,
        /// The Task.
        task: String,
        /// Position in it, from 0.
        step: usize,
    },
    /// Something in the Task cannot be expanded.
    #[error("expand task {task:?}")]
    Task {
        /// The Task.
        task: String,
        /// What.
        #[source]
        source: Box<fields::Error>,
    },
    /// Something in the Function cannot be expanded.
    #[error("expand function {function:?}, step {step} of task {task:?}")]
    Function {
        /// The Function.
        function: String,
        /// The Task.
        task: String,
        /// Position in it, from 0.
        step: usize,
        /// What.
        #[source]
        source: Box<fields::Error>,
    },
    /// A Function without an image.
    #[error("function {function:?}, step {step} of task {task:?}, has no spec.image")]
    NoImage {
        /// The Function.
        function: String,
        /// The Task.
        task: String,
        /// Position in it, from 0.
        step: usize,
    },
    /// Parameters of the user that nothing refers to.
    #[error(
        "task {task:?} knows no param {}: neither the task nor its functions refer to it, so it would have no effect; {}",
        unknown.join(", "),
        if known.is_empty() { "they take none".to_owned() } else { format!("known are {}", known.join(", ")) }
    )]
    UnknownParams {
        /// The Task.
        task: String,
        /// Their names.
        unknown: Vec<String>,
        /// What a user may set.
        known: Vec<String>,
    },
    /// Nothing would run.
    #[error("task {task:?} has no step that runs a container")]
    NoSteps {
        /// The Task.
        task: String,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::UnknownTask { .. } | Self::UnknownFunction { .. } => Class::NotFound,
            Self::NoTask
            | Self::Task { .. }
            | Self::Function { .. }
            | Self::NoImage { .. }
            | Self::UnknownParams { .. }
            | Self::NoSteps { .. } => Class::Invalid,
        }
    }
}

/// A Task with its own strings expanded; what it needs is known, its Functions are not read yet.
#[derive(Debug)]
pub struct Expanded {
    request: Request,
    steps: Vec<FunctionRef>,
    volumes: Vec<Volume>,
    /// The variables that the Task's own strings refer to.
    names: BTreeSet<String>,
}

/// The first half: the Task's own strings, names of Functions among them.
///
/// # Errors
/// When one of them cannot be expanded.
pub fn expand_task(request: Request, task: &TaskSpec) -> Result<Expanded, Error> {
    let values = layered([&request.inputs, &request.params]);
    let names = fields::names(task);
    let task = fields::expand(task, "spec", &values)
        .map_err(|source| Error::Task { task: request.task.clone(), source: Box::new(source) })?;
    let TaskSpec { steps, volumes } = task;
    Ok(Expanded { request, steps, volumes, names })
}

impl Expanded {
    /// The Functions to read, each once.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        let mut names: Vec<_> = self.steps.iter().map(|step| step.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The second half: the containers.
    ///
    /// # Errors
    /// When a Function does not exist, one of its strings cannot be expanded, or nothing would run.
    pub fn resolve(
        self,
        functions: &BTreeMap<String, Arc<FunctionSpec>>,
    ) -> Result<Resolved, Error> {
        let Self { request, steps, volumes, mut names } = self;
        let task = &request.task;
        let mut resolved = Vec::with_capacity(steps.len());
        for (index, step) in steps.into_iter().enumerate() {
            let FunctionRef { name: function, params } = step;
            let subject = || (function.clone(), task.clone(), index);
            let Some(spec) = functions.get(&function) else {
                let (function, task, step) = subject();
                return Err(Error::UnknownFunction { function, task, step });
            };
            names.extend(fields::names(&**spec));
            let params = params.into_iter().map(|param| (param.name, param.value)).collect();
            let mut values = layered([&params, &request.inputs, &request.params]);
            let spec = expand_function(spec, &mut values).map_err(|source| {
                let (function, task, step) = subject();
                Error::Function { function, task, step, source: Box::new(source) }
            })?;
            // Expanded like the others, so that what it misses is found before anything runs.
            if function == STATUS_FUNCTION {
                continue;
            }
            if spec.image.is_empty() {
                let (function, task, step) = subject();
                return Err(Error::NoImage { function, task, step });
            }
            let container = container::build(coffer_api::names::container(&function, index), spec);
            resolved.push(Step { function, index, container });
        }
        if resolved.is_empty() {
            return Err(Error::NoSteps { task: task.clone() });
        }
        refuse_unknown_params(&request, &names)?;
        Ok(Resolved { steps: resolved, volumes })
    }
}

/// An input that the orchestrator gives may be set by a user whether or not this Task looks at it.
fn refuse_unknown_params(request: &Request, names: &BTreeSet<String>) -> Result<(), Error> {
    let Request { task, params, inputs } = request;
    let unknown: Vec<String> = params
        .keys()
        .filter(|name| !names.contains(*name) && !inputs.contains_key(*name))
        .cloned()
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let known = names.iter().filter(|name| *name != ADDON_IMAGE && !inputs.contains_key(*name));
    Err(Error::UnknownParams { task: task.clone(), unknown, known: known.cloned().collect() })
}

fn expand_function(
    function: &FunctionSpec,
    values: &mut Variables,
) -> Result<FunctionSpec, fields::Error> {
    let image = fields::expand(&function.image, "spec.image", values)?;
    values.insert(ADDON_IMAGE.to_owned(), image.clone());
    let mut expanded =
        fields::expand(&FunctionSpec { image: String::new(), ..function.clone() }, "spec", values)?;
    expanded.image = image;
    Ok(expanded)
}

/// One set of values out of several, later ones over earlier ones.
fn layered<const N: usize>(layers: [&Variables; N]) -> Variables {
    layers.into_iter().flat_map(|layer| layer.clone()).collect()
}

#[cfg(test)]
mod tests;
