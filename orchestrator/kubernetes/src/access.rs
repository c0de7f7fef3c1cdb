//! Who calls the API on a cluster: Kubernetes vouches for a token (TokenReview), and its
//! roles say what the caller may do to `pipelineruns`, `pipelineendpoints` and
//! `pipelineschedules` (SubjectAccessReview). It keeps no token and answers nothing by itself.

use crate::executor::called;
use crate::names::GROUP;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

/// Whom the tokens are for that open the API: one for the cluster's own API opens nothing
/// here, and one for this opens nothing there.
pub const AUDIENCE: &str = "auria-pipeline";

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// See one.
    Get,
    /// See all.
    List,
    /// Make one: of a run, submit it.
    Create,
    /// Change one: of a run, cancel it.
    Update,
    /// Delete one.
    Delete,
}

impl Verb {
    /// As roles write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What a caller wants to do it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted<'a> {
    /// `pipelineruns`.
    pub resource: &'static str,
    /// `invoke`, of `pipelineendpoints`.
    pub subresource: Option<&'static str>,
    /// Which, where it is one.
    pub name: Option<&'a str>,
}

impl Wanted<'static> {
    /// Runs.
    pub const RUNS: Self = Self {
        resource: "pipelineruns",
        subresource: None,
        name: None,
    };
}

/// What Kubernetes says of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// The token is nobody's, or has expired.
    Nobody,
    /// The token is theirs, and their roles do not allow it.
    Forbidden {
        /// Who.
        user: String,
    },
    /// They may.
    Allowed {
        /// Who.
        user: String,
    },
}

/// Asks Kubernetes for callers of the API of one namespace.
#[derive(Clone)]
pub struct Access {
    client: Client,
    namespace: String,
    audiences: Vec<String>,
}

impl Access {
    /// For runs in `namespace`. Tokens must be for one of `audiences`; none means the API
    /// server's own.
    #[must_use]
    pub fn new(client: Client, namespace: &str, audiences: Vec<String>) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            audiences,
        }
    }

    /// Whether the holder of `token` may do `verb` to runs.
    ///
    /// # Errors
    /// Where the cluster cannot be asked: then nobody may.
    pub async fn vouch(&self, token: &str, verb: Verb) -> Result<Vouched, String> {
        self.vouch_for(token, verb, Wanted::RUNS).await
    }

    /// Whether `token` is somebody's, whatever they may.
    ///
    /// # Errors
    /// Where the cluster cannot be asked.
    pub async fn knows(&self, token: &str) -> Result<Vouched, String> {
        let user = self.who(token).await?.and_then(|user| user.username);
        Ok(user.map_or(Vouched::Nobody, |user| Vouched::Allowed { user }))
    }

    /// Whether the holder of `token` may do `verb` to what is wanted.
    ///
    /// # Errors
    /// Where the cluster cannot be asked: then nobody may.
    pub async fn vouch_for(
        &self,
        token: &str,
        verb: Verb,
        wanted: Wanted<'_>,
    ) -> Result<Vouched, String> {
        let Some(user) = self.who(token).await? else {
            return Ok(Vouched::Nobody);
        };
        let name = user.username.clone().unwrap_or_default();
        if self.may(user, verb, wanted).await? {
            Ok(Vouched::Allowed { user: name })
        } else {
            Ok(Vouched::Forbidden { user: name })
        }
    }

    async fn who(&self, token: &str) -> Result<Option<UserInfo>, String> {
        if token.is_empty() {
            return Ok(None);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: (!self.audiences.is_empty()).then(|| self.audiences.clone()),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = called(reviews.create(&PostParams::default(), &review)).await;
        let answer = answer.map_err(|failed| {
            format!(
                "the cluster does not say whose token it is: {}",
                failed.message
            )
        })?;
        let status = answer.status.unwrap_or_default();
        let named = status.user.filter(|user| user.username.is_some());
        let ours = is_for(&self.audiences, status.audiences.as_deref());
        Ok(named.filter(|_| status.authenticated == Some(true) && ours))
    }

    async fn may(&self, user: UserInfo, verb: Verb, wanted: Wanted<'_>) -> Result<bool, String> {
        let UserInfo {
            username,
            uid,
            groups,
            extra,
        } = user;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: username,
                uid,
                groups,
                extra,
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some(wanted.resource.to_owned()),
                    subresource: wanted.subresource.map(str::to_owned),
                    name: wanted.name.map(str::to_owned),
                    namespace: Some(self.namespace.clone()),
                    verb: Some(verb.word().to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = called(reviews.create(&PostParams::default(), &review)).await;
        let answer = answer.map_err(|failed| {
            format!(
                "the cluster does not say what the caller may: {}",
                failed.message
            )
        })?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// Whether a token that was found good is for one of `ours`. An authenticator that knows no
/// audiences finds any token good, and then names none of them.
fn is_for(ours: &[String], of: Option<&[String]>) -> bool {
    ours.is_empty() || of.is_some_and(|of| of.iter().any(|audience| ours.contains(audience)))
}

#[cfg(test)]
mod tests {
    use super::is_for;

    #[test]
    fn a_token_is_for_the_audience_that_it_says() {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let ours = names(&["auria-pipeline"]);
        assert!(is_for(&ours, Some(&names(&["other", "auria-pipeline"]))));
        for others in [None, Some(names(&[])), Some(names(&["https://kubernetes"]))] {
            assert!(!is_for(&ours, others.as_deref()), "{others:?}");
        }
        assert!(is_for(&[], None));
    }
}
