//! TokenReview and SubjectAccessReview: the cluster's answers.

use super::{Access, ReviewError, Reviewer, User};
use crate::Secret;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};

pub(super) struct Cluster {
    tokens: Api<TokenReview>,
    access: Api<SubjectAccessReview>,
}

impl Cluster {
    pub(super) fn new(client: kube::Client) -> Self {
        Self { tokens: Api::all(client.clone()), access: Api::all(client) }
    }

    async fn review_token(&self, token: &Secret) -> Result<Option<User>, ReviewError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.reveal().to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let answer =
            self.tokens.create(&PostParams::default(), &review).await.map_err(|error| {
                ReviewError { act: "ask the cluster whose token it is", source: error.into() }
            })?;
        let status = answer.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        Ok(status.user.map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    async fn review_access(
        &self,
        user: &User,
        access: &Access,
    ) -> Result<Result<(), String>, ReviewError> {
        let User { name, uid, groups, extra } = user.clone();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(name),
                uid: Some(uid),
                groups: Some(groups),
                extra: Some(extra),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(access.group.to_owned()),
                    resource: Some(access.resource.to_owned()),
                    verb: Some(access.verb.to_owned()),
                    namespace: Some(access.namespace.clone()),
                    name: access.name.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer =
            self.access.create(&PostParams::default(), &review).await.map_err(|error| {
                ReviewError { act: "ask the cluster what the user may do", source: error.into() }
            })?;
        let status = answer.status.unwrap_or_default();
        Ok(if status.allowed { Ok(()) } else { Err(status.reason.unwrap_or_default()) })
    }
}

impl Reviewer for Cluster {
    fn review<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        self.review_token(token).boxed()
    }

    fn allows<'a>(
        &'a self,
        user: &'a User,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Result<(), String>, ReviewError>> {
        self.review_access(user, access).boxed()
    }
}
