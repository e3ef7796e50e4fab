//! Who may ask: whoever shows the token, or whoever is on this machine.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tcc_core::wire::ProblemCode;

use super::problem::Failure;
use crate::files::{self, BadFile};

/// Whose requests are followed.
#[derive(Clone, Debug)]
pub enum Callers {
    /// Those who show the token.
    WithToken(Token),
    /// Those on this machine; for a server that listens on loopback alone. A page in a browser of this machine is none
    /// of them, whatever its name was made to resolve to.
    OfThisMachine,
    /// Anyone who can reach it.
    Anyone,
}

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

    /// Reads the token in a file.
    ///
    /// # Errors
    /// When the file cannot be read, holds no token, or everyone on the machine may read it.
    pub fn read(file: &Path) -> Result<Self, BadFile> {
        files::secret(file, |text| Self::new(text))
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

/// Lets a request pass that was sent to an address or to `localhost`. One that a page sends by a name of its own, which
/// it has made resolve to this machine (DNS rebinding), carries that name.
pub(super) async fn local(request: Request, next: Next) -> Response {
    let named = |host: &HeaderValue| host.to_str().ok()?.parse::<Authority>().ok();
    let mut hosts = request.headers().get_all(header::HOST).iter().map(named);
    if hosts.all(|host| host.is_some_and(|host| is_local(host.host()))) {
        return next.run(request).await;
    }
    let why = "without a token only requests to localhost or to an address are followed";
    Failure::new(ProblemCode::Unauthorized, why).into_response()
}

fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}
