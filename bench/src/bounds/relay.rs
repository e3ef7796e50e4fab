//! The calls without the coordinator: a bare hyper server and client that exchange, with the load and with the
//! participants, the bytes a coordinator exchanges with them. It keeps nothing and decides nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::client::{Headers, HttpClient};
use crate::load::PAYLOAD;
use crate::sample::Sample;
use crate::{Failure, process};

#[derive(Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) participants: Vec<String>,
    pub(crate) sample: Sample,
}

struct Relay {
    client: HttpClient,
    tries: Vec<String>,
    confirms: Vec<String>,
    headers: Headers,
    answer: Bytes,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let urls = |operation: &str| -> Vec<String> {
        options.participants.iter().map(|at| format!("http://{at}/{operation}")).collect()
    };
    let relay = Arc::new(Relay {
        client: HttpClient::new(),
        tries: urls("try"),
        confirms: urls("confirm"),
        headers: options.sample.headers.clone(),
        answer: options.sample.answer.clone().into(),
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let relay = relay.clone();
            let service = service_fn(move |request| {
                let relay = relay.clone();
                async move { relay.pass_on(request).await }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    process::answer(&address, async |_| Ok(())).await
}

impl Relay {
    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Failure> {
        request.into_body().collect().await?;
        for urls in [&self.tries, &self.confirms] {
            try_join_all(urls.iter().map(|url| self.client.done(url, &self.headers, PAYLOAD))).await?;
        }
        let answer = Response::builder().status(StatusCode::CREATED).header(CONTENT_TYPE, "application/json");
        Ok(answer.body(Full::new(self.answer.clone()))?)
    }
}
