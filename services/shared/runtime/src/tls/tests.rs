//! Real handshakes between real configurations.

use super::*;
use crate::authority::Authority;
use crate::fault::chain;
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Shakes hands over a pipe; yields the certificates that the server saw.
async fn shake(server: &TlsOptions, client: &TlsOptions) -> Result<usize, String> {
    let acceptor = TlsAcceptor::from(server.server().unwrap().current());
    let connector = TlsConnector::from(client.client().unwrap().current());
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = async {
        use tokio::io::AsyncReadExt as _;
        let mut stream = connector.connect(name, near).await?;
        // In TLS 1.3 a refused client certificate shows only on the first read.
        stream.read_u8().await
    };
    let server = async {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = acceptor.accept(far).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len))
    };
    let (client, server) = tokio::join!(client, server);
    client.map_err(|error| chain(&error))?;
    server.map_err(|error| chain(&error))
}

#[tokio::test]
async fn a_shown_certificate_is_verified_and_none_is_fine() {
    let authority = Authority::generate().unwrap();
    let server = authority.options("catalog", &["127.0.0.1"]).unwrap();
    assert_eq!(shake(&server, &authority.client_options()).await, Ok(0));
    let client = authority.options("orchestrator", &[]).unwrap();
    assert_eq!(shake(&server, &client).await, Ok(1));
}

#[tokio::test]
async fn a_foreign_authority_is_refused_by_both_sides() {
    let (ours, foreign) = (Authority::generate().unwrap(), Authority::generate().unwrap());
    let server = ours.options("catalog", &["127.0.0.1"]).unwrap();
    let error = shake(&server, &foreign.client_options()).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");

    let impostor = TlsOptions::new(
        Some(foreign.issue("orchestrator", &[]).unwrap()),
        Some(ours.certificate().to_owned()),
    );
    assert!(shake(&server, &impostor).await.is_err());
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::generate().unwrap();
    let server = authority.options("catalog", &["elsewhere.example"]).unwrap();
    let error = shake(&server, &authority.client_options()).await.unwrap_err();
    assert!(error.contains("127.0.0.1") || error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_a_broken_renewal_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, ca) =
        (dir.path().join("tls.crt"), dir.path().join("tls.key"), dir.path().join("ca.crt"));
    let write = |authority: &Authority| {
        let identity = authority.issue("catalog", &["127.0.0.1"]).unwrap();
        std::fs::write(&cert, &identity.certificates).unwrap();
        std::fs::write(&key, identity.key.reveal()).unwrap();
        std::fs::write(&ca, authority.certificate()).unwrap();
    };
    let (old, new) = (Authority::generate().unwrap(), Authority::generate().unwrap());
    write(&old);
    let options = TlsOptions::from_files(Some((cert.clone(), key.clone())), Some(ca.clone()));
    let server = options.server().unwrap();
    let first = server.current();
    assert!(Arc::ptr_eq(&first, &server.current()));

    std::fs::write(&cert, "half a certificate").unwrap();
    assert!(Arc::ptr_eq(&first, &server.current()));
    write(&new);
    assert!(!Arc::ptr_eq(&first, &server.current()));
}

#[test]
fn says_what_is_unusable() {
    let identity = |certificates: &str, key: &str| Identity {
        certificates: certificates.to_owned(),
        key: Secret::new(key),
    };
    let good = Authority::generate().unwrap().issue("x", &[]).unwrap();
    let other = Authority::generate().unwrap().issue("x", &[]).unwrap();
    let server = |identity| match TlsOptions::new(identity, None).server() {
        Ok(_) => String::new(),
        Err(error) => chain(&error),
    };
    assert!(server(None).contains("needs a certificate"));
    assert!(server(Some(identity("", good.key.reveal()))).contains("no valid PEM certificate"));
    assert!(server(Some(identity(&good.certificates, "x"))).contains("no valid PEM private key"));
    let mixed = server(Some(identity(&good.certificates, other.key.reveal())));
    assert!(mixed.starts_with("use the TLS certificate and its key: "), "{mixed}");
    let missing = TlsOptions::from_files(None, Some("/does/not/exist".into())).client();
    let error = missing.err().map(|error| chain(&error)).unwrap();
    assert!(error.starts_with("read /does/not/exist: "), "{error}");
    assert!(matches!(TlsOptions::new(None, None).client(), Err(Error::NoAuthority)));
}
