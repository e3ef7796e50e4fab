//! HTTP services of this process, called as a coordinator calls participants.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tcc_core::answer::{self, Answer, Failure};
use tcc_core::signature::SigningKey;
use tcc_core::store::BoxFuture;
use tcc_core::{Call, Timestamp, limits, protocol};

use crate::BoxError;
use crate::signed::sign;

/// A service with its types forgotten.
#[derive(Clone)]
pub(super) struct Service(Arc<dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Answer> + Send + Sync>);

impl Service {
    pub(super) fn new<S, B>(service: S) -> Self
    where
        S: tower_service::Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                let Ok(()) = poll_fn(|context| service.poll_ready(context)).await;
                let Ok(response) = service.call(request).await;
                read(response).await
            })
        }))
    }

    /// Makes a call at this path. It takes as long as the service does.
    pub(super) async fn call(&self, path: &str, headers: HeaderMap, body: Bytes) -> Answer {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.headers_mut() = headers;
        match path.parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(_) => return Answer::None(Failure::Other),
        }
        (self.0)(request).await
    }
}

async fn read<B: http_body::Body<Error: Into<BoxError>>>(response: Response<B>) -> Answer {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let status = response.status().as_u16();
    let body = match Limited::new(response.into_body(), limits::REPLY).collect().await {
        Ok(body) => Some(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => None,
        Err(_) => return Answer::None(Failure::Broken),
    };
    answer::Response { status, retry_after: retry_after.map(Duration::from_secs), body }.into()
}

/// The headers of a call, as a coordinator sends them, signed by these keys. `None` where one of the caller's own is none.
pub(super) fn headers(
    call: &Call,
    timeout: Duration,
    settled: Option<Timestamp>,
    keys: &[SigningKey],
) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let mut set = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
        Some(())
    };
    set(protocol::GID, call.gid.as_str())?;
    if let Some(branch) = &call.branch {
        set(protocol::BRANCH, branch.as_str())?;
    }
    set(protocol::OPERATION, call.operation.as_str())?;
    set(protocol::ATTEMPT, &call.attempt.to_string())?;
    set(protocol::TIMEOUT, &timeout.as_millis().to_string())?;
    set(protocol::BEGUN, &call.begun.as_millis().to_string())?;
    if let Some(settled) = settled {
        set(protocol::SETTLED, &settled.as_millis().to_string())?;
    }
    if call.payload.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    sign(keys, (&call.gid, call.branch.as_ref(), call.operation), &body(call), &mut headers)?;
    Some(headers)
}

/// The body of a call.
pub(super) fn body(call: &Call) -> Bytes {
    call.payload.as_ref().map(|payload| Bytes::copy_from_slice(payload.get().as_bytes())).unwrap_or_default()
}
