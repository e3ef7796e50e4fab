//! A participant at the level of bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tcc_server::limits;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::scripted::BOUND;

/// A participant that says, byte for byte, what a test wants it to.
pub(super) struct Participant {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// The heads of what it was sent.
    pub(super) heads: Arc<Mutex<Vec<String>>>,
    /// What it has to tell the test.
    told: UnboundedReceiver<&'static str>,
    go_on: Arc<Notify>,
}

/// What bytes go over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// One connection to it.
pub(super) struct Connection {
    pub(super) stream: BufReader<Box<dyn Stream>>,
    /// How many there were before.
    pub(super) before: usize,
    heads: Arc<Mutex<Vec<String>>>,
    tell: UnboundedSender<&'static str>,
    go_on: Arc<Notify>,
}

impl Participant {
    pub(super) async fn start<F: Future<Output = ()> + Send>(
        serve: impl Fn(Connection) -> F + Clone + Send + 'static,
    ) -> Self {
        Self::behind(None, serve).await
    }

    /// The same, over TLS if there is what it shows for itself.
    pub(super) async fn behind<F: Future<Output = ()> + Send>(
        tls: Option<TlsAcceptor>,
        serve: impl Fn(Connection) -> F + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        let address = listener.local_addr().unwrap();
        let go_on = Arc::new(Notify::new());
        let participant =
            Self { address, accepted: Arc::default(), heads: Arc::default(), told, go_on: go_on.clone() };
        let (accepted, heads) = (participant.accepted.clone(), participant.heads.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let before = accepted.fetch_add(1, Ordering::SeqCst);
                let (tls, serve) = (tls.clone(), serve.clone());
                let (heads, tell, go_on) = (heads.clone(), tell.clone(), go_on.clone());
                tokio::spawn(async move {
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => Box::new(tls.accept(stream).await.expect("a handshake")),
                    };
                    let stream = BufReader::new(stream);
                    serve(Connection { stream, before, heads, tell, go_on }).await;
                });
            }
        });
        participant
    }

    /// One that gives the same answer to every request.
    pub(super) async fn says(answer: &'static str) -> Self {
        Self::start(async move |mut connection: Connection| connection.serve(answer).await).await
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    /// Lets it go on from where it stands still.
    pub(super) fn goes_on(&self) {
        self.go_on.notify_one();
    }

    pub(super) async fn tells(&mut self, what: &str) {
        assert_eq!(timeout(BOUND, self.told.recv()).await.expect("it is told in time"), Some(what));
    }

    /// The same, of what is not to wait until connections have been idle for long.
    pub(super) async fn tells_at_once(&mut self, what: &str) {
        let from = Instant::now();
        self.tells(what).await;
        assert!(from.elapsed() < limits::IDLE_CONNECTION / 2, "{what} after {:?}", from.elapsed());
    }
}

impl Connection {
    /// A request, whole; `false` where the connection ends instead.
    pub(super) async fn request(&mut self) -> bool {
        let Some(head) = self.head().await else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body).await.is_ok()
    }

    pub(super) async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    pub(super) async fn say(&mut self, bytes: &str) {
        // Whoever reads no more has closed it, which is told when it is read from.
        let _ = self.stream.write_all(bytes.as_bytes()).await;
    }

    pub(super) async fn serve(&mut self, answer: &str) {
        while self.request().await {
            self.say(answer).await;
        }
    }

    /// Waits until the caller closes it.
    pub(super) async fn ends(&mut self) {
        let mut rest = [0; 1024];
        while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        self.tell("ended");
    }

    /// Waits until the test lets it go on.
    pub(super) async fn stands_still(&self) {
        self.go_on.notified().await;
    }

    pub(super) fn tell(&self, what: &'static str) {
        let _ = self.tell.send(what);
    }
}
