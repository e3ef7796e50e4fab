//! What single origins are called with: credentials, and keys that calls are signed by. All of it stands in files, which
//! are read again when they change, and none of it is ever shown.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tcc_core::signature::{self, SigningKey};
use tcc_core::{Call, protocol};
use url::{Origin, Position, Url};

use crate::files::{BadFile, Named, Watched};

/// An origin (scheme, host and port) and what is sent to it and to no other.
#[derive(Clone, Debug)]
pub struct Peer {
    origin: Origin,
    destination: String,
    /// They go before a branch's own of the same name.
    credentials: Vec<(HeaderName, Watched<HeaderValue>)>,
    /// In the place of the keys that others are signed for.
    signing: Option<SigningKeys>,
}

/// Keys in a file, one a line; each call carries a signature by each.
#[derive(Clone, Debug)]
pub struct SigningKeys(Watched<Vec<SigningKey>>);

/// Why something cannot be said of an origin.
#[derive(Debug, thiserror::Error)]
pub enum BadPeer {
    /// It is no origin.
    #[error("{0:?} is no origin, as in https://payment.internal:8443")]
    Origin(String),
    /// This header is not to be set.
    #[error("{0:?} is no header that can be set")]
    Header(String),
    /// What it is to be called with cannot be used.
    #[error(transparent)]
    File(#[from] BadFile),
}

impl Peer {
    /// One by its origin, of which nothing is said yet.
    ///
    /// # Errors
    /// When the text is no `http` or `https` origin, or more than one.
    pub fn new(origin: &str) -> Result<Self, BadPeer> {
        let bad = || BadPeer::Origin(origin.to_owned());
        let url = Url::parse(origin).map_err(|_| bad())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !bare || !anonymous || !["http", "https"].contains(&url.scheme()) {
            return Err(bad());
        }
        let destination = url[Position::BeforeHost..Position::AfterPort].to_owned();
        Ok(Self { origin: url.origin(), destination, credentials: Vec::new(), signing: None })
    }

    /// With a header on each call, whose value stands in a file.
    ///
    /// # Errors
    /// When the header is one of the protocol's or of the connection's, or the file cannot be used.
    pub fn with_header(mut self, name: &str, file: &Path) -> Result<Self, BadPeer> {
        let bad = || BadPeer::Header(name.to_owned());
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        if protocol::is_reserved(header.as_str())
            || self.credentials.iter().any(|(known, _)| *known == header)
        {
            return Err(bad());
        }
        let named = file.to_owned();
        let value = Watched::read(vec![Named::Secret(file.to_owned())], move |texts| {
            let value = texts[0].trim();
            let visible = !value.is_empty() && value.chars().all(|c| c == ' ' || c.is_ascii_graphic());
            let value = HeaderValue::from_str(value).ok().filter(|_| visible);
            let mut value =
                value.ok_or_else(|| BadFile::new(&named, &"it holds no line of visible ASCII"))?;
            value.set_sensitive(true);
            Ok(value)
        })?;
        self.credentials.push((header, value));
        Ok(self)
    }

    /// With keys of its own, by which its calls are signed and those of others are not.
    #[must_use]
    pub fn signed_with(self, keys: SigningKeys) -> Self {
        Self { signing: Some(keys), ..self }
    }

    /// What calls to it count against.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// Whether a URL leads to it.
    pub(super) fn is_of(&self, url: &Url) -> bool {
        self.origin == url.origin()
    }

    pub(super) const fn signing(&self) -> Option<&SigningKeys> {
        self.signing.as_ref()
    }

    pub(super) fn follow(&self) {
        self.credentials.iter().for_each(|(_, value)| value.follow());
        self.signing.iter().for_each(SigningKeys::follow);
    }

    /// Adds its credentials to a call.
    pub(super) fn introduce(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.credentials {
            headers.insert(name.clone(), (*value.good()).clone());
        }
    }
}

impl SigningKeys {
    /// Reads the keys: `whsec_` and base64.
    ///
    /// # Errors
    /// When the file cannot be read, holds what is no key, or everyone on the machine may read it.
    pub fn read(file: &Path) -> Result<Self, BadFile> {
        let named = file.to_owned();
        Watched::read(vec![Named::Secret(file.to_owned())], move |texts| {
            SigningKey::read_all(&texts[0]).map_err(|bad| BadFile::new(&named, &bad))
        })
        .map(Self)
    }

    pub(super) fn follow(&self) {
        self.0.follow();
    }

    /// Signs a call, by the machine's own clock: whoever verifies compares it with theirs, and a log whose clock was once
    /// ahead must not make every call look stale.
    pub(super) fn sign(&self, call: &Call, body: &[u8], headers: &mut HeaderMap) -> Option<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let now = i64::try_from(now).ok()?;
        let id = signature::id(&call.gid, call.branch.as_ref(), call.operation);
        let signatures = signature::sign(&self.0.good(), &id, now, body);
        for (name, value) in [
            (protocol::WEBHOOK_ID, HeaderValue::try_from(id)),
            (protocol::WEBHOOK_TIMESTAMP, Ok(HeaderValue::from(now))),
            (protocol::WEBHOOK_SIGNATURE, HeaderValue::try_from(signatures)),
        ] {
            headers.insert(HeaderName::from_static(name), value.ok()?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port_and_nothing_else() {
        for (origin, url, is_of) in [
            ("https://payment.internal", "https://payment.internal:443/try", true),
            ("https://payment.internal:443/", "https://PAYMENT.internal/try?a=b", true),
            ("https://payment.internal", "http://payment.internal/try", false),
            ("https://payment.internal", "http://payment.internal:443/try", false),
            ("https://payment.internal", "https://payment.internal:8443/try", false),
            ("https://payment.internal", "https://payment.internal.evil.example/try", false),
            ("https://payment.internal", "https://evil.example/payment.internal", false),
            ("http://10.0.0.1:80", "http://10.0.0.2:80/", false),
            ("http://10.0.0.1:80", "http://10.1/", true),
            ("http://10.0.0.1:80", "http://167772161/", true),
        ] {
            let peer = Peer::new(origin).unwrap();
            assert_eq!(peer.is_of(&Url::parse(url).unwrap()), is_of, "{origin} {url}");
        }
        for bad in [
            "payment",
            "payment:80",
            "ftp://payment",
            "https://payment/tcc",
            "https://a@payment",
            "https://payment?x",
        ] {
            assert!(matches!(Peer::new(bad), Err(BadPeer::Origin(_))), "{bad}");
        }
        for bad in ["", "a b", "Host", "Tcc-Gid", "webhook-signature", "content-length", "traceparent"] {
            let with = Peer::new("http://a").unwrap().with_header(bad, Path::new("/none"));
            assert!(matches!(with, Err(BadPeer::Header(_))), "{bad}");
        }
    }
}
