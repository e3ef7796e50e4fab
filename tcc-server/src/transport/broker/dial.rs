//! How connections to brokers are made: to addresses that were checked, and in TLS where the scheme says so.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tcc_core::answer::{Answer, Failure};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::BrokerOptions;
use super::place::Place;
use crate::transport::http::TransportError;
use crate::transport::tls;

/// What every connection is made by.
pub(super) struct Means {
    pub(super) options: BrokerOptions,
    verifier: Arc<dyn ServerCertVerifier>,
    tls: Arc<ClientConfig>,
}

/// A connection to make.
pub(super) struct Dial {
    pub(super) place: Place,
    /// Checked: no name is looked up again.
    pub(super) address: SocketAddr,
    /// User and password.
    pub(super) login: Option<(String, String)>,
    pub(super) means: Arc<Means>,
}

/// What clients speak over that do not connect by themselves.
pub(super) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

impl Means {
    pub(super) fn new(options: BrokerOptions) -> Result<Self, TransportError> {
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(tls::verifier(&options.authorities)?);
        let tls = Arc::new(tls::client(verifier.clone())?);
        Ok(Self { options, verifier, tls })
    }

    /// Where a host is found, as far as it may be called.
    pub(super) async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Answer> {
        let forbidden = || Answer::None(Failure::Forbidden);
        let url = Url::parse(&format!("http://{host}:{port}/")).map_err(|_| forbidden())?;
        self.options.allow.check(&url).map_err(|_| forbidden())?;
        let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| Answer::None(Failure::Dns))?.collect();
        self.options.allow.check_resolved(host, &addresses).map_err(|_| forbidden())?;
        Ok(addresses)
    }
}

impl Dial {
    /// Connects.
    pub(super) async fn stream(&self) -> Result<Box<dyn Stream>, Answer> {
        let tcp = tcp(self.address).await?;
        let Some(tls) = self.tls() else { return Ok(Box::new(tcp)) };
        let connected = TlsConnector::from(tls).connect(self.name()?, tcp).await;
        Ok(Box::new(connected.map_err(|_| Answer::None(Failure::Tls))?))
    }

    /// What a client needs that does its own TLS; `None` where the scheme says nothing of TLS.
    pub(super) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.place.scheme.tls.then(|| self.means.tls.clone())
    }

    /// The same for a client that takes the address it was given for the name of the server.
    pub(super) fn tls_by_address(&self) -> Result<Option<ClientConfig>, Answer> {
        if !self.place.scheme.tls {
            return Ok(None);
        }
        let named = Named { name: self.name()?, by: self.means.verifier.clone() };
        tls::client(Arc::new(named)).map(Some).map_err(|_| Answer::None(Failure::Tls))
    }

    fn name(&self) -> Result<ServerName<'static>, Answer> {
        let name = ServerName::try_from(self.place.bare_host().to_owned());
        name.map_err(|_| Answer::None(Failure::Tls))
    }
}

/// Connects to an address that was checked.
pub(super) async fn tcp(address: SocketAddr) -> Result<TcpStream, Answer> {
    let tcp = TcpStream::connect(address).await.map_err(|error| not_connected(&error))?;
    tcp.set_nodelay(true).map_err(|error| not_connected(&error))?;
    Ok(tcp)
}

/// Whether a client failed in TLS, as far as the causes of its error tell.
pub(super) fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let of_tls = |io: &io::Error| io.get_ref().is_some_and(|cause| cause.is::<Error>());
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.downcast_ref().is_some_and(of_tls))
}

fn not_connected(error: &io::Error) -> Answer {
    let late = error.kind() == io::ErrorKind::TimedOut;
    Answer::None(if late { Failure::TimedOut } else { Failure::Connect })
}

/// Has a server show a certificate for the host in the endpoint, by whatever address it was reached.
#[derive(Debug)]
struct Named {
    name: ServerName<'static>,
    by: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.by.verify_server_cert(shown, between, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by.supported_verify_schemes()
    }
}
