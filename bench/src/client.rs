//! The HTTP client of everything that is measured, so that each row pays the same for its requests.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::Failure;

/// No request of a measurement takes this long, unless something is broken.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Header names and values.
pub(crate) type Headers = Vec<(String, String)>;

/// Keeps its connections open.
pub(crate) struct HttpClient(Client<HttpConnector, Full<Bytes>>);

impl HttpClient {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Posts JSON and reads the whole answer.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: &Headers,
        body: impl Into<Bytes>,
    ) -> Result<(u16, Bytes), Failure> {
        let mut request = Request::builder().method(Method::POST).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.into()))?;
        let exchange = async {
            let answer = self.0.request(request).await?;
            let status = answer.status().as_u16();
            Ok::<_, Failure>((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| format!("no answer from {url}"))?
    }

    /// Posts JSON and wants a 2xx.
    pub(crate) async fn done(
        &self,
        url: &str,
        headers: &Headers,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, Failure> {
        let (status, body) = self.post(url, headers, body).await?;
        match status {
            200..=299 => Ok(body),
            _ => Err(format!("{url} answered {status}: {}", String::from_utf8_lossy(&body)).into()),
        }
    }
}
