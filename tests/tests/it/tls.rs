//! TLS before the API, and authorities of one's own for calls.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tcc_tests::http::Message;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::command_line::refuses;
use crate::coordinator::Coordinator;
use crate::faults::tls::{Authority, Secure, authority, begin, shown};
use crate::world::eventually;

/// A directory with a certificate of this machine and its key.
struct Shown {
    directory: TempDir,
    authority: Authority,
}

impl Shown {
    fn new() -> Self {
        let shown = Self { directory: tempfile::tempdir().expect("a directory"), authority: authority() };
        shown.renew();
        shown
    }

    /// Writes another certificate, and returns it.
    fn renew(&self) -> CertificateDer<'static> {
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a host");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        write(&self.key(), &key.serialize_pem(), 0o600);
        write(&self.certificate(), &certificate.pem(), 0o644);
        certificate.der().clone()
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    fn flags(&self) -> [String; 4] {
        let (certificate, key) = (self.certificate(), self.key());
        let text = |path: PathBuf| path.to_str().expect("text").to_owned();
        ["--tls-cert-file".to_owned(), text(certificate), "--tls-key-file".to_owned(), text(key)]
    }

    async fn coordinator(&self) -> Coordinator {
        let flags = self.flags();
        Coordinator::alone(&flags.each_ref().map(String::as_str)).await
    }

    async fn connect(
        &self,
        to: SocketAddr,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(to).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// The status of an answer to a request over TLS.
    async fn ask(&self, to: SocketAddr, version: &'static SupportedProtocolVersion, path: &str) -> u16 {
        let mut stream = self.connect(to, version).await.expect("a handshake");
        stream.write_all(&Message::request("GET", path, None).bytes()).await.expect("it reads");
        let answer = Message::read(&mut BufReader::new(stream)).await;
        answer.expect("an answer").expect("an answer").status()
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    // Whole, as whoever renews a certificate does it.
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a file");
    std::fs::set_permissions(&new, Permissions::from_mode(mode)).expect("it is ours");
    std::fs::rename(new, path).expect("it is ours");
}

#[tokio::test]
async fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let shown = Shown::new();
    let mut coordinator = shown.coordinator().await;
    for version in [&TLS12, &TLS13] {
        assert_eq!(shown.ask(coordinator.address(), version, "/readyz").await, 200);
        assert_eq!(shown.ask(coordinator.address(), version, "/v1/transactions/none").await, 404);
    }
    let mut plain = TcpStream::connect(coordinator.address()).await.expect("it listens");
    plain.write_all(&Message::request("GET", "/readyz", None).bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    // An alert, or a reset.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Somebody who has not shaken hands yet is not waited for.
    let _silent = TcpStream::connect(coordinator.address()).await.expect("it listens");
    assert_eq!(coordinator.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_shown_and_one_that_is_bad_is_not() {
    let shown = Shown::new();
    let coordinator = shown.coordinator().await;
    let sees = async |expected: CertificateDer<'static>| {
        let seen = async || {
            let stream = shown.connect(coordinator.address(), &TLS13).await.ok()?;
            let chain = stream.get_ref().1.peer_certificates()?;
            (chain[0] == expected).then_some(())
        };
        eventually("the new certificate", seen).await;
    };
    // Connections that are open go on.
    let mut open = shown.connect(coordinator.address(), &TLS13).await.expect("a handshake");
    let renewed = shown.renew();
    sees(renewed.clone()).await;
    open.write_all(&Message::request("GET", "/readyz", None).bytes()).await.expect("it reads");
    let answer = Message::read(&mut BufReader::new(open)).await.expect("an answer").expect("an answer");
    assert_eq!(answer.status(), 200);

    write(&shown.certificate(), "not a certificate", 0o644);
    let told = async || coordinator.whole_log().contains("what it held before still holds").then_some(());
    eventually("a word about it", told).await;
    sees(renewed).await;
    sees(shown.renew()).await;
}

#[tokio::test]
async fn who_does_not_shake_hands_holds_nobody_up_and_is_cut_off() {
    let shown = Shown::new();
    let coordinator = shown.coordinator().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(coordinator.address()).await.expect("it listens"));
    }
    assert_eq!(shown.ask(coordinator.address(), &TLS13, "/readyz").await, 200);
    let begun = Instant::now();
    for mut stream in silent {
        let mut nothing = [0; 1];
        let left = Duration::from_secs(30).saturating_sub(begun.elapsed());
        let read = tokio::time::timeout(left, stream.read(&mut nothing)).await;
        let _ = read.unwrap_or_else(|_| panic!("it still waits after {:?}", begun.elapsed()));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_at_the_start() {
    let (shown, other) = (Shown::new(), Shown::new());
    let (flags, other_flags) = (shown.flags(), other.flags());
    let [cert_flag, cert, key_flag, key] = flags.each_ref().map(String::as_str);
    let other_key = other_flags[3].as_str();
    let broken = shown.directory.path().join("broken");
    write(&broken, "-----BEGIN CERTIFICATE-----\n", 0o600);
    let broken = broken.to_str().expect("text");
    let all = "--tls-cert-file";
    for (flags, words) in [
        (vec![cert_flag, cert], vec![all, "--tls-key-file"]),
        (vec![key_flag, key], vec!["--tls-key-file", all]),
        (vec![cert_flag, "missing", key_flag, key], vec![all, "missing", "No such file"]),
        (vec![cert_flag, cert, key_flag, "missing"], vec!["--tls-key-file", "missing"]),
        (vec![cert_flag, broken, key_flag, key], vec![all, broken]),
        (vec![cert_flag, key, key_flag, key], vec!["no certificate"]),
        (vec![cert_flag, cert, key_flag, cert], vec!["no private key"]),
        (vec![cert_flag, cert, key_flag, other_key], vec![all, cert, other_key]),
        (vec!["--ca-file", "missing"], vec!["--ca-file", "missing"]),
        (vec!["--ca-file", broken], vec!["--ca-file", broken]),
        (vec!["--ca-file", key], vec!["--ca-file", "no certificate"]),
    ] {
        refuses(&flags, &[], &words).await;
    }
    // TLS shows who the server is, and says nothing of who asks.
    let flags = [cert_flag, cert, key_flag, key, "--listen", "0.0.0.0:0"];
    refuses(&flags, &[], &["--listen 0.0.0.0:0", "--token-file"]).await;
    std::fs::set_permissions(shown.key(), Permissions::from_mode(0o644)).expect("it is ours");
    refuses(&[cert_flag, cert, key_flag, key], &[], &["--tls-key-file", "anyone", "chmod"]).await;
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_beside_the_platforms() {
    let (own, platform) = (authority(), authority());
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let file = |name: &str, authority: &Authority| {
        let path = directory.path().join(name);
        std::fs::write(&path, authority.pem()).expect("a file");
        path.to_str().expect("text").to_owned()
    };
    let ca_file = file("own.pem", &own);
    let mut coordinator = Coordinator::asleep(directory.clone(), &["--ca-file", &ca_file]).await;
    coordinator.through(&["env", &format!("SSL_CERT_FILE={}", file("platform.pem", &platform))]);
    coordinator.start().await;
    for (nth, authority) in [&own, &platform].into_iter().enumerate() {
        let secure = Secure::start(Some(shown(authority, "localhost", |_| {}))).await;
        let gid = format!("g{nth}");
        begin(&coordinator, &secure, &gid).await;
        let end = coordinator.end(&gid).await;
        assert_eq!(end["phase"], json!("Confirmed"), "{end}");
    }
}
