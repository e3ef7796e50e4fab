//! TLS that fails: F37. What a participant shows for itself is a certificate that the machine does not take, and for as
//! long as it does, nothing is asked of it, least of all in the clear.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::coordinator::Coordinator;
use crate::world::eventually;

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// What a server shows for itself: a certificate for a host, by an authority.
pub(crate) fn shown(
    by: &Authority,
    host: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new([host.to_owned()]).expect("a host");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    Arc::new(config.expect("a certificate and its key"))
}

/// A participant that agrees to everything, over TLS.
pub(crate) struct Secure {
    address: SocketAddr,
    /// Without one it hangs up in the midst of the handshake.
    shows: Arc<Mutex<Option<Arc<ServerConfig>>>>,
    asked: Arc<AtomicUsize>,
}

impl Secure {
    pub(crate) async fn start(shows: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let secure = Self { address, shows: Arc::new(Mutex::new(shows)), asked: Arc::default() };
        let (shows, asked) = (secure.shows.clone(), secure.asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (config, asked) = (shows.lock().unwrap().clone(), asked.clone());
                // A caller who does not like what it is shown hangs up.
                tokio::spawn(async move { drop(serve(stream, config, &asked).await) });
            }
        });
        secure
    }

    fn show(&self, config: Arc<ServerConfig>) {
        *self.shows.lock().unwrap() = Some(config);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// One request a connection.
async fn serve(
    mut stream: TcpStream,
    config: Option<Arc<ServerConfig>>,
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let Some(config) = config else {
        let mut hello = [0; 16];
        return stream.read_exact(&mut hello).await.map(drop);
    };
    let mut stream = TlsAcceptor::from(config).accept(stream).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    stream.shutdown().await
}

/// A coordinator on a machine that trusts one authority.
async fn trusting(authority: &Authority) -> (Coordinator, Arc<TempDir>) {
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let trusted = directory.path().join("trusted.pem");
    std::fs::write(&trusted, authority.pem()).expect("it can be written");
    let mut coordinator = Coordinator::asleep(directory.clone(), &[]).await;
    coordinator.through(&["env", &format!("SSL_CERT_FILE={}", trusted.display())]);
    coordinator.start().await;
    (coordinator, directory)
}

pub(crate) async fn begin(coordinator: &Coordinator, secure: &Secure, gid: &str) {
    let at = format!("https://localhost:{}/", secure.address.port());
    let branch = json!({"id": "b", "at": at, "retry": {"first_ms": 50, "longest_ms": 200}});
    let begin = json!({"gid": gid, "timeout_ms": 3_600_000, "branches": [branch]});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
}

/// While a server shows this, its answer is unknown and it is asked for nothing; once it shows what it should, all goes
/// on.
async fn not_taken(authority: &Authority, wrong: Option<Arc<ServerConfig>>, seen: &str) {
    let (coordinator, _directory) = trusting(authority).await;
    let secure = Secure::start(wrong).await;
    begin(&coordinator, &secure, "f37").await;
    eventually("a call that brings nothing", async || {
        let (_, view) = coordinator.view("f37").await;
        assert!(view["decision"].is_null(), "unknown is neither done nor refused: {view}");
        (view["branches"][0]["seen"] == json!(seen)).then_some(())
    })
    .await;
    assert_eq!(secure.asked(), 0);
    secure.show(shown(authority, "localhost", |_| {}));
    let end = coordinator.end("f37").await;
    assert_eq!(end["phase"], json!("Confirmed"), "{end}");
    assert!(secure.asked() >= 2, "a try and a confirm");
}

#[tokio::test]
async fn f37_a_certificate_that_has_expired_is_not_taken() {
    let authority = authority();
    let expired = shown(&authority, "localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    not_taken(&authority, Some(expired), "tls").await;
}

#[tokio::test]
async fn f37_a_certificate_of_another_host_is_not_taken() {
    let authority = authority();
    let other = shown(&authority, "other.example", |_| {});
    not_taken(&authority, Some(other), "tls").await;
}

#[tokio::test]
async fn f37_a_certificate_by_an_unknown_authority_is_not_taken() {
    let unknown = shown(&self::authority(), "localhost", |_| {});
    not_taken(&authority(), Some(unknown), "tls").await;
}

#[tokio::test]
async fn f37_a_handshake_that_is_cut_is_no_answer() {
    not_taken(&authority(), None, "connect").await;
}

#[tokio::test]
async fn f37_a_certificate_may_change_while_all_runs() {
    let authority = authority();
    let (coordinator, _directory) = trusting(&authority).await;
    let secure = Secure::start(Some(shown(&authority, "localhost", |_| {}))).await;
    for gid in ["f37/before", "f37/after"] {
        begin(&coordinator, &secure, gid).await;
        let end = coordinator.end(gid).await;
        assert_eq!(end["phase"], json!("Confirmed"), "{end}");
        secure.show(shown(&authority, "localhost", |_| {}));
    }
}
