//! Who makes a request.

use serde_json::{Value, json};

/// Members may do everything; nothing is looked up for them.
pub const MASTERS: &str = "system:masters";

/// An authenticated user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// `admin`, `system:serviceaccount:<namespace>:<name>`.
    pub name: String,
    /// Of a service account, the object's uid.
    pub uid: String,
    /// The groups it belongs to.
    pub groups: Vec<String>,
}

impl User {
    /// The person who started the server, and the server's own parts.
    pub fn admin() -> Self {
        let groups = vec![MASTERS.to_owned(), "system:authenticated".to_owned()];
        Self { name: "admin".to_owned(), uid: String::new(), groups }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }

    /// Namespace and name, if the user is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// `UserInfo` of the authentication API.
    pub fn info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        info
    }
}
