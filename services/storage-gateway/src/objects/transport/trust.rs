//! Whom a Repository with certificates of its own trusts: whoever the system does, whoever their bearers vouch for, and, as
//! Go and so restic do, the bearer of one of them himself.
//!
//! `object_store`'s own client takes certificates for authorities only, and webpki refuses an authority's certificate from
//! a server: but that is what `openssl req -x509` makes, and what many a server behind `CA_CERT_DATA` shows.

use object_store::client::HttpClient;
use object_store::{ClientConfigKey, ClientOptions};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::sync::Arc;

/// The client that `options` describe, with this trust.
pub(super) fn client(
    options: &ClientOptions,
    given: &[CertificateDer<'static>],
) -> object_store::Result<HttpClient> {
    let value = |key| options.get_config_value(&key);
    let limit = |key| value(key).and_then(|text| humantime::parse_duration(&text).ok());
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(given).map_err(failed)?)
        .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
        .https_only(value(ClientConfigKey::AllowHttp).is_none_or(|allow| allow != "true"));
    if let Some(limit) = limit(ClientConfigKey::Timeout) {
        builder = builder.timeout(limit);
    }
    if let Some(limit) = limit(ClientConfigKey::ConnectTimeout) {
        builder = builder.connect_timeout(limit);
    }
    if let Some(limit) = limit(ClientConfigKey::ReadTimeout) {
        builder = builder.read_timeout(limit);
    }
    Ok(HttpClient::new(builder.build().map_err(failed)?))
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "HTTP client", source: Box::new(source) }
}

fn tls(given: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in given {
        roots.add(certificate.clone())?;
    }
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let verifier = Arc::new(OrItself { usual, given: given.to_vec() });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// The usual verifier; but a server whose certificate is itself among the given ones needs nobody to vouch for it.
#[derive(Debug)]
struct OrItself {
    usual: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrItself {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = &self.usual;
        match usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(error))
                if is_about_its_issuer(&error) && self.given.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// What webpki says only after it has found the certificate within its time: whether it is an authority's is looked at
/// next, and then who has issued it.
fn is_about_its_issuer(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        CertificateError::Other(other) => {
            let cause = other.0.downcast_ref();
            matches!(cause, Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    fn params(name: &str, is_ca: bool) -> CertificateParams {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    fn self_signed(params: &CertificateParams) -> CertificateDer<'static> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    fn verify(
        given: &[CertificateDer<'static>],
        shown: &CertificateDer<'static>,
    ) -> Result<(), String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(given.iter().cloned());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = OrItself { usual: usual.build().unwrap(), given: given.to_vec() };
        let name = ServerName::try_from("minio.demo").unwrap();
        let answer = verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now());
        answer.map(|_| ()).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_certificate_that_is_given_is_trusted_itself_for_its_names_and_its_time() {
        let authority = params("ca", true);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&authority, &key);
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = params("minio.demo", false).signed_by(&leaf_key, &issuer).unwrap();
        let leaf: CertificateDer<'static> = leaf.into();
        let other = self_signed(&params("minio.demo", true));
        for shown in [
            self_signed(&params("minio.demo", true)),
            self_signed(&params("minio.demo", false)),
            // Signed by an authority that nobody knows.
            leaf,
        ] {
            assert_eq!(verify(&[other.clone(), shown.clone()], &shown), Ok(()));
            verify(std::slice::from_ref(&other), &shown).unwrap_err();
        }
        let elsewhere = self_signed(&params("minio.other", true));
        let refused = verify(std::slice::from_ref(&elsewhere), &elsewhere).unwrap_err();
        assert!(refused.contains("NotValidForName"), "{refused}");
        for is_ca in [true, false] {
            let mut expired = params("minio.demo", is_ca);
            expired.not_after = date_time_ymd(2001, 1, 1);
            let expired = self_signed(&expired);
            let refused = verify(std::slice::from_ref(&expired), &expired).unwrap_err();
            assert!(refused.contains("Expired"), "{refused}");
        }
    }
}
