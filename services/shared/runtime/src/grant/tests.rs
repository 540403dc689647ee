//! A grant opens its own door and no other.

use super::*;
use chrono::TimeDelta;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn grant() -> Grant {
    Grant {
        session: SessionRef {
            kind: "RestoreSession".to_owned(),
            namespace: "demo".to_owned(),
            name: "r-1".to_owned(),
        },
        repository: RepositoryRef { namespace: "demo".to_owned(), name: "repo".to_owned() },
        operation: Operation::Restore,
        snapshot: Some("latest".to_owned()),
        issued: now(),
        expires: now() + TimeDelta::hours(1),
    }
}

fn verifier(signer: &Signer) -> Verifier {
    Verifier::from_pem(signer.public_key()).unwrap()
}

#[test]
fn what_is_signed_is_what_is_verified() {
    let signer = Signer::generate().unwrap();
    let token = signer.sign(&grant()).unwrap();
    assert!(is_grant(token.reveal()));
    assert_eq!(verifier(&signer).verify(token.reveal(), now()).unwrap(), grant());
}

#[test]
fn an_expired_grant_is_refused_by_the_given_clock() {
    let signer = Signer::generate().unwrap();
    let token = signer.sign(&grant()).unwrap();
    let refused = verifier(&signer).verify(token.reveal(), grant().expires).unwrap_err();
    assert!(
        refused.to_string().starts_with("the session grant of RestoreSession demo/r-1 expired at"),
        "{refused}"
    );
}

#[test]
fn a_foreign_or_altered_grant_is_refused() {
    let (ours, foreign) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let token = foreign.sign(&grant()).unwrap();
    let refused = verifier(&ours).verify(token.reveal(), now()).unwrap_err();
    assert!(matches!(refused, Refused::Invalid(_)));

    let token = ours.sign(&grant()).unwrap();
    let mut other = grant();
    other.repository.name = "another".to_owned();
    let other = ours.sign(&other).unwrap();
    let (mut parts, stolen): (Vec<_>, Vec<_>) =
        (other.reveal().split('.').collect(), token.reveal().split('.').collect());
    parts[2] = stolen[2];
    assert!(verifier(&ours).verify(&parts.join("."), now()).is_err());
    assert!(verifier(&ours).verify("nonsense", now()).is_err());
}

#[test]
fn a_token_for_somebody_else_is_refused_though_we_signed_it() {
    let signer = Signer::generate().unwrap();
    let claims = serde_json::json!({
        "iss": ISSUER, "aud": "another", "sub": "x", "exp": grant().expires.timestamp(),
        "session": grant().session, "repository": grant().repository, "operation": "restore",
    });
    let header = Header::new(Algorithm::EdDSA);
    let token = jsonwebtoken::encode(&header, &claims, &signer.key).unwrap();
    assert!(verifier(&signer).verify(&token, now()).is_err());
}

#[test]
fn a_grant_of_an_earlier_version_opens_what_it_names() {
    let signer = Signer::generate().unwrap();
    let claims = serde_json::json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": grant().expires.timestamp(),
        "session": grant().session, "repository": grant().repository, "operation": "restore",
        "snapshot": "latest",
    });
    let header = Header::new(Algorithm::EdDSA);
    let token = jsonwebtoken::encode(&header, &claims, &signer.key).unwrap();
    let read = verifier(&signer).verify(&token, now()).unwrap();
    assert_eq!(read, Grant { issued: DateTime::<Utc>::MAX_UTC, ..grant() });
}

#[test]
fn two_keys_verify_while_one_is_being_replaced() {
    let (old, new) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let both = Verifier::from_pem(&format!("{}{}", old.public_key(), new.public_key())).unwrap();
    for signer in [old, new] {
        both.verify(signer.sign(&grant()).unwrap().reveal(), now()).unwrap();
    }
    assert!(matches!(Verifier::from_pem("nothing"), Err(KeyError::NoPublicKey)));
}

#[test]
fn the_key_file_is_made_once_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("grant.key");
    let first = Signer::load_or_create(&path).unwrap();
    let again = Signer::load_or_create(&path).unwrap();
    assert_eq!(first.public_key(), again.public_key());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "no key").unwrap();
    assert!(matches!(Signer::load_or_create(&path), Err(KeyError::ParsePrivate(_))));
}

#[test]
fn opens_only_its_own_session_repository_operation_and_snapshot() {
    let grant = grant();
    let other = RepositoryRef { namespace: "prod".to_owned(), ..grant.repository.clone() };
    grant.covers(&grant.repository, Operation::Restore).unwrap();
    let error = grant.covers(&grant.repository, Operation::Backup).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the session grant of RestoreSession demo/r-1 is for restore of Repository demo/repo, \
         not for backup of Repository demo/repo"
    );
    grant.covers(&other, Operation::Restore).unwrap_err();
    grant.covers_session(&grant.session).unwrap();
    let other = SessionRef { name: "r-2".to_owned(), ..grant.session.clone() };
    grant.covers_session(&other).unwrap_err();
}

#[test]
fn a_snapshot_goes_by_the_name_granted_or_by_its_id() {
    let id = "0123abcd".repeat(8);
    let for_snapshot =
        |granted: Option<&str>| Grant { snapshot: granted.map(str::to_owned), ..grant() };
    for (granted, asked, condition) in [
        (None, "latest", None),
        (None, "0123abcd", None),
        (Some("latest"), "latest", None),
        (Some("0123"), "0123", None),
        (Some("0123"), &id, None),
        (Some("latest"), &id, Some(now())),
    ] {
        let covered = for_snapshot(granted).covers_snapshot(asked);
        assert_eq!(covered, Ok(condition), "{granted:?} {asked}");
    }
    for (granted, asked) in [
        ("latest", "0123abcd"),
        ("latest", "latest2"),
        ("0123", "latest"),
        ("0123", "01"),
        ("0123", "01234"),
        ("4567", &id),
    ] {
        for_snapshot(Some(granted)).covers_snapshot(asked).unwrap_err();
    }
}
