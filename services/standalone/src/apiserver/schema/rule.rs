//! CEL rules of a schema (`x-kubernetes-validations`): compiled with it, evaluated on the value of their node.
//!
//! A rule that speaks of `oldSelf` is one about changes: it is not evaluated when the object is created, nor below a list,
//! whose entries have no identity. `messageExpression`, `optionalOldSelf` and the libraries that Kubernetes adds to CEL are
//! not there; a rule that needs them is refused with the definition that holds it.

use std::{collections::HashMap, fmt, sync::Arc};

use cel::{Context, Program};
use serde_json::{Map, Value};

use super::FieldError;

/// One rule.
#[derive(Clone)]
pub(crate) struct Rule {
    text: String,
    message: Option<String>,
    of_changes: bool,
    program: Arc<Program>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Rule {
    /// Compiles the rules of a node; else says which of them cannot be, and why.
    pub(crate) fn compile_all(schema: &Map<String, Value>) -> Result<Vec<Self>, String> {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        rules.into_iter().flatten().map(Self::compile).collect()
    }

    fn compile(rule: &Value) -> Result<Self, String> {
        let text = rule["rule"].as_str().unwrap_or_default().to_owned();
        let program = Program::compile(&text).map_err(|error| format!("rule {text:?}: {error}"))?;
        Ok(Self {
            of_changes: text.contains("oldSelf"),
            message: rule["message"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
            program: Arc::new(program),
            text,
        })
    }

    /// What is wrong with a value that was another one before; nothing when the rule holds.
    pub(crate) fn check(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
    ) -> Option<FieldError> {
        if self.of_changes && old.is_none() {
            return None;
        }
        let mut context = Context::default();
        context.add_variable_from_value("self", to_cel(value));
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", to_cel(old));
        }
        let detail = match self.program.execute(&context) {
            Ok(cel::Value::Bool(true)) => return None,
            Ok(cel::Value::Bool(false)) => {
                self.message.clone().unwrap_or_else(|| format!("failed rule: {}", self.text))
            }
            Ok(_) => format!("rule {:?} gives neither true nor false", self.text),
            Err(error) => format!("rule {:?} cannot be evaluated: {error}", self.text),
        };
        let shown = match value {
            Value::Object(_) => Value::from("object"),
            Value::Array(_) => Value::from("array"),
            other => other.clone(),
        };
        let path = if path.is_empty() { "<nil>" } else { path };
        Some(FieldError::invalid(path, &shown, detail))
    }
}

/// As CEL sees it: whole numbers are signed, as a schema's integers are.
fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(bool) => cel::Value::Bool(*bool),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => cel::Value::Int(integer),
            None => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(to_cel).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), to_cel(value)));
            fields.collect::<HashMap<String, cel::Value>>().into()
        }
    }
}
