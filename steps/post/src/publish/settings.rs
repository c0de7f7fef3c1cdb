//! What must be known before anything can be posted: credentials and addresses, by the names of
//! the variables that they come from.

use std::time::Duration;

use super::drive::Account;
use super::http::{Base, Client};
use super::instagram::{self, Instagram};
use super::oauth::Keys;
use super::record::Kind;
use super::secrets::Secrets;
use super::x::{self, X};

/// The account's number.
pub const INSTAGRAM_USER: &str = "AURIA_INSTAGRAM_USER";
/// The account's token.
pub const INSTAGRAM_TOKEN: &str = "AURIA_INSTAGRAM_TOKEN";
/// Another address of the Graph API.
pub const INSTAGRAM_URL: &str = "AURIA_INSTAGRAM_URL";
/// The four parts of X's OAuth 1.0a: key and secret of the app, token and secret of the user.
pub const X_KEYS: [&str; 4] = [
    "AURIA_X_API_KEY",
    "AURIA_X_API_SECRET",
    "AURIA_X_ACCESS_TOKEN",
    "AURIA_X_ACCESS_SECRET",
];
/// Another address of X's API.
pub const X_URL: &str = "AURIA_X_URL";
/// Where the gallery is public.
pub const PUBLIC_URL: &str = "AURIA_POST_PUBLIC_URL";

/// What is set.
#[derive(Clone)]
pub struct Settings {
    user: Option<String>,
    token: Option<String>,
    keys: [Option<String>; 4],
    instagram: Base,
    x: Base,
    /// Where the gallery is public.
    pub public_url: Option<Base>,
}

impl Settings {
    /// Reads the settings by their names; `public_url` goes before its variable.
    ///
    /// # Errors
    /// With what is wrong about one of them; never with its value where that is secret.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        public_url: Option<&str>,
    ) -> Result<Self, String> {
        let set = |name: &str| {
            variable(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let secret = |name: &str| match set(name) {
            Some(value) if !value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(format!("{name} holds what no token holds: set it again"))
            }
            value => Ok(value),
        };
        let user = set(INSTAGRAM_USER);
        if user
            .as_deref()
            .is_some_and(|user| user.len() > 32 || !user.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(format!(
                "{INSTAGRAM_USER} is the account's number, such as 17841405822304914 (`GET /me?fields=user_id` tells it)"
            ));
        }
        let base =
            |name: &str, default: &str| Base::parse(name, set(name).as_deref().unwrap_or(default));
        let public_url = public_url
            .map(str::to_owned)
            .filter(|url| !url.is_empty())
            .or_else(|| set(PUBLIC_URL));
        let [key, secret_of_app, access, secret_of_access] = X_KEYS;
        Ok(Self {
            user,
            token: secret(INSTAGRAM_TOKEN)?,
            keys: [
                secret(key)?,
                secret(secret_of_app)?,
                secret(access)?,
                secret(secret_of_access)?,
            ],
            instagram: base(INSTAGRAM_URL, instagram::URL)?,
            x: base(X_URL, x::URL)?,
            public_url: public_url
                .map(|url| Base::parse(PUBLIC_URL, &url))
                .transpose()?,
        })
    }

    /// What must be set before anything can be posted on a network.
    #[must_use]
    pub fn missing(&self, network: Kind) -> Vec<String> {
        let absent: Vec<&str> = match network {
            Kind::Instagram => [
                (INSTAGRAM_USER, self.user.is_none()),
                (INSTAGRAM_TOKEN, self.token.is_none()),
            ]
            .into_iter()
            .filter_map(|(name, absent)| absent.then_some(name))
            .collect(),
            Kind::X => X_KEYS
                .into_iter()
                .zip(&self.keys)
                .filter_map(|(name, value)| value.is_none().then_some(name))
                .collect(),
        };
        absent
            .into_iter()
            .map(|name| format!("{name} is not set"))
            .collect()
    }

    /// Whether Instagram is a test's, on this machine.
    #[must_use]
    pub fn instagram_is_local(&self) -> bool {
        self.instagram.is_local()
    }

    /// The account on a network.
    ///
    /// # Errors
    /// When something is missing, or HTTPS cannot be spoken.
    pub fn account(&self, network: Kind, timeout: Duration) -> Result<Account, String> {
        let secrets = Secrets::of(
            [&self.token]
                .into_iter()
                .chain(&self.keys)
                .flatten()
                .cloned(),
        );
        let missing = || self.missing(network).join("; ");
        match network {
            Kind::Instagram => {
                let user = self.user.clone().ok_or_else(missing)?;
                let token = self.token.clone().ok_or_else(missing)?;
                let client = Client::new(timeout, &self.instagram, secrets)?;
                let base = self.instagram.clone();
                Ok(Account::Instagram(Instagram::new(
                    client, base, user, token,
                )))
            }
            Kind::X => {
                let [
                    Some(api_key),
                    Some(api_secret),
                    Some(access_token),
                    Some(access_secret),
                ] = self.keys.clone()
                else {
                    return Err(missing());
                };
                let client = Client::new(timeout, &self.x, secrets)?;
                let keys = Keys {
                    api_key,
                    api_secret,
                    access_token,
                    access_secret,
                };
                Ok(Account::X(X::new(client, self.x.clone(), keys)))
            }
        }
    }
}
