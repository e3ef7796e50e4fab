//! Who a broker is told this is. It stands in a file, which is read again when it changes, and is never shown.

use std::path::Path;

use url::Url;

use super::KINDS;
use super::place::Place;
use crate::files::{BadFile, Named, Watched};

/// A broker (scheme, host and port) and the user and password for it and for no other.
#[derive(Clone, Debug)]
pub struct BrokerLogin {
    scheme: &'static str,
    destination: String,
    login: Watched<(String, String)>,
}

/// Why something cannot be said of a broker.
#[derive(Debug, thiserror::Error)]
pub enum BadLogin {
    /// It is no broker that is served here.
    #[error("{0:?} is no broker that is served here, as in amqp://broker.internal:5672")]
    Broker(String),
    /// What is to be told cannot be used.
    #[error(transparent)]
    File(#[from] BadFile),
}

impl BrokerLogin {
    /// Reads a file with one line, `user:password`.
    ///
    /// # Errors
    /// When the text names no broker, or more than one; when the file cannot be read, holds something else, or everyone
    /// on the machine may read it.
    pub fn read(broker: &str, file: &Path) -> Result<Self, BadLogin> {
        let place = origin(broker).ok_or_else(|| BadLogin::Broker(broker.to_owned()))?;
        let named = file.to_owned();
        let login = Watched::read(vec![Named::Secret(file.to_owned())], move |texts| {
            let login = texts[0].trim().split_once(':').filter(|(user, _)| !user.is_empty());
            let login = login.filter(|(_, password)| !password.contains(['\n', '\r']));
            let (user, password) =
                login.ok_or_else(|| BadFile::new(&named, &"it holds no line like user:password"))?;
            Ok((user.to_owned(), password.to_owned()))
        })?;
        Ok(Self { scheme: place.scheme.name, destination: place.destination(), login })
    }

    /// What deliveries to a broker count against; `None` where the text names none that is served here.
    #[must_use]
    pub fn destination(broker: &str) -> Option<String> {
        origin(broker).map(|place| place.destination())
    }

    pub(super) fn is_of(&self, place: &Place) -> bool {
        self.scheme == place.scheme.name && self.destination == place.destination()
    }

    pub(super) fn good(&self) -> (String, String) {
        (*self.login.good()).clone()
    }

    pub(super) fn follow(&self) {
        self.login.follow();
    }
}

/// A broker by its scheme, host and port alone.
fn origin(broker: &str) -> Option<Place> {
    let url = Url::parse(broker).ok()?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none();
    Place::read(&broker.parse().ok()?, KINDS).ok().filter(|_| bare)
}
