//! Wire → store: a gRPC push becomes the same `Push` that an HTTP body becomes.
use std::collections::{HashMap, HashSet};

use coffer_proto::metrics::v1 as proto;
use coffer_runtime::fault::{Class, Fault};

use crate::{
    family::{Family, Kind, Labels, is_label_name, is_metric_name},
    groups::{Mode, Push, Rejected},
};

/// Why a request is no push.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No job.
    #[error("grouping has no job")]
    NoJob,
    /// Not a label name.
    #[error("improper label name {0:?}")]
    LabelName(String),
    /// Not a metric name.
    #[error("improper metric name {0:?}")]
    MetricName(String),
    /// The same family twice.
    #[error("metric family {0:?} is given twice")]
    Twice(String),
    /// No type, or one that this version does not know.
    #[error("metric family {0:?} has no known type")]
    Kind(String),
    /// A mode that this version does not know.
    #[error("unknown mode {0}")]
    Mode(i32),
}

impl Fault for Error {
    fn class(&self) -> Class {
        Class::Invalid
    }
}

impl Fault for Rejected {
    fn class(&self) -> Class {
        match self {
            Self::Inconsistent(_) => Class::Invalid,
            Self::TooManyGroups(_) | Self::TooManySeries { .. } => Class::Exhausted,
        }
    }
}

impl TryFrom<proto::PushRequest> for Push {
    type Error = Error;

    fn try_from(request: proto::PushRequest) -> Result<Self, Error> {
        let proto::PushRequest { grouping, families, mode } = request;
        let mode = match proto::Mode::try_from(mode) {
            Ok(proto::Mode::Unspecified) => Mode::Merge,
            Ok(proto::Mode::ReplaceGroup) => Mode::Replace,
            Err(_) => return Err(Error::Mode(mode)),
        };
        let grouping = labels(grouping)?;
        if grouping.get("job").is_none_or(str::is_empty) {
            return Err(Error::NoJob);
        }
        let mut seen = HashSet::new();
        if let Some(twice) = families.iter().find(|family| !seen.insert(&family.name)) {
            return Err(Error::Twice(twice.name.clone()));
        }
        let families = families.into_iter().map(family).collect::<Result<_, _>>()?;
        Ok(Self { grouping, families, timestamps: false, mode })
    }
}

fn labels(map: HashMap<String, String>) -> Result<Labels, Error> {
    match map.keys().find(|name| !is_label_name(name)) {
        Some(name) => Err(Error::LabelName(name.clone())),
        None => Ok(map.into_iter().collect()),
    }
}

fn family(family: proto::Family) -> Result<Family, Error> {
    let proto::Family { name, help, r#type, samples } = family;
    if !is_metric_name(&name) {
        return Err(Error::MetricName(name));
    }
    let kind = match proto::Type::try_from(r#type) {
        Ok(proto::Type::Gauge) => Kind::Gauge,
        Ok(proto::Type::Counter) => Kind::Counter,
        Ok(proto::Type::Unspecified) | Err(_) => return Err(Error::Kind(name)),
    };
    let series = samples
        .into_iter()
        .map(|proto::Sample { labels: map, value }| Ok((labels(map)?, value)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Family::numbers(&name, &help, kind, series))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn request() -> proto::PushRequest {
        let sample = proto::Sample { labels: map(&[("l", "v")]), value: 2.5 };
        let family = proto::Family {
            name: "x".to_owned(),
            help: "Help.".to_owned(),
            r#type: proto::Type::Counter.into(),
            samples: vec![sample],
        };
        proto::PushRequest {
            grouping: map(&[("job", "a")]),
            families: vec![family],
            mode: proto::Mode::ReplaceGroup.into(),
        }
    }

    #[test]
    fn a_push() {
        let push = Push::try_from(request()).unwrap();
        assert_eq!(push.mode, Mode::Replace);
        assert_eq!(push.grouping.get("job"), Some("a"));
        let labels = [("l", "v")].into_iter().collect();
        assert_eq!(push.families, [Family::numbers("x", "Help.", Kind::Counter, [(labels, 2.5)])]);
    }

    #[test]
    fn refusals() {
        let refused = |change: fn(&mut proto::PushRequest)| {
            let mut request = request();
            change(&mut request);
            Push::try_from(request).unwrap_err()
        };
        assert_eq!(refused(|r| r.grouping.clear()), Error::NoJob);
        assert_eq!(refused(|r| r.grouping = map(&[("job", "")])), Error::NoJob);
        let bad = refused(|r| r.grouping = map(&[("job", "a"), ("__x", "")]));
        assert_eq!(bad, Error::LabelName("__x".to_owned()));
        let bad = refused(|r| r.families[0].samples[0].labels = map(&[("é", "")]));
        assert_eq!(bad, Error::LabelName("é".to_owned()));
        assert_eq!(refused(|r| r.families[0].name.clear()), Error::MetricName(String::new()));
        assert_eq!(refused(|r| r.families[0].r#type = 0), Error::Kind("x".to_owned()));
        assert_eq!(refused(|r| r.families[0].r#type = 99), Error::Kind("x".to_owned()));
        assert_eq!(refused(|r| r.mode = 99), Error::Mode(99));
        let twice = refused(|r| r.families.push(r.families[0].clone()));
        assert_eq!(twice, Error::Twice("x".to_owned()));
    }
}
