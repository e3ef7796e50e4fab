//! TLS before the API: 1.2 and 1.3, by ring. The certificate is read again when it changes, so that it can be renewed
//! while all runs; connections that are open keep the one they began with.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::taken::Taken;
use crate::files::{BadFile, Named, Watched, certificates};
use crate::limits;

/// What a listener shows for itself.
#[derive(Clone)]
pub struct Tls(Watched<ServerConfig>);

impl Tls {
    /// Reads a certificate with those that lead from it to its authority, and its key, all of them PEM.
    ///
    /// # Errors
    /// When one of them cannot be read, everyone on the machine may read the key, or they do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, BadFile> {
        let files = vec![Named::Public(certificate.to_owned()), Named::Secret(key.to_owned())];
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Watched::read(files, move |texts| config((&certificate, &texts[0]), (&key, &texts[1]))).map(Self)
    }

    /// Follows the files as they change. Needs a tokio runtime.
    pub(super) fn follow(&self) {
        self.0.follow();
    }

    /// The handshake, in a time that is bounded; `None` where it came to nothing.
    pub(super) async fn accept(&self, stream: Taken) -> Option<TlsStream<Taken>> {
        let handshake = TlsAcceptor::from(self.0.good()).accept(stream);
        match timeout(limits::HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a handshake took too long");
                None
            }
        }
    }
}

fn config(
    (certificate, chain): (&Path, &str),
    (key, secret): (&Path, &str),
) -> Result<ServerConfig, BadFile> {
    let chain = certificates(certificate, chain)?;
    // Whatever is wrong with a key, none of it is repeated.
    let secret = PrivateKeyDer::from_pem_slice(secret.as_bytes())
        .map_err(|_| BadFile::new(key, &"there is no private key in it, in PEM"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| BadFile::new(certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| {
            BadFile::new(certificate, &format!("it does not go with {}: {error}", key.display()))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0).finish()
    }
}
