//! Participants that are an HTTP service, called in this process and not over a network.

use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tcc_core::answer::{Answer, Failure};

use super::http::{read, request};
use super::{LocalTransport, Outgoing};

impl LocalTransport {
    /// With a participant that is an HTTP service, below this path: `local:NAME/try` is a `POST` to `PATH/try`, with the
    /// headers and the body that it would be sent over a network. So the same participants serve both.
    ///
    /// # Panics
    /// As [`with`](Self::with) does.
    #[must_use]
    pub fn with_service<S, B>(self, name: impl Into<String>, path: impl Into<String>, service: S) -> Self
    where
        S: tower_service::Service<Request<Full<Bytes>>, Response = Response<B>, Future: Send>,
        S: Clone + Send + Sync + 'static,
        B: Body<Data = Bytes> + Send + 'static,
    {
        let (path, service) = (path.into(), TowerToHyperService::new(service));
        self.with(name, move |outgoing: Outgoing| {
            let place = format!("{path}/{}", outgoing.call.operation).parse::<Uri>();
            let request = place.ok().and_then(|place| request(&outgoing, place));
            let answer = request.map(|request| service.call(request));
            async move {
                let Some(answer) = answer else { return Answer::None(Failure::Other) };
                match answer.await.ok() {
                    Some(answer) => read(answer).await.map_or_else(Answer::None, Answer::Response),
                    None => Answer::None(Failure::Broken),
                }
            }
        })
    }
}
