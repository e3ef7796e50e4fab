//! A copy of the workspace outside its tree, into which the faults go, and what was built of it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fault::Fault;

/// Where this crate was built from.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the root of the workspace").to_owned()
}

/// A copy, and its target directory beside it.
pub(crate) struct Scratch {
    root: PathBuf,
    /// Removes what nobody asked to keep.
    _temporary: Option<TempDir>,
}

/// What a command came to.
pub(crate) struct Ran {
    pub(crate) ended: Ended,
    pub(crate) output: String,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Green,
    Red,
    /// It was stopped.
    Hung,
}

/// Says that a directory is ours, so that nothing else is ever removed.
const MARK: &str = ".tcc-seeded-faults";

impl Scratch {
    /// Copies the sources of the workspace as they stand there now: what git has, or would have.
    pub(crate) fn copy(at: Option<PathBuf>) -> Result<Self, Box<dyn Error>> {
        let (root, temporary) = match at {
            Some(root) => (root, None),
            None => {
                let temporary = tempfile::Builder::new().prefix("tcc-seeded-faults-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        fs::create_dir_all(&root)?;
        let root = root.canonicalize()?;
        if root.starts_with(workspace()) {
            return Err("the scratch directory must be outside the workspace".into());
        }
        if !root.join(MARK).exists() {
            if fs::read_dir(&root)?.next().is_some() {
                return Err(format!("{} is neither empty nor of an earlier run", root.display()).into());
            }
            File::create(root.join(MARK))?;
        }
        let scratch = Self { root, _temporary: temporary };
        scratch.refresh()?;
        Ok(scratch)
    }

    fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    /// Writes only what differs, so that cargo builds only what has to be.
    fn refresh(&self) -> Result<(), Box<dyn Error>> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = Command::new("git").args(list).current_dir(workspace()).output()?;
        if !listed.status.success() {
            return Err("git cannot list the files of the workspace".into());
        }
        let mut kept = BTreeSet::new();
        for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
            let Ok(wanted) = fs::read(workspace().join(name)) else { continue };
            let path = self.tree().join(name);
            if fs::read(&path).ok().as_ref() != Some(&wanted) {
                fs::create_dir_all(path.parent().ok_or("a file without a directory")?)?;
                fs::write(&path, wanted)?;
            }
            kept.insert(path);
        }
        remove_all_but(&kept, &self.tree())
    }

    /// Puts a fault in. It goes when what is returned is dropped.
    pub(crate) fn put(&self, fault: &Fault) -> Result<Put, Box<dyn Error>> {
        let path = self.tree().join(fault.file);
        let sound = fs::read_to_string(&path)?;
        if sound.matches(&fault.was).count() != 1 {
            return Err(format!("what it replaces does not stand exactly once in {}", fault.file).into());
        }
        fs::write(&path, sound.replace(&fault.was, &fault.is))?;
        Ok(Put { path, sound })
    }

    /// Runs cargo in the copy, and stops it after so long.
    pub(crate) fn cargo(&self, arguments: &[&str], longest: Duration) -> Result<Ran, Box<dyn Error>> {
        let said = self.root.join("said.txt");
        let file = File::create(&said)?;
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(self.tree());
        command.env("CARGO_TARGET_DIR", self.root.join("target"));
        // What is built once for each fault must be built fast.
        for (name, value) in [("LTO", "off"), ("INCREMENTAL", "true"), ("DEBUG", "false")] {
            command.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
        }
        command.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_TERM_COLOR", "never");
        command.env("PROPTEST_RNG_SEED", "1").env("RUST_BACKTRACE", "0").env_remove("TCC_SKIPPED");
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        in_a_group(&mut command);
        let mut child = command.spawn()?;
        let end = Instant::now() + longest;
        let ended = loop {
            match child.try_wait()? {
                Some(status) if status.success() => break Ended::Green,
                Some(_) => break Ended::Red,
                None if Instant::now() >= end => {
                    end_group(child.id());
                    child.kill()?;
                    child.wait()?;
                    break Ended::Hung;
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        Ok(Ran { ended, output: String::from_utf8_lossy(&fs::read(&said)?).into_owned() })
    }
}

/// A fault that is in the copy.
pub(crate) struct Put {
    path: PathBuf,
    sound: String,
}

impl Drop for Put {
    fn drop(&mut self) {
        fs::write(&self.path, &self.sound).expect("what was written a moment ago can be written again");
    }
}

fn remove_all_but(kept: &BTreeSet<PathBuf>, folder: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_all_but(kept, &path)?;
        } else if !kept.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The tests start processes of their own, which are to go with them.
#[cfg(unix)]
fn in_a_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn in_a_group(_: &mut Command) {}

/// Without `kill` only cargo itself is ended, by its caller.
fn end_group(id: u32) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{id}")]).status();
}
