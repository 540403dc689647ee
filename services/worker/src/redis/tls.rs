//! TLS to a Redis: which certificates are believed, and what a failed handshake means to a user.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use coffer_api::session::RedisTls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Error;

/// What a handshake needs.
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl Tls {
    /// Reads certificates and key. `host` is the name in the server's certificate unless another is given.
    pub(crate) fn new(tls: &RedisTls, host: &str) -> Result<Self, Error> {
        let RedisTls { ca, certificate, key, server_name, also_named, insecure_skip_verify } = tls;
        let explicit = server_name.as_deref().filter(|name| !name.is_empty());
        let also_named = also_named.as_deref().filter(|_| explicit.is_none());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| material(format!("protocol versions: {error}")))?;
        let builder = if *insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else {
            let roots = Arc::new(roots(ca.as_deref())?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|error| material(format!("the CA bundle: {error}")))?;
            let also = also_named.map(name_of).transpose()?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Named { verifier, also }))
        };
        let config = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate, "the client certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes())
                    .map_err(|error| material(format!("the client key is not PEM: {error}")))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| material(format!("the client certificate: {error}")))?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) => {
                return Err(material("the client certificate has no key".to_owned()));
            }
            (None, Some(_)) => {
                return Err(material("the client key has no certificate".to_owned()));
            }
        };
        Ok(Self { config: Arc::new(config), name: name_of(explicit.unwrap_or(host))? })
    }
}

fn name_of(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| material(format!("{name:?} is not a name that a certificate can have")))
}

fn roots(ca: Option<&str>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        let (added, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if added > 0 {
            Ok(roots)
        } else {
            Err(material("no CA is given and the system has none".to_owned()))
        };
    };
    for certificate in certificates(ca, "the CA bundle")? {
        roots.add(certificate).map_err(|error| material(format!("the CA bundle: {error}")))?;
    }
    Ok(roots)
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(material(format!("{what} holds no certificate"))),
        Err(error) => Err(material(format!("{what} is not PEM: {error}"))),
    }
}

const fn material(what: String) -> Error {
    Error::TlsMaterial { what }
}

/// What a TLS failure means. `None`: nothing special to TLS, such as a reset.
pub(crate) fn explain(address: &str, failure: io::Error) -> Option<Error> {
    let cause = failure.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())?;
    let hint = match cause {
        rustls::Error::InvalidMessage(_) => {
            return Some(Error::SpeaksPlain { address: address.to_owned() });
        }
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the server's certificate is not signed by the CA in clientConfig.caBundle"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another name; set clientConfig.serverName"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            _ => "the server's certificate is not accepted",
        },
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => {
            "the server asks for a client certificate; name its Secret in the AppBinding's spec.tlsSecret (tls-auth-clients is on)"
        }
        rustls::Error::AlertReceived(_) => {
            "the server refused the handshake or the client certificate"
        }
        _ => "the handshake failed",
    };
    Some(Error::Tls { address: address.to_owned(), hint, source: failure })
}

/// Whether a server that hung up on plain text answers a TLS greeting. Redis closes the connection without
/// a word when it expects one, and so does a proxy that has no server behind it: only asking tells.
pub(crate) async fn is_spoken_by(host: &str, port: u16, limit: Duration) -> bool {
    let greeting = async {
        let anyone = RedisTls { insecure_skip_verify: true, ..RedisTls::default() };
        let Tls { config, name } = Tls::new(&anyone, host).ok()?;
        let socket = TcpStream::connect((host, port)).await.ok()?;
        match TlsConnector::from(config).connect(name, socket).await {
            Ok(_) => Some(()),
            Err(failure) => match failure.get_ref()?.downcast_ref::<rustls::Error>()? {
                rustls::Error::InvalidMessage(_) => None,
                _ => Some(()),
            },
        }
    };
    timeout(limit, greeting).await.ok().flatten().is_some()
}

/// Believes what the CAs sign for the server's name, or for the other one that it may have.
#[derive(Debug)]
struct Named {
    verifier: Arc<WebPkiServerVerifier>,
    also: Option<ServerName<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name: &ServerName<'_>| {
            self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        verify(server_name).or_else(|failure| match &self.also {
            Some(also) => verify(also).map_err(|_| failure),
            None => Err(failure),
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Believes any certificate, as `insecureSkipTLSVerify` asks. Signatures are verified all the same.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
