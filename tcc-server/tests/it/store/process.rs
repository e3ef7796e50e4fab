//! The other process: this test binary once more, told by its environment what to be.

use std::path::Path;
use std::process::Command;

use tcc_server::store::{OpenError, SqliteOptions, SqliteStore};

use super::trouble;

/// What the other process is.
const ROLE: &str = "TCC_TEST_ROLE";
const FILE: &str = "TCC_TEST_FILE";
/// What it prints before a line that is meant for us.
const SAYS: &str = "child says ";

/// The command, to be run as it is or under something that makes its life hard.
pub(super) fn arguments() -> Vec<std::ffi::OsString> {
    let binary = std::env::current_exe().expect("a test binary");
    let arguments = ["store::process::the_other_process", "--exact", "--nocapture", "--test-threads=1"];
    [binary.into_os_string()].into_iter().chain(arguments.map(Into::into)).collect()
}

/// Runs it and gives what it said.
pub(super) fn run(mut command: Command, role: &str, file: &Path) -> Vec<String> {
    let output = command.env(ROLE, role).env(FILE, file).output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{role}: {}\n{text}\n{errors}", output.status);
    // libtest writes the name of the test before the first line.
    text.lines().filter_map(|line| line.split_once(SAYS)).map(|(_, said)| said.to_owned()).collect()
}

pub(super) fn says(text: impl std::fmt::Display) {
    println!("{SAYS}{text}");
}

/// Does nothing unless it is the other process.
#[tokio::test]
async fn the_other_process() {
    let (Some(role), Some(file)) = (std::env::var_os(ROLE), std::env::var_os(FILE)) else { return };
    match role.to_str() {
        Some("open") => match SqliteStore::open(file, SqliteOptions::default()) {
            Ok(_) => says("opened"),
            Err(error @ OpenError::InUse { .. }) => says(format!("in use: {error}")),
            Err(error) => panic!("{error:?}"),
        },
        Some("commit until it fails") => trouble::commit_until_it_fails(file.as_ref()).await,
        role => panic!("no such role: {role:?}"),
    }
}

/// The command as it is.
pub(super) fn plain() -> Command {
    let mut arguments = arguments().into_iter();
    let mut command = Command::new(arguments.next().expect("a binary"));
    command.args(arguments);
    command
}
