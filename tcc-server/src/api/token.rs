//! The token that callers show.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tcc_core::wire::ProblemCode;

use super::problem::Failure;

/// A secret that callers send as `Authorization: Bearer …`.
#[derive(Clone)]
pub struct Token(String);

/// A text that can be no token.
#[derive(Debug, thiserror::Error)]
#[error("a token has 16 or more visible ASCII characters")]
pub struct BadToken;

impl Token {
    /// Takes a token that is long enough not to be guessed.
    ///
    /// # Errors
    /// When it is too short or holds what cannot stand in a header.
    pub fn new(token: impl Into<String>) -> Result<Self, BadToken> {
        let token = token.into();
        let fit = token.len() >= 16 && token.chars().all(|c| c.is_ascii_graphic());
        if fit { Ok(Self(token)) } else { Err(BadToken) }
    }

    /// Compares in a time that does not depend on where the two differ.
    fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

/// Never shows the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets a request pass that shows the token.
pub(super) async fn ask(State(token): State<Arc<Token>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    match shown {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case("bearer") && token.is(shown.trim()) => {
            next.run(request).await
        }
        Some(_) => Failure::new(ProblemCode::Unauthorized, "the token is not the right one").into_response(),
        None => Failure::new(ProblemCode::Unauthorized, "no bearer token was sent").into_response(),
    }
}
