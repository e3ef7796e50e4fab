//! The connections that participants are called over: kept while they can be, and never taken for what they are not.

mod participant;
#[cfg(feature = "tls")]
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::value::RawValue;
use tcc_core::answer::{Answer, Failure, Response, Shape};
use tcc_core::{Call, Endpoint, Operation, Timestamp};
use tcc_server::limits;
use tcc_server::transport::{AllowList, HttpTransport, Outgoing, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;

use self::participant::{Connection, Participant};
use crate::scripted::{BOUND, gid};

const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn transport() -> HttpTransport {
    HttpTransport::new(AllowList::default()).unwrap()
}

fn outgoing(at: SocketAddr, path: &str) -> Outgoing {
    let call = Call {
        gid: gid("g"),
        branch: Some("stock".parse().unwrap()),
        operation: Operation::Confirm,
        endpoint: format!("http://{at}{path}").parse::<Endpoint>().unwrap(),
        payload: Some(RawValue::from_string("{}".to_owned()).unwrap().into()),
        headers: vec![("x-own".to_owned(), "own".to_owned())],
        attempt: 1,
        timeout: None,
        traceparent: None,
        begun: Timestamp::from_millis(1_000_000_000_000),
        shape: Shape::Other,
        gives_up: false,
    };
    Outgoing { call, timeout: BOUND, settled: None }
}

/// The status and the body of an answer, or why there is none.
type Said = Result<(u16, Option<String>), Failure>;

async fn make(transport: &HttpTransport, outgoing: Outgoing) -> Said {
    match transport.call(outgoing).await {
        Answer::Response(Response { status, body, .. }) => {
            Ok((status, body.map(|body| String::from_utf8(body).unwrap())))
        }
        Answer::None(failure) => Err(failure),
    }
}

async fn call(transport: &HttpTransport, at: &Participant) -> Said {
    make(transport, outgoing(at.address, "/confirm")).await
}

/// What was sent to this process before, it has noticed after a call elsewhere.
async fn notices(transport: &HttpTransport) {
    let elsewhere = Participant::says(DONE).await;
    assert_eq!(call(transport, &elsewhere).await, done());
}

fn said(status: u16, body: &str) -> Said {
    Ok((status, Some(body.to_owned())))
}

fn done() -> Said {
    said(200, "hi")
}

#[tokio::test]
async fn a_call_says_where_it_goes_and_what_it_is() {
    let (participant, transport) = (Participant::says(DONE).await, transport());
    for path in ["", "/", "/tcc/stock/confirm?a=b%20c"] {
        assert_eq!(make(&transport, outgoing(participant.address, path)).await, done());
    }
    let host = participant.address;
    let agent = concat!("tcc/", env!("CARGO_PKG_VERSION"));
    let lines = format!(
        " HTTP/1.1\r\nx-own: own\r\ntcc-gid: g\r\ntcc-branch: stock\r\ntcc-operation: confirm\r\ntcc-attempt: 1\r\n\
         tcc-timeout: 20000\r\ntcc-begun: 1000000000000\r\ncontent-type: application/json\r\nuser-agent: {agent}\r\n\
         host: {host}\r\ncontent-length: 2\r\n\r\n"
    );
    let heads =
        ["POST /", "POST /", "POST /tcc/stock/confirm?a=b%20c"].map(|first| format!("{first}{lines}"));
    assert_eq!(*participant.heads.lock().unwrap(), heads);
}

#[tokio::test]
async fn calls_in_turn_share_a_connection_and_calls_at_once_have_one_each() {
    const AT_ONCE: usize = 8;
    let all_here = Arc::new(Barrier::new(AT_ONCE));
    let participant = Participant::start(move |mut connection| {
        let all_here = all_here.clone();
        async move {
            while let Some(head) = connection.head().await {
                connection.stream.read_exact(&mut [0; 2]).await.unwrap();
                if head.starts_with("POST /together") {
                    all_here.wait().await;
                }
                connection.say(DONE).await;
            }
        }
    })
    .await;
    let transport = transport();
    for path in ["/try", "/confirm", "/try", "/cancel"] {
        assert_eq!(make(&transport, outgoing(participant.address, path)).await, done());
    }
    assert_eq!(participant.accepted(), 1);
    for _ in 0..3 {
        let calls = (0..AT_ONCE).map(|_| make(&transport, outgoing(participant.address, "/together")));
        assert!(join_all(calls).await.iter().all(|answer| *answer == done()));
    }
    assert_eq!(participant.accepted(), AT_ONCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_from_many_threads_get_the_answers_that_are_theirs() {
    // Each answer is the head of its request, in pieces.
    let participant = Participant::start(async |mut connection: Connection| {
        while let Some(head) = connection.head().await {
            connection.stream.read_exact(&mut [0; 2]).await.unwrap();
            let path = head.split(' ').nth(1).unwrap();
            connection.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for letter in path.chars() {
                connection.say(&format!("1\r\n{letter}\r\n")).await;
            }
            connection.say("0\r\n\r\n").await;
        }
    })
    .await;
    let (transport, at) = (Arc::new(transport()), participant.address);
    let callers = (0..16).map(|caller| {
        let transport = transport.clone();
        tokio::spawn(async move {
            for number in 0..50 {
                let path = format!("/{caller}/{number}");
                assert_eq!(make(&transport, outgoing(at, &path)).await, said(200, &path));
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    assert!(participant.accepted() <= 16, "{}", participant.accepted());
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_though_nobody_calls() {
    let mut participant = Participant::start(async |mut connection: Connection| {
        connection.serve(DONE).await;
        connection.tell("ended");
    })
    .await;
    let (transport, from) = (transport(), Instant::now());
    assert_eq!(call(&transport, &participant).await, done());
    participant.tells("ended").await;
    let kept = from.elapsed();
    assert!(kept >= limits::IDLE_CONNECTION && kept < 2 * limits::IDLE_CONNECTION, "{kept:?}");
    assert_eq!(call(&transport, &participant).await, done());
    assert_eq!(participant.accepted(), 2);
    drop(transport);
    participant.tells("ended").await;
}

#[tokio::test]
async fn connections_that_were_closed_while_they_were_idle_fail_no_call() {
    const AT_ONCE: usize = 3;
    let all_here = Arc::new(Barrier::new(AT_ONCE));
    let mut participant = Participant::start(move |mut connection| {
        let all_here = all_here.clone();
        async move {
            connection.request().await;
            if connection.before < AT_ONCE {
                all_here.wait().await;
            }
            connection.say(DONE).await;
            connection.stands_still().await;
            connection.stream.shutdown().await.unwrap();
            connection.tell("closed");
        }
    })
    .await;
    let transport = transport();
    let calls = (0..AT_ONCE).map(|_| call(&transport, &participant));
    assert!(join_all(calls).await.iter().all(|answer| *answer == done()));
    for _ in 0..AT_ONCE {
        participant.goes_on();
        participant.tells("closed").await;
    }
    notices(&transport).await;
    assert_eq!(call(&transport, &participant).await, done());
    assert_eq!((participant.accepted(), participant.requests()), (AT_ONCE + 1, AT_ONCE + 1));
}

#[tokio::test]
async fn what_may_have_been_received_is_never_sent_again() {
    let participant = Participant::start(async |mut connection: Connection| {
        // The first request over a new connection, and the second over one that was idle.
        for _ in 0..connection.before {
            connection.request().await;
            connection.say(DONE).await;
        }
        connection.request().await;
    })
    .await;
    let transport = transport();
    assert_eq!(call(&transport, &participant).await, Err(Failure::Broken));
    assert_eq!((participant.accepted(), participant.requests()), (1, 1));
    assert_eq!(call(&transport, &participant).await, done());
    assert_eq!(call(&transport, &participant).await, Err(Failure::Broken));
    assert_eq!((participant.accepted(), participant.requests()), (2, 3));
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_answer_that_leaves_nothing_over() {
    for (answer, status, body) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            200,
            "hi",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", 200, "hi"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-a: b\r\n\r\n", 200, "hi"),
        ("HTTP/1.1 307 Away\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 307, ""),
    ] {
        let (participant, transport) = (Participant::says(answer).await, transport());
        for _ in 0..3 {
            assert_eq!(call(&transport, &participant).await, said(status, body), "{answer}");
        }
        assert_eq!(participant.accepted(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_an_answer_that_does_not_say_it_may_be() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
        // Bytes after its end: what else would they be taken for than the next answer?
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
    ] {
        let (participant, transport) = (Participant::says(answer).await, transport());
        for _ in 0..3 {
            assert_eq!(call(&transport, &participant).await, done(), "{answer}");
        }
        assert_eq!(participant.accepted(), 3, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_may_end_with_its_connection() {
    let participant = Participant::start(async |mut connection: Connection| {
        connection.request().await;
        connection.say("HTTP/1.1 200 OK\r\n\r\nh").await;
        connection.say("i").await;
    })
    .await;
    let transport = transport();
    for _ in 0..3 {
        assert_eq!(call(&transport, &participant).await, done());
    }
    assert_eq!(participant.accepted(), 3);
}

/// An old "done" that is taken for the answer to a later call is a branch that counts as done and is not.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_never_taken_for_that_of_the_next_call() {
    for stray in [DONE, "HTTP/1.1 2", "\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let mut participant = Participant::start(move |connection| strays(connection, stray)).await;
        let transport = transport();
        assert_eq!(call(&transport, &participant).await, done());
        participant.goes_on();
        participant.tells("strayed").await;
        notices(&transport).await;
        assert_eq!(call(&transport, &participant).await, said(503, ""), "{stray:?}");
        assert_eq!((participant.accepted(), participant.requests()), (2, 2), "{stray:?}");
    }
}

/// Says more than it was asked for, once its answer was read.
async fn strays(mut connection: Connection, more: &str) {
    if connection.before == 0 {
        connection.request().await;
        connection.say(DONE).await;
        connection.stands_still().await;
        connection.say(more).await;
        connection.tell("strayed");
    }
    connection.serve(BUSY).await;
}

#[tokio::test]
async fn a_connection_with_an_over_long_answer_is_closed() {
    let long = tcc_core::limits::REPLY + 1;
    let told = format!("HTTP/1.1 200 OK\r\ncontent-length: {long}\r\n\r\n{}", "x".repeat(long)).leak();
    let chunk = "x".repeat(long);
    let in_a_chunk =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{long:x}\r\n{chunk}\r\n0\r\n\r\n")
            .leak();
    let head = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(limits::ANSWER_BUFFER)).leak();
    let no_body = Ok((200, None));
    for (answer, made_of_it) in
        [(&*told, no_body.clone()), (in_a_chunk, no_body), (head, Err(Failure::Broken))]
    {
        let mut participant = Participant::start(async move |mut connection: Connection| {
            connection.request().await;
            connection.say(answer).await;
            connection.ends().await;
        })
        .await;
        let transport = transport();
        for accepted in 1..=2 {
            assert_eq!(call(&transport, &participant).await, made_of_it);
            participant.tells_at_once("ended").await;
            assert_eq!(participant.accepted(), accepted);
        }
    }
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", long - 1, "x".repeat(long - 1));
    let participant = Participant::says(whole.leak()).await;
    let transport = transport();
    for _ in 0..3 {
        assert_eq!(call(&transport, &participant).await, said(200, &"x".repeat(long - 1)));
    }
    assert_eq!(participant.accepted(), 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_closes_its_connection() {
    for so_far in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh"] {
        let mut participant = Participant::start(async move |mut connection: Connection| {
            if connection.before == 1 {
                return connection.serve(BUSY).await;
            }
            connection.request().await;
            connection.say(DONE).await;
            connection.request().await;
            connection.say(so_far).await;
            connection.ends().await;
        })
        .await;
        let transport = transport();
        assert_eq!(call(&transport, &participant).await, done());
        let short =
            Outgoing { timeout: Duration::from_millis(100), ..outgoing(participant.address, "/confirm") };
        assert_eq!(make(&transport, short).await, Err(Failure::TimedOut), "{so_far}");
        participant.tells_at_once("ended").await;
        assert_eq!(call(&transport, &participant).await, said(503, ""), "{so_far}");
        assert_eq!(participant.accepted(), 2);
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_was_taken_counts_and_closes_the_connection() {
    let mut participant = Participant::start(async |mut connection: Connection| {
        if connection.before == 1 {
            return connection.serve(DONE).await;
        }
        connection.head().await;
        connection.say(BUSY).await;
        // What is left of the request is taken only once the caller has its answer.
        connection.stands_still().await;
        connection.ends().await;
    })
    .await;
    let transport = transport();
    let mut large = outgoing(participant.address, "/confirm");
    let payload = format!("\"{}\"", "x".repeat(32 * 1024 * 1024));
    large.call.payload = Some(RawValue::from_string(payload).unwrap().into());
    assert_eq!(make(&transport, large).await, said(503, ""));
    participant.goes_on();
    participant.tells_at_once("ended").await;
    assert_eq!(call(&transport, &participant).await, done());
    assert_eq!(participant.accepted(), 2);
}

#[tokio::test]
async fn connections_outlive_what_was_remembered_of_endpoints() {
    let (participant, transport) = (Participant::says(DONE).await, transport());
    assert_eq!(call(&transport, &participant).await, done());
    for port in 1..=2 * limits::TARGETS {
        let endpoint = format!("http://10.0.0.1:{port}/confirm").parse().unwrap();
        assert_eq!(transport.check(&endpoint), Ok(()));
    }
    assert_eq!(call(&transport, &participant).await, done());
    assert_eq!(participant.accepted(), 1);
}
