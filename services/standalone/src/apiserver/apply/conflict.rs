//! How a conflict is told.

use serde_json::{Value, json};

use super::{fields::FieldSet, managed::Key};

/// One field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The other manager as it is shown: `"kubectl-client-side-apply" using stash.appscode.com/v1beta1`.
    pub manager: String,
    /// The field: `.spec.schedule`.
    pub field: String,
}

/// One entry a field, by manager.
pub(super) fn list(conflicts: &[(Key, FieldSet)]) -> Vec<Conflict> {
    let mut list: Vec<Conflict> = conflicts
        .iter()
        .flat_map(|(key, set)| {
            set.paths().into_iter().map(|field| Conflict { manager: key.to_string(), field })
        })
        .collect();
    list.sort();
    list
}

pub(super) fn message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager, one.field
        );
    }
    let mut lines = Vec::new();
    let mut manager = "";
    for conflict in conflicts {
        if conflict.manager != manager {
            manager = &conflict.manager;
            lines.push(format!("conflicts with {manager}:"));
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

pub(super) fn status(conflicts: &[Conflict]) -> Value {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|c| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", c.manager),
                "field": c.field,
            })
        })
        .collect();
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message(conflicts), "reason": "Conflict",
        "details": {"causes": causes}, "code": 409,
    })
}
