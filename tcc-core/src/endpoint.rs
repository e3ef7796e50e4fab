//! Where a call goes.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// A place a branch can be called at: a URL whose scheme picks the transport.
///
/// Only its shape is checked here; whether it may be called at all is its transport's to say.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Arc<str>);

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// It does not begin with a scheme, as in `https:`.
    #[error("has no scheme; write it in full, as in https://payment.example/tcc/payment/try")]
    NoScheme,
    /// It is longer than [`limits::ENDPOINT`].
    #[error("is longer than {} bytes", limits::ENDPOINT)]
    TooLong,
    /// It holds white space, a control character or one outside ASCII.
    #[error("holds {0:?}, which must be percent-encoded")]
    Character(char),
    /// It stands for several endpoints and has a query or fragment, after which nothing can be appended.
    #[error("has a query or a fragment; `at` is what /try, /confirm and /cancel are appended to")]
    NotABase,
}

impl Endpoint {
    /// The scheme, in lower case: `http`, `https`, `local`, …
    #[must_use]
    pub fn scheme(&self) -> &str {
        let end = self.0.bytes().position(|b| b == b':').unwrap_or_default();
        &self.0[..end]
    }

    /// The endpoint as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The endpoint as it may be shown: without a query or a fragment, and without a user or a password.
    #[must_use]
    pub fn without_secrets(&self) -> String {
        let text = &self.0[..self.0.find(['?', '#']).unwrap_or(self.0.len())];
        let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{host}{path}")
    }

    /// The endpoint one step below this one, as `at/try` is below `at`.
    ///
    /// # Errors
    /// When it has a query or a fragment, or would become too long.
    pub fn join(&self, step: &str) -> Result<Self, BadEndpoint> {
        if self.0.contains(['?', '#']) {
            return Err(BadEndpoint::NotABase);
        }
        let base = self.0.trim_end_matches('/');
        if base.len() + 1 + step.len() > limits::ENDPOINT {
            return Err(BadEndpoint::TooLong);
        }
        only_graphic(step)?;
        // The rest was checked before, and the scheme is what it was.
        Ok(Self([base, "/", step].concat().into()))
    }
}

impl std::str::FromStr for Endpoint {
    type Err = BadEndpoint;
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        if text.len() > limits::ENDPOINT {
            return Err(BadEndpoint::TooLong);
        }
        only_graphic(text)?;
        let (scheme, rest) = text.split_once(':').ok_or(BadEndpoint::NoScheme)?;
        let starts_well = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        let spelled_well = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
        if !starts_well || !spelled_well || rest.is_empty() {
            return Err(BadEndpoint::NoScheme);
        }
        let is_lower = !scheme.bytes().any(|b| b.is_ascii_uppercase());
        Ok(Self(if is_lower {
            text.into()
        } else {
            format!("{}:{rest}", scheme.to_ascii_lowercase()).into()
        }))
    }
}

fn only_graphic(text: &str) -> Result<(), BadEndpoint> {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    let bad = text.chars().find(|c| !c.is_ascii_graphic());
    bad.map_or(Ok(()), |bad| Err(BadEndpoint::Character(bad)))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_scheme_and_no_surprises() {
        let at: Endpoint = "HTTP://payment.example/tcc/payment/".parse().unwrap();
        assert_eq!(at.scheme(), "http");
        assert_eq!(at.join("try").unwrap().as_str(), "http://payment.example/tcc/payment/try");
        let at: Endpoint = "Local:payment".parse().unwrap();
        assert_eq!(at.scheme(), "local");
        assert_eq!(at.join("confirm").unwrap().as_str(), "local:payment/confirm");
        assert_eq!("payment/try".parse::<Endpoint>(), Err(BadEndpoint::NoScheme));
        assert_eq!("://x".parse::<Endpoint>(), Err(BadEndpoint::NoScheme));
        assert_eq!("http://a b".parse::<Endpoint>(), Err(BadEndpoint::Character(' ')));
        assert_eq!("http://a/?q".parse::<Endpoint>().unwrap().join("try"), Err(BadEndpoint::NotABase));
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (endpoint, shown) in [
            ("http://u:p@a:80/x/y@z?key=1", "http://a:80/x/y@z"),
            ("https://a?key=1", "https://a"),
            ("https://a#key", "https://a"),
            ("local:payment/try", "local:payment/try"),
        ] {
            assert_eq!(endpoint.parse::<Endpoint>().unwrap().without_secrets(), shown);
        }
    }
}
