//! A peer that speaks dtm's protocol and keeps nothing: it confirms what was prepared, registered and submitted, in
//! this order.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

type Said = (StatusCode, Json<Value>);

/// Of each gid that is prepared and not submitted, the confirms and what they are to carry.
type Prepared = HashMap<String, Vec<(String, String)>>;

#[derive(Clone)]
struct Peer {
    prepared: Arc<Mutex<Prepared>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Starts it in this process.
pub(crate) async fn start() -> SocketAddr {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let router = Router::new()
        .route("/api/dtmsvr/prepare", post(prepare))
        .route("/api/dtmsvr/registerBranch", post(register))
        .route("/api/dtmsvr/submit", post(submit))
        .with_state(Peer { prepared: Arc::default(), client });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn gid(body: &Value) -> String {
    body["gid"].as_str().unwrap().to_owned()
}

fn said(done: bool) -> Said {
    let (status, result) = if done { (StatusCode::OK, "SUCCESS") } else { (StatusCode::CONFLICT, "FAILURE") };
    (status, Json(json!({ "dtm_result": result })))
}

async fn prepare(State(peer): State<Peer>, Json(body): Json<Value>) -> Said {
    said(
        body["trans_type"] == "tcc" && peer.prepared.lock().unwrap().insert(gid(&body), Vec::new()).is_none(),
    )
}

async fn register(State(peer): State<Peer>, Json(body): Json<Value>) -> Said {
    let (confirm, data) = (body["confirm"].as_str().unwrap(), body["data"].as_str().unwrap());
    let mut prepared = peer.prepared.lock().unwrap();
    let branches = prepared.get_mut(&gid(&body));
    said(branches.map(|branches| branches.push((confirm.to_owned(), data.to_owned()))).is_some())
}

async fn submit(State(peer): State<Peer>, Json(body): Json<Value>) -> Said {
    let Some(branches) = peer.prepared.lock().unwrap().remove(&gid(&body)) else { return said(false) };
    tokio::spawn(async move {
        for (confirm, data) in branches {
            let request = Request::post(confirm).body(Full::from(data)).unwrap();
            assert!(peer.client.request(request).await.unwrap().status().is_success());
        }
    });
    said(true)
}
