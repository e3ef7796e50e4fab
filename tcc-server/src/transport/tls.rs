//! TLS of calls: 1.2 and 1.3, by ring, trusting whom the platform trusts and whom the configuration adds.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
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
    let provider = Arc::new(default_provider());
    let failed = |error: rustls::Error| TransportError(error.into());
    let verifier =
        Verifier::new_with_extra_roots(authorities.0.iter().cloned(), provider.clone()).map_err(failed)?;
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http))
}
