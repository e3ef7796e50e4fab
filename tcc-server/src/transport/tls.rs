//! TLS of calls: 1.2 and 1.3, by ring, trusting whom the platform trusts and whom the configuration adds.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::http::TransportError;
use crate::files::{BadFile, certificates, text};

/// Authorities that are trusted beside those of the platform: a company's own.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<CertificateDer<'static>>);

impl Authorities {
    /// Reads their certificates, all PEM.
    ///
    /// # Errors
    /// When the file cannot be read, or holds none, or one that cannot be an authority's.
    pub fn read(file: &Path) -> Result<Self, BadFile> {
        let authorities = certificates(file, &text(file)?)?;
        let mut understood = RootCertStore::empty();
        for authority in &authorities {
            understood.add(authority.clone()).map_err(|error| BadFile::new(file, &error))?;
        }
        Ok(Self(authorities))
    }
}

/// What makes connections, in the clear or not as the URL says.
pub(crate) fn connector<H>(http: H, authorities: &Authorities) -> Result<HttpsConnector<H>, TransportError> {
    let tls = client(Arc::new(verifier(authorities)?))?;
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http))
}

/// Who says whether a server is the one that is meant.
pub(super) fn verifier(authorities: &Authorities) -> Result<Verifier, TransportError> {
    let extra = authorities.0.iter().cloned();
    let verifier = Verifier::new_with_extra_roots(extra, Arc::new(default_provider()));
    verifier.map_err(|error| TransportError(error.into()))
}

/// How a connection is made that trusts what the verifier does.
pub(super) fn client(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, TransportError> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TransportError(error.into()))?;
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}
