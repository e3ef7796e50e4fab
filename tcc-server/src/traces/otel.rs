//! Traces told to an OpenTelemetry collector, by OTLP over HTTP.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};
use tcc_core::Call;
use tcc_core::answer::Reply;
use tokio::runtime::Handle;

use crate::coordinator::Coordinator;
use crate::limits;
use crate::transport::{self, Authorities};

/// Who is told; nobody until somebody is named.
#[derive(Default)]
pub(crate) struct Traces(OnceLock<SdkTracer>);

/// The span of a call that is made.
pub(crate) struct Calling(Option<SdkSpan>);

/// The span of a request that is followed.
pub(crate) struct Asked(SdkSpan);

impl Coordinator {
    /// Has its spans told to these: a span for each begin and each call. The first it is given stay.
    pub fn trace(&self, provider: &SdkTracerProvider) {
        let _ = self.traces.0.set(provider.tracer("tcc"));
    }
}

impl Traces {
    /// The span of a call, which from now on belongs to it.
    pub(crate) fn call(&self, call: &mut Call, destination: &str) -> Calling {
        let Some(tracer) = self.0.get() else { return Calling(None) };
        let parent = call.traceparent.as_deref().map_or_else(Context::new, context);
        let branch = call.branch.as_ref().map_or("", |branch| branch.as_str());
        let span = SpanBuilder::from_name(format!("{} {branch}", call.operation).trim_end().to_owned())
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("tcc.gid", call.gid.to_string()),
                KeyValue::new("tcc.branch", branch.to_owned()),
                KeyValue::new("tcc.operation", call.operation.as_str()),
                KeyValue::new("tcc.attempt", i64::from(call.attempt)),
                KeyValue::new("server.address", destination.to_owned()),
            ])
            .start_with_context(tracer, &parent);
        call.traceparent = Some(traceparent(span.span_context()));
        Calling(Some(span))
    }

    /// The span of a request, if it is one to be told of: a begin, or one whose caller says what it belongs to.
    pub(crate) fn asked(
        &self,
        method: &'static str,
        route: &str,
        traceparent: Option<&str>,
    ) -> Option<Asked> {
        let begins = (method, route) == ("POST", "/v1/transactions");
        let tracer =
            self.0.get().filter(|_| begins || (traceparent.is_some() && route.starts_with("/v1/")))?;
        let parent = traceparent.map_or_else(Context::new, context);
        let span = SpanBuilder::from_name(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route.to_owned()),
            ])
            .start_with_context(tracer, &parent);
        Some(Asked(span))
    }
}

impl Calling {
    /// What it came to.
    pub(crate) fn came_to(self, reply: &Reply, seen: &'static str) {
        let Some(mut span) = self.0 else { return };
        let result = match reply {
            Reply::Done(_) => "done",
            Reply::Pending(_) => "pending",
            Reply::Refused(_) => "refused",
            Reply::Unknown { .. } => {
                span.set_attribute(KeyValue::new("error.type", seen));
                span.set_status(Status::error(seen));
                "unknown"
            }
        };
        span.set_attribute(KeyValue::new("tcc.result", result));
        span.end();
    }
}

impl Asked {
    /// As it stands in a header: what is begun by this request belongs to it.
    pub(crate) fn traceparent(&self) -> String {
        traceparent(self.0.span_context())
    }

    /// What it came to.
    pub(crate) fn answered(mut self, status: u16) {
        self.0.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            self.0.set_status(Status::error("5xx"));
        }
        self.0.end();
    }
}

/// What a well-formed header (W3C Trace Context, version 00) says; of any other, nothing.
fn context(traceparent: &str) -> Context {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [_, trace, span, flags] = parts[..] else { return Context::new() };
    let (Ok(trace), Ok(span), Ok(flags)) =
        (TraceId::from_hex(trace), SpanId::from_hex(span), u8::from_str_radix(flags, 16))
    else {
        return Context::new();
    };
    let parent = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::NONE);
    Context::new().with_remote_span_context(parent)
}

fn traceparent(span: &SpanContext) -> String {
    format!("00-{:032x}-{:016x}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags())
}

/// A collector that spans are told to in batches, by a thread of its own.
pub(crate) struct Collector(SdkTracerProvider);

impl Collector {
    /// The one that the environment names, if it names one (`OTEL_EXPORTER_OTLP_ENDPOINT` and its like). Needs a tokio
    /// runtime.
    pub(crate) fn of_environment(authorities: &Authorities) -> Result<Option<Self>, String> {
        let named = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !named("OTEL_EXPORTER_OTLP_ENDPOINT") && !named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            return Ok(None);
        }
        let failed = |why: &dyn std::fmt::Display| format!("spans cannot be told to the collector: {why}");
        let sender = Sender::new(authorities).map_err(|error| failed(&error))?;
        let exporter = SpanExporter::builder().with_http().with_http_client(sender).build();
        let exporter = exporter.map_err(|error| failed(&error))?;
        let mut resource = Resource::builder();
        if !named("OTEL_SERVICE_NAME") {
            resource = resource.with_service_name("tcc-server");
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build());
        Ok(Some(Self(provider.build())))
    }

    pub(crate) const fn provider(&self) -> &SdkTracerProvider {
        &self.0
    }

    /// Tells what is left to be told, in a time that is bounded.
    pub(crate) async fn close(self) {
        let close = move || self.0.shutdown_with_timeout(limits::LAST_SPANS);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(close).await {
            tracing::warn!(%error, "the last spans were not told");
        }
    }
}

type Client = legacy::Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends batches by the client that calls are made with. Whoever exports runs in a thread that has no runtime, so the
/// work is done in this one.
#[derive(Debug)]
struct Sender {
    client: Client,
    runtime: Handle,
}

impl Sender {
    fn new(authorities: &Authorities) -> Result<Self, transport::TransportError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(limits::IDLE_CONNECTION)
            .pool_timer(TokioTimer::new())
            .build(transport::connector(http, authorities)?);
        Ok(Self { client, runtime: Handle::current() })
    }
}

impl HttpClient for Sender {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        let client = self.client.clone();
        let send = async move {
            let answer = client.request(request.map(Full::new)).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, tcc_core::limits::REPLY).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // Made where it runs: a time-out needs the runtime, too.
        let sent = self.runtime.spawn(async move { tokio::time::timeout(LONGEST, send).await });
        Box::pin(async move { sent.await?? })
    }
}

/// How long a batch may take: as long as the standard's own.
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_written_as_it_was() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(context(header).span().span_context()), header);
        for none in ["", "00-0-0-0-0", "x", "00-x-y-z"] {
            assert!(!context(none).span().span_context().is_valid(), "{none}");
        }
    }
}
