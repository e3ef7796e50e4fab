//! Request bodies: declared as JSON, bounded in size and in time, and every mistake named by its place.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tcc_core::wire::ProblemCode;

use super::problem::Failure;
use crate::limits;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let declared = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = declared.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            let why = format!("the content type is {media_type:?}, not application/json");
            return Err(Failure::new(ProblemCode::UnsupportedMediaType, why));
        }
        parse(&read(request).await?)
    }
}

async fn read(request: Request) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), limits::BODY);
    match tokio::time::timeout(limits::BODY_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::new(
            ProblemCode::TooLarge,
            format!("the body is longer than {} bytes", limits::BODY),
        )),
        Ok(Err(_)) => Err(Failure::new(ProblemCode::Malformed, "the body broke off")),
        Err(_) => {
            let limit = limits::BODY_TIMEOUT.as_secs();
            Err(Failure::new(ProblemCode::RequestTimeout, format!("the body took longer than {limit} s")))
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Body<T>, Failure> {
    // Where nothing is wrong, nobody asks for its place, and to follow it costs as much as to read the body.
    serde_json::from_slice(body).map(Body).or_else(|_| explain(body))
}

/// Reads it once more, to name the place of what is wrong in it.
fn explain<T: DeserializeOwned>(body: &[u8]) -> Result<Body<T>, Failure> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        let failure = Failure::new(ProblemCode::Malformed, error.into_inner().to_string());
        if pointer.is_empty() { failure } else { failure.at(&pointer) }
    })?;
    json.end().map_err(|error| Failure::new(ProblemCode::Malformed, error.to_string()))?;
    Ok(Body(parsed))
}

/// The place of a mistake as a JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}
