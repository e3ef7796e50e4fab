//! Those who hold connections without making use of them: X13, X14.

use std::time::{Duration, Instant};

use serde_json::json;
use tcc_security::coordinator::{COORDINATOR, Coordinator};
use tcc_security::exchange::{Request, Until, exchange};
use tcc_security::secrets::TOKEN;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::program;

/// How soon a healthy caller is served, whatever others do.
const SOON: Duration = Duration::from_secs(5);

async fn connected(coordinator: &Coordinator, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(coordinator.address()).await.expect("it listens");
    stream.write_all(sent).await.expect("it reads");
    stream
}

async fn healthy(coordinator: &Coordinator, gid: &str) {
    let began = Instant::now();
    let cancel = coordinator.ask("POST", &format!("/{gid}/cancel"), Some(&json!({}))).await;
    assert_eq!(cancel.status, 200);
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
}

fn head(path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n"
    )
}

/// Both at the same time, for each waits until a limit of some seconds is over.
#[tokio::test]
async fn x13_who_sends_slowly_or_reads_nothing_is_hung_up_on_and_holds_up_nobody() {
    tokio::join!(senders(), readers());
}

/// Slow heads, slow bodies and idle connections.
async fn senders() {
    let coordinator = Coordinator::start(program(), &[]).await;
    let mut slow = Vec::new();
    for i in 0..100 {
        slow.push(connected(&coordinator, b"").await);
        slow.push(connected(&coordinator, b"GET /livez HTTP/1.1\r\nx-slow: ").await);
        let half = format!("{}content-length: 100\r\n\r\n{{", head("/v1/transactions"));
        slow.push(connected(&coordinator, half.as_bytes()).await);
        // A body where none is read, and one for whoever has no token.
        let unread = "GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n";
        slow.push(connected(&coordinator, unread.as_bytes()).await);
        let chunked = format!("{}transfer-encoding: chunked\r\n\r\n5\r\n{{", head("/v1/transactions"));
        slow.push(connected(&coordinator, chunked.as_bytes()).await);
        if i % 20 == 0 {
            healthy(&coordinator, &format!("x13/{i}").replace('/', ":")).await;
        }
    }
    // A byte now and then does not make a slow head a fast one.
    let began = Instant::now();
    let mut ended = vec![false; slow.len()];
    while !ended.iter().all(|ended| *ended) {
        assert!(began.elapsed() < Duration::from_secs(25), "some are still listened to");
        for (stream, ended) in slow.iter_mut().zip(&mut ended) {
            if !*ended {
                let mut heard = [0; 4096];
                let open = stream.write_all(b"x").await.is_ok();
                let read = stream.try_read(&mut heard);
                *ended = !open
                    || matches!(read, Ok(0))
                    || read.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock);
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    healthy(&coordinator, "x13:after").await;
}

/// One who asks for much and reads nothing.
async fn readers() {
    let coordinator = Coordinator::start(program(), &[]).await;
    let branches: Vec<_> = (0..100)
        .map(|i| json!({"id": format!("{i}-{}", "x".repeat(60)), "confirm": "http://127.0.0.1:1/"}))
        .collect();
    let begin = json!({"gid": "x13", "decider": "initiator", "branches": branches});
    assert_eq!(coordinator.ask("POST", "", Some(&begin)).await.status, 201);
    let show = Request::new("GET", "/v1/transactions/x13").with_token().bytes();
    let mut stream = TcpStream::connect(coordinator.address()).await.expect("it listens");
    // Until neither side takes any more.
    let mut asked = 0;
    while let Ok(Ok(())) = timeout(Duration::from_millis(500), stream.write_all(&show)).await {
        asked += 1;
        assert!(asked < 200_000, "it keeps all answers for whoever does not read them");
    }
    healthy(&coordinator, "other").await;
    // A write waits, until it is hung up on: the next one, unless the last has waited for a busy machine alone.
    let patience = tcc_server::limits::WRITE_TIMEOUT + Duration::from_secs(5);
    while timeout(patience, stream.write_all(&show)).await.expect("it still waits").is_ok() {
        asked += 1;
        assert!(asked < 200_000, "it keeps all answers for whoever does not read them");
    }
    let mut heard = Vec::new();
    let rest = timeout(Duration::from_secs(10), stream.read_to_end(&mut heard)).await;
    assert!(rest.is_ok(), "it still answers, and listens");
    let answers = String::from_utf8_lossy(&heard).matches("HTTP/1.1 200").count();
    assert!(answers < asked, "{answers} answers to {asked} requests");
}

/// More connections than it may have files: those that it has are served, and so are new ones once there is room.
#[tokio::test]
async fn x13_a_flood_of_connections_does_not_take_those_that_are_served() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 150; exec \"$@\"", "sh"]).arg(program()).arg(COORDINATOR);
    let coordinator = Coordinator::start_by(&mut command).await;
    let mut before = TcpStream::connect(coordinator.address()).await.expect("it listens");
    let ask = |gid: &str| {
        let body = "{}";
        format!(
            "{}content-length: {}\r\n\r\n{body}",
            head(&format!("/v1/transactions/{gid}/cancel")),
            body.len()
        )
    };
    let mut flood = Vec::new();
    for i in 0..400 {
        match timeout(Duration::from_millis(500), TcpStream::connect(coordinator.address())).await {
            Ok(Ok(stream)) => flood.push(stream),
            // The kernel's queue is full, too.
            Ok(Err(_)) | Err(_) => break,
        }
        if i % 50 == 0 {
            before.write_all(ask(&format!("x13:{i}")).as_bytes()).await.expect("it reads");
            let mut answer = [0; 4096];
            let read = timeout(SOON, before.read(&mut answer)).await.expect("soon").expect("an answer");
            let answer = String::from_utf8_lossy(&answer[..read]);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer} {}", coordinator.log());
        }
    }
    assert!(flood.len() > 150, "it has no more files than that: {}", flood.len());
    // What a call needs is a file, too: it is made once there is one.
    drop(flood);
    healthy(&coordinator, "x13:after").await;
    assert_eq!(coordinator.send(&Request::new("GET", "/readyz")).await.status, 200);
}

#[tokio::test]
async fn x14_http_2_is_not_spoken() {
    let coordinator = Coordinator::start(program(), &[]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let heard = exchange(coordinator.address(), preface, Until::Quiet, false).await.expect("it listens");
    assert!(heard.answers.iter().all(|answer| answer.status == 400), "{heard:?}");
    assert!(heard.rest.is_empty(), "no frame is sent: {heard:?}");
    let upgrade = Request::new("GET", "/livez")
        .with("connection", "upgrade, http2-settings")
        .with("upgrade", "h2c")
        .with("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA");
    let answer = coordinator.send(&upgrade).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "the offer is not taken up");
}
