//! Where the services are, as the cluster names them: ConfigMap `coffer-system/coffer-endpoints`.
use k8s_openapi::api::core::v1::ConfigMap;

/// Namespace of the ConfigMap.
pub const NAMESPACE: &str = "coffer-system";
/// Its name.
pub const NAME: &str = "coffer-endpoints";

/// Endpoints, and whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// `https://host:port` of Sessions.
    pub orchestrator: String,
    /// `https://host:port` of Repositories.
    pub storage_gateway: String,
    /// PEM of the CA that certifies them.
    pub ca: String,
}

/// The ConfigMap is there, but not as it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key is missing or empty.
    #[error("ConfigMap {NAMESPACE}/{NAME} has no {0:?}")]
    Missing(&'static str),
    /// Not an endpoint.
    #[error("ConfigMap {NAMESPACE}/{NAME}: {key:?} is {value:?}, not https://host:port")]
    NotAnEndpoint {
        /// Which key.
        key: &'static str,
        /// What it says.
        value: String,
    },
    /// Not PEM.
    #[error("ConfigMap {NAMESPACE}/{NAME}: \"ca.crt\" is not a certificate in PEM")]
    NotACertificate,
}

impl TryFrom<&ConfigMap> for Endpoints {
    type Error = Error;

    fn try_from(map: &ConfigMap) -> Result<Self, Error> {
        let value = |key: &'static str| {
            let value = map.data.as_ref().and_then(|data| data.get(key)).map(|value| value.trim());
            value.filter(|value| !value.is_empty()).ok_or(Error::Missing(key))
        };
        let endpoint = |key| {
            let value = value(key)?;
            let uri = value.parse::<http::Uri>().ok();
            let fits = uri.is_some_and(|uri| {
                uri.scheme_str() == Some("https") && uri.port().is_some() && uri.path() == "/"
            });
            if !fits {
                return Err(Error::NotAnEndpoint { key, value: value.to_owned() });
            }
            Ok(value.to_owned())
        };
        let ca = value("ca.crt")?;
        if !ca.contains("-----BEGIN CERTIFICATE-----") {
            return Err(Error::NotACertificate);
        }
        Ok(Self {
            orchestrator: endpoint("orchestrator")?,
            storage_gateway: endpoint("storage-gateway")?,
            ca: ca.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ConfigMap { data: Some(data.collect()), ..ConfigMap::default() }
    }

    const CA: &str = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";

    #[test]
    fn endpoints() {
        let full = [
            ("orchestrator", "https://127.0.0.1:7441\n"),
            ("storage-gateway", "https://[::1]:7442"),
            ("metrics-gateway", "https://127.0.0.1:7444"),
            ("ca.crt", CA),
        ];
        let endpoints = Endpoints::try_from(&map(&full)).unwrap();
        assert_eq!(endpoints.orchestrator, "https://127.0.0.1:7441");
        assert_eq!(endpoints.storage_gateway, "https://[::1]:7442");
        assert_eq!(endpoints.ca, CA.trim());

        assert_eq!(Endpoints::try_from(&ConfigMap::default()), Err(Error::Missing("ca.crt")));
        for gone in 0..full.len() {
            let mut rest = full.to_vec();
            let (key, _) = rest.remove(gone);
            let result = Endpoints::try_from(&map(&rest));
            assert_eq!(result.is_err(), key != "metrics-gateway", "{key}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_named() {
        for value in
            ["http://127.0.0.1:1", "127.0.0.1:7441", "https://host", "https://host:1/x", "x y"]
        {
            let pairs =
                [("orchestrator", value), ("storage-gateway", "https://a:1"), ("ca.crt", CA)];
            let error = Endpoints::try_from(&map(&pairs)).unwrap_err();
            assert_eq!(
                error,
                Error::NotAnEndpoint { key: "orchestrator", value: value.to_owned() }
            );
        }
        let pairs =
            [("orchestrator", "https://a:1"), ("storage-gateway", "https://a:1"), ("ca.crt", "x")];
        assert_eq!(Endpoints::try_from(&map(&pairs)), Err(Error::NotACertificate));
    }
}
