//! The webhook's certificate as it is kept in a Secret, and when it is due. Pure, but for the making.
//!
//! Each certificate comes from an authority of its own, whose key is thrown away at once: nothing else can ever be signed
//! with it. The API server is told of the authority before and of the one now, so that a replica that still shows the old
//! certificate is believed until it has seen the new one.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, SecondsFormat, Utc};
use coffer_runtime::{
    authority::{self, Authority, Validity},
    tls::Identity,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;

/// How long a certificate is good.
const LIFE: Days = Days::new(90);
/// How long before its end it is replaced.
const MARGIN: Days = Days::new(30);
/// Clocks differ.
const SKEW: Days = Days::new(1);

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The authorities that the API server is told of, the present one first.
const AUTHORITIES: &str = "ca.crt";
const EXPIRES: &str = "expires";
const NAMES: &str = "names";
const END: &str = "-----END CERTIFICATE-----\n";

/// A certificate and who vouches for it.
#[derive(Clone, Debug)]
pub(super) struct Material {
    /// PEM.
    pub(super) identity: Identity,
    /// PEM, one after the other.
    pub(super) authorities: String,
}

/// What a Secret holds: none when it is not whole, was made for other names, or is due.
pub(super) fn current(secret: &Secret, names: &[String], now: DateTime<Utc>) -> Option<Material> {
    let text = |field: &str| text(secret, field);
    let expires: DateTime<Utc> = text(EXPIRES)?.parse().ok()?;
    let due = expires.checked_sub_days(MARGIN)?;
    (now < due && text(NAMES)? == names.join(",")).then_some(())?;
    let identity = Identity { certificates: text(CERTIFICATE)?, key: text(KEY)?.into() };
    Some(Material { identity, authorities: text(AUTHORITIES)? })
}

/// A new certificate, as a Secret that replaces the `old` one.
///
/// # Errors
/// When a name is no host name, or the system has no randomness.
pub(super) fn make(
    (namespace, name): (&str, &str),
    old: Option<&Secret>,
    names: &[String],
    now: DateTime<Utc>,
) -> Result<Secret, authority::Error> {
    let expires = now + LIFE;
    let authority = Authority::valid(Validity { from: now - SKEW, until: expires })?;
    let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
    let identity = authority.issue_plain(name, &hosts)?;
    let before = old.and_then(|old| text(old, AUTHORITIES)).unwrap_or_default();
    let before = before.split_inclusive(END).next().unwrap_or_default();
    let data = [
        (CERTIFICATE, identity.certificates),
        (KEY, identity.key.reveal().to_owned()),
        (AUTHORITIES, format!("{}{before}", authority.certificate())),
        (EXPIRES, expires.to_rfc3339_opts(SecondsFormat::Secs, true)),
        (NAMES, names.join(",")),
    ];
    let data = data.map(|(field, text)| (field.to_owned(), ByteString(text.into_bytes())));
    let labels =
        [("app.kubernetes.io/name", "coffer"), ("app.kubernetes.io/component", "orchestrator")];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from(labels)),
            // Who replaces it replaces the one that was looked at.
            resource_version: old.and_then(|old| old.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    })
}

fn text(secret: &Secret, field: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(field)?;
    String::from_utf8(bytes.0.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_in_time_and_its_authority_stays_known() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let names = ["coffer-admission.coffer-system.svc".to_owned(), "127.0.0.1".to_owned()];
        let place = ("coffer-system", "coffer-admission");
        let first = make(place, None, &names, at("2026-01-01T10:00:00Z")).unwrap();
        let known = |secret: &Secret| text(secret, AUTHORITIES).unwrap();
        assert_eq!(known(&first).matches(END).count(), 1);
        assert!(current(&first, &names, at("2026-03-02T09:59:59Z")).is_some());
        assert!(current(&first, &names, at("2026-03-02T10:00:00Z")).is_none());
        assert!(current(&first, &names[..1], at("2026-01-02T10:00:00Z")).is_none());

        let second = make(place, Some(&first), &names, at("2026-03-02T10:00:00Z")).unwrap();
        let third = make(place, Some(&second), &names, at("2026-05-02T10:00:00Z")).unwrap();
        for (new, old) in [(&second, &first), (&third, &second)] {
            assert_eq!(known(new).matches(END).count(), 2);
            let oldest = known(old);
            assert!(known(new).ends_with(oldest.split_inclusive(END).next().unwrap()));
        }
        assert!(!known(&third).contains(known(&first).as_str()));
        let mut broken = third.clone();
        broken.data.as_mut().unwrap().remove(KEY);
        assert!(current(&broken, &names, at("2026-05-02T10:00:00Z")).is_none());
        let debug = format!("{:?}", current(&third, &names, at("2026-05-02T10:00:00Z")).unwrap());
        assert!(!debug.contains("PRIVATE KEY"), "{debug}");
    }
}
