//! The certificates of `CA_CERT_DATA`.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Parses PEM; each certificate has to be usable as a CA's.
///
/// # Errors
/// What is wrong, without a word of the text.
pub(super) fn parse(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|_| "it is damaged PEM".to_owned())?;
    if certificates.is_empty() {
        return Err("it holds no PEM certificate".to_owned());
    }
    for (n, certificate) in certificates.iter().enumerate() {
        webpki::anchor_from_trusted_cert(certificate).map_err(|_| {
            format!("number {} of its PEM blocks holds no certificate that can be read", n + 1)
        })?;
    }
    Ok(certificates)
}
