//! The machine's own identity, for Repositories whose Secret holds no credentials: what the platform has put into the
//! environment of this process (IAM roles for service accounts, EKS Pod Identity, Entra workload identity, a mounted
//! credentials file of Google). Where it has put nothing, the clients ask the metadata service of their cloud.
//!
//! It is the identity of the gateway, whichever namespace the Repository is in.

/// The variables that count, by the names their clouds have given them.
pub const VARIABLES: [&str; 13] = [
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AWS_METADATA_ENDPOINT",
];

/// Variables of a cloud's workload identity, with their values: names of roles and files, no secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine(Vec<(&'static str, String)>);

impl Machine {
    /// Takes the variables that count from wherever `look_up` finds them.
    pub fn read(look_up: impl Fn(&str) -> Option<String>) -> Self {
        let found = VARIABLES.into_iter().filter_map(|name| {
            let value = look_up(name).filter(|value| !value.is_empty())?;
            Some((name, value))
        });
        Self(found.collect())
    }

    /// The variables of one cloud, by the beginning of their names.
    pub(super) fn of(&self, cloud: &str) -> impl Iterator<Item = (&'static str, &str)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(cloud))
            .map(|(name, value)| (*name, value.as_str()))
    }
}
