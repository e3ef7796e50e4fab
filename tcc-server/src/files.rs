//! Files that settings name: secrets, certificates, credentials. Those that may change while the process runs are read
//! again when they do.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits;

/// Why what stands in a file cannot be used: one line that names the file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct BadFile {
    file: PathBuf,
    why: String,
}

impl BadFile {
    pub(crate) fn new(file: &Path, why: &impl ToString) -> Self {
        Self { file: file.to_owned(), why: why.to_string() }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// A file, and who may read it.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// Whoever likes.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only certificates are public"))]
    Public(PathBuf),
    /// Not everyone on the machine.
    Secret(PathBuf),
}

impl Named {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Public(path) | Self::Secret(path) => path,
        }
    }

    fn check(&self) -> Result<(), BadFile> {
        match self {
            Self::Secret(path) if is_anyones(path) => {
                Err(BadFile::new(path, &"anyone on this machine can read it; chmod o= it"))
            }
            Self::Secret(_) | Self::Public(_) => Ok(()),
        }
    }
}

/// Reads a file of text.
///
/// # Errors
/// When it cannot be read, or is no text, or too long.
pub(crate) fn text(file: &Path) -> Result<String, BadFile> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(file)?.take(limits::CONFIGURED_FILE + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text: String = read().map_err(|error: std::io::Error| BadFile::new(file, &error))?;
    if text.len() as u64 > limits::CONFIGURED_FILE {
        return Err(BadFile::new(file, &format!("it has over {} bytes", limits::CONFIGURED_FILE)));
    }
    Ok(text)
}

/// Reads a file that holds a secret.
///
/// # Errors
/// When it cannot be read or understood, and when everyone on the machine may read it.
pub(crate) fn secret<T, E: ToString>(
    file: &Path,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, BadFile> {
    let secret = parse(text(file)?.trim()).map_err(|why| BadFile::new(file, &why))?;
    Named::Secret(file.to_owned()).check()?;
    Ok(secret)
}

/// Whether every user of the machine may read a file.
#[cfg(unix)]
fn is_anyones(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
const fn is_anyones(_: &Path) -> bool {
    false
}

/// What stands in one file or several, as they were when they were last good.
pub(crate) struct Watched<T> {
    shared: Arc<Shared<T>>,
}

type Parse<T> = Box<dyn Fn(&[String]) -> Result<T, BadFile> + Send + Sync>;

struct Shared<T> {
    files: Vec<Named>,
    parse: Parse<T>,
    good: Mutex<Arc<T>>,
    /// What was read last, good or bad: of what did not change nothing new is said.
    last: Mutex<Result<Vec<String>, String>>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files, which are understood together.
    ///
    /// # Errors
    /// When they cannot be read or understood.
    pub(crate) fn read(
        files: Vec<Named>,
        parse: impl Fn(&[String]) -> Result<T, BadFile> + Send + Sync + 'static,
    ) -> Result<Self, BadFile> {
        let texts = texts(&files)?;
        let good = Mutex::new(Arc::new(parse(&texts)?));
        files.iter().try_for_each(Named::check)?;
        let shared = Shared { files, parse: Box::new(parse), good, last: Mutex::new(Ok(texts)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What they held when they were last good.
    pub(crate) fn good(&self) -> Arc<T> {
        self.shared.good.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks after them from now on, for as long as this is held. Needs a tokio runtime.
    pub(crate) fn follow(&self) {
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(limits::REREAD).await;
                let Some(shared) = shared.upgrade() else { return };
                // A file may be on a disk that hangs, which is to hold up nobody else.
                let _ = tokio::task::spawn_blocking(move || shared.look()).await;
            }
        });
    }
}

impl<T> Shared<T> {
    /// Takes up what changed. What is bad is told once, and changes nothing.
    fn look(&self) {
        let texts = texts(&self.files).and_then(|texts| {
            self.files.iter().try_for_each(Named::check)?;
            Ok(texts)
        });
        let texts = texts.map_err(|bad| bad.to_string());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == texts {
            return;
        }
        last.clone_from(&texts);
        let file = self.files.first().map_or(Path::new(""), Named::path).display();
        let parsed = texts.and_then(|texts| (self.parse)(&texts).map_err(|bad| bad.to_string()));
        match parsed {
            Ok(good) => {
                *self.good.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(good);
                tracing::info!(%file, "read again");
            }
            Err(error) => {
                tracing::error!(%error, "a changed file cannot be used; what it held before still holds")
            }
        }
    }
}

/// The certificates in a file, of which there is one at least.
#[cfg(feature = "tls")]
pub(crate) fn certificates(
    file: &Path,
    text: &str,
) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, BadFile> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err(BadFile::new(file, &"there is no certificate in it, in PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(BadFile::new(file, &error)),
    }
}

fn texts(files: &[Named]) -> Result<Vec<String>, BadFile> {
    files.iter().map(|file| text(file.path())).collect()
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// Never shows what the files hold.
impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.files.iter().map(Named::path)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_changed_is_taken_up_and_what_is_bad_changes_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let named = path.clone();
        let parse = move |texts: &[String]| {
            texts[0].trim().parse::<u32>().map_err(|error| BadFile::new(&named, &error))
        };
        let read = || Watched::read(vec![Named::Secret(path.clone())], parse.clone());
        assert!(read().is_err(), "there is none");
        write("x", 0o600);
        assert!(read().is_err());
        write("1", 0o644);
        assert!(read().unwrap_err().to_string().contains("chmod"));
        write("1", 0o600);
        let watched = read().unwrap();
        assert_eq!(*watched.good(), 1);
        for (text, mode, good) in
            [("2", 0o600, 2), ("x", 0o600, 2), ("3", 0o644, 2), ("3", 0o640, 3), ("4", 0o600, 4)]
        {
            write(text, mode);
            watched.shared.look();
            assert_eq!(*watched.good(), good, "{text} {mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
        watched.shared.look();
        assert_eq!(*watched.good(), 4, "a file that is gone changes nothing");
    }
}
