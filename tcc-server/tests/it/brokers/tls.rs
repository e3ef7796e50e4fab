//! Brokers that speak TLS: what they show has to be theirs, by an authority that is trusted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tcc_core::Phase;
use tcc_server::transport::{Authorities, BrokerOptions};
use tcc_tests::Broker;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use url::Url;

use super::{Sender, options};

/// A certificate for `localhost` and for nothing else, and its authority, in files.
pub(super) struct Shown {
    folder: TempDir,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// What speaks TLS before a broker that does not.
pub(super) struct Front {
    shown: Shown,
    port: u16,
}

impl Shown {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("authority", authority.pem()),
            ("certificate", certificate.pem()),
            ("key", key.serialize_pem()),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        // For a broker, which runs as somebody else.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Self { folder, certificate, key }
    }

    pub(super) fn authority_file(&self) -> PathBuf {
        self.folder.path().join("authority")
    }

    /// For a NATS.
    pub(super) fn flags(&self) -> String {
        let folder = self.folder.path().display();
        format!("--tls --tlscert {folder}/certificate --tlskey {folder}/key")
    }

    /// An endpoint is delivered to under the name in the certificate, by who trusts the authority; and by nobody under
    /// another name, or without that trust.
    pub(super) async fn is_believed_by_its_name_alone(&self, endpoint: &str) {
        let authorities = Authorities::read(&self.authority_file()).unwrap();
        let trusting = Sender::new(BrokerOptions { authorities, ..options() });
        let mut named = Url::parse(endpoint).unwrap();
        named.set_host(Some("localhost")).unwrap();
        let known = trusting.begin(2, named.as_str()).await;
        assert_eq!(trusting.ends(known).await, Phase::Confirmed);
        trusting.begin(5, endpoint).await;
        trusting.sees(5, "tls").await;
        let wary = Sender::new(options());
        wary.begin(6, named.as_str()).await;
        wary.sees(6, "tls").await;
    }
}

impl Front {
    pub(super) async fn of(broker: &Broker) -> Self {
        let shown = Shown::new();
        let key = PrivateKeyDer::from_pem_slice(shown.key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![shown.certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, behind) = (listener.local_addr().unwrap().port(), broker.port());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Who does not like what is shown hangs up.
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let mut plain = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                    let _ = copy_bidirectional(&mut tls, &mut plain).await;
                });
            }
        });
        Self { shown, port }
    }

    pub(super) async fn is_believed_by_its_name_alone(&self, endpoint: &str) {
        let mut endpoint = Url::parse(endpoint).unwrap();
        endpoint.set_port(Some(self.port)).unwrap();
        self.shown.is_believed_by_its_name_alone(endpoint.as_str()).await;
    }
}
