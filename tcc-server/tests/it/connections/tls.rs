//! The same, over TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tcc_server::transport::{Authorities, HttpOptions, HttpTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::participant::{Connection, Participant};
use super::{DONE, Said, done, make, notices, outgoing, said, strays};

/// What a participant shows for itself, and who believes it.
fn shown() -> (TlsAcceptor, HttpTransport) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    let authorities = Authorities::read(file.path()).unwrap();
    let transport = HttpTransport::with(HttpOptions { authorities, ..HttpOptions::default() }).unwrap();
    (TlsAcceptor::from(Arc::new(config.unwrap())), transport)
}

async fn call(transport: &HttpTransport, at: &Participant) -> Said {
    let mut outgoing = outgoing(at.address, "/confirm");
    outgoing.call.endpoint = format!("https://localhost:{}/confirm", at.address.port()).parse().unwrap();
    make(transport, outgoing).await
}

#[tokio::test]
async fn a_connection_is_used_again_and_closed_with_a_word_once_it_was_idle_for_long() {
    let (tls, transport) = shown();
    let mut participant = Participant::behind(Some(tls), async |mut connection: Connection| {
        while connection.request().await {
            connection.say(DONE).await;
        }
        let end = connection.stream.read(&mut [0]).await;
        connection.tell(if end.is_ok() { "closed" } else { "broken off" });
    })
    .await;
    for _ in 0..5 {
        assert_eq!(call(&transport, &participant).await, done());
    }
    assert_eq!(participant.accepted(), 1);
    participant.tells("closed").await;
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_idle_fails_no_call() {
    let (tls, transport) = shown();
    let mut participant = Participant::behind(Some(tls), async |mut connection: Connection| {
        connection.request().await;
        connection.say(DONE).await;
        connection.stands_still().await;
        connection.stream.shutdown().await.unwrap();
        connection.tell("closed");
        // Nothing more is sent over it.
        connection.request().await;
    })
    .await;
    for accepted in 1..=3 {
        assert_eq!(call(&transport, &participant).await, done());
        assert_eq!(participant.accepted(), accepted);
        participant.goes_on();
        participant.tells("closed").await;
        notices(&transport).await;
        assert_eq!(participant.requests(), accepted);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_never_taken_for_that_of_the_next_call() {
    let (tls, transport) = shown();
    let mut participant = Participant::behind(Some(tls), |connection| strays(connection, DONE)).await;
    assert_eq!(call(&transport, &participant).await, done());
    participant.goes_on();
    participant.tells("strayed").await;
    notices(&transport).await;
    assert_eq!(call(&transport, &participant).await, said(503, ""));
    assert_eq!((participant.accepted(), participant.requests()), (2, 2));
}
