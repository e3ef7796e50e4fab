//! The configuration: what goes before what, how each mistake is told, and that the docs list all of it.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use tcc_tests::Process;
use tempfile::TempDir;

use crate::command_line::{command, output};

/// A directory with a configuration file.
fn with_file(text: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("tcc.toml"), text).expect("a file");
    directory
}

async fn config(directory: &Path, look: &str, flags: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = command(directory);
    output(command.args(["config", look]).args(flags).envs(environment.iter().copied())).await
}

/// Starts it, and only looks, with this file; checks that both times it names the mistake and does nothing else.
pub(crate) async fn file_refused(text: &str, words: &[&str]) {
    let directory = with_file(text);
    let file = ["--config", "tcc.toml"];
    for output in [
        config(directory.path(), "check", &file, &[]).await,
        output(command(directory.path()).args(file)).await,
    ] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert_eq!(said.lines().count(), 1, "{text}: {said}");
        for word in words {
            assert!(said.contains(word), "{text}: {word:?} is not in {said:?}");
        }
        assert!(output.stdout.is_empty(), "{text}");
    }
    let made: Vec<_> = directory.path().read_dir().expect("it is there").collect();
    assert_eq!(made.len(), 1, "{made:?}");
}

#[tokio::test]
async fn a_mistake_in_the_file_is_told_with_its_place_and_its_key() {
    for (text, words) in [
        ("retention = \"soon\"", &["tcc.toml:1:13: retention", "soon"][..]),
        ("\n\n  retentoin = \"7d\"\n", &["tcc.toml:3:3", "\"retentoin\""]),
        ("call_timeout = \"7s\"", &["tcc.toml:1:1", "\"call_timeout\"", "call-timeout"]),
        ("config = \"tcc.toml\"", &["tcc.toml:1:1", "\"config\""]),
        ("[coordinator]\nretention = \"7d\"", &["tcc.toml:1:2", "\"coordinator\""]),
        ("db = 5", &["tcc.toml:1:6: db", "text"]),
        ("per-destination = \"5\"", &["tcc.toml:1:19: per-destination", "number"]),
        ("per-destination = 0", &["tcc.toml:1:19: per-destination", "0"]),
        ("insecure = \"yes\"", &["tcc.toml:1:12: insecure", "true or false"]),
        ("allow = \"10.0.0.0/8\"", &["tcc.toml:1:9: allow", "list"]),
        ("allow = [\"10.0.0.0/99\"]", &["tcc.toml:1:9: allow", "10.0.0.0/99"]),
        ("call-timeout = \"2m\"", &["tcc.toml:1:16: call-timeout", "2m"]),
        ("remember = \"1d\"", &["tcc.toml:1:12: remember", "1day"]),
        ("listen = \"0.0.0.0:0\"", &["tcc.toml:1:10: listen", "--token-file"]),
        ("alert-url = \"http://169.254.169.254/\"", &["tcc.toml:1:13: alert-url", "never called"]),
        ("token-file = \"none\"", &["tcc.toml:1:14: token-file", "none"]),
        ("retention = \"1d\"\nretention = \"2d\"", &["tcc.toml:2:1", "duplicate"]),
        ("retention = \"1d", &["tcc.toml:1:"]),
    ] {
        file_refused(text, words).await;
    }
    let nothing = tempfile::tempdir().expect("a directory");
    let missing = config(nothing.path(), "check", &["--config", "none.toml"], &[]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("none.toml"));
}

#[tokio::test]
async fn a_wrong_value_is_told_even_where_a_flag_goes_before_it() {
    let directory = with_file("drain = \"long\"");
    let output = config(directory.path(), "check", &["--config", "tcc.toml", "--drain", "1s"], &[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tcc.toml:1:9: drain"));
}

#[tokio::test]
async fn a_flag_goes_before_a_variable_a_variable_before_the_file_and_the_file_before_the_default() {
    let all = "retention = \"1d\"\ndrain = \"1s\"\ncall-timeout = \"1s\"\nper-destination = 7\ninsecure = true\n\
               allow = [\"10.0.0.0/8\", \"stock:80\"]\n";
    let directory = with_file(all);
    let flags = ["--retention", "3d", "--call-timeout=3s"];
    let environment =
        [("TCC_CONFIG", "tcc.toml"), ("TCC_RETENTION", "2d"), ("TCC_DRAIN", "2s"), ("TCC_INSECURE", "off")];
    let printed = config(directory.path(), "print", &flags, &environment).await;
    let printed = String::from_utf8(printed.stdout).expect("text");
    for line in [
        "retention = \"3d\" # --retention",
        "call-timeout = \"3s\" # --call-timeout",
        "drain = \"2s\" # TCC_DRAIN",
        "insecure = false # TCC_INSECURE",
        "per-destination = 7 # tcc.toml:4:19",
        "allow = [\"10.0.0.0/8\", \"stock:80\"] # tcc.toml:6:9",
        "remember = \"30d\" # default",
        "# token-file is not set",
    ] {
        let found =
            printed.lines().any(|printed| printed.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        assert!(found, "{line:?} is not in\n{printed}");
    }
    // What is printed says the same.
    std::fs::write(directory.path().join("tcc.toml"), &printed).expect("a file");
    let again = config(directory.path(), "print", &["--config", "tcc.toml"], &[]).await;
    let settings = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim().to_owned()).collect()
    };
    assert_eq!(settings(&String::from_utf8_lossy(&again.stdout)), settings(&printed));
}

#[tokio::test]
async fn it_runs_by_its_file_and_looking_at_it_opens_nothing() {
    let directory = with_file("db = \"of-the-file.db\"\nlisten = \"127.0.0.1:0\"\n");
    let checked = config(directory.path(), "check", &["--config", "tcc.toml"], &[]).await;
    assert_eq!((checked.status.code(), &*checked.stdout), (Some(0), &b"ok\n"[..]));
    assert!(!directory.path().join("of-the-file.db").exists());
    let mut command = command(directory.path());
    command.args(["--config", "tcc.toml"]);
    let process = Process::start(&mut command, &directory.path().join("log")).await.expect("it starts");
    assert!(process.address().ip().is_loopback());
    assert!(directory.path().join("of-the-file.db").exists());
}

fn docs() -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    std::fs::read_to_string(docs).expect("it is there")
}

#[tokio::test]
async fn the_files_in_the_docs_are_ones_that_are_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, secret) in [
        ("token", "a-token-of-thirty-two-characters"),
        ("payment.authorization", "Bearer something"),
        ("payment.keys", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, secret).expect("a file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    }
    let (docs, mut files) = (docs(), 0);
    for file in docs.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let file = file.replace("/etc/tcc", directory.path().to_str().expect("text"));
        std::fs::write(directory.path().join("tcc.toml"), &file).expect("a file");
        let checked = config(directory.path(), "check", &["--config", "tcc.toml"], &[]).await;
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!((checked.status.code(), &*said), (Some(0), ""), "{file}");
        files += 1;
    }
    assert!(files >= 2, "{files}");
}

#[tokio::test]
async fn the_docs_list_every_key_of_a_destination() {
    let directory = with_file("[destinations.\"http://a\"]\nx = 1");
    let refused = config(directory.path(), "check", &["--config", "tcc.toml"], &[]).await;
    let said = String::from_utf8(refused.stderr).expect("text");
    let known: BTreeSet<&str> = between(&said, "there are ", "\n").expect("the keys").split(", ").collect();
    let docs = docs();
    let section = between(&docs, "\n## Destinations\n", "\n## ").expect("a section");
    let listed: BTreeSet<&str> = section.lines().filter_map(|line| between(line, "| `", "` |")).collect();
    assert_eq!(listed, known);
}

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split(before).nth(1)?.split(after).next()
}

#[tokio::test]
async fn the_docs_list_every_flag_its_variable_its_key_and_its_default() {
    let directory = tempfile::tempdir().expect("a directory");
    let help = output(command(directory.path()).arg("--help")).await;
    let help = String::from_utf8(help.stdout).expect("text");
    let mut known = BTreeSet::new();
    for line in help.lines().filter(|line| line.contains("[env: ")) {
        let flag = line.trim_start().split(' ').next().expect("a flag");
        let variable = between(line, "[env: ", "=").expect("a variable");
        let key = if flag == "--config" { String::new() } else { format!("`{}`", &flag[2..]) };
        let default = between(line, "[default: ", "]").map(|default| format!("`{default}`"));
        known.insert([format!("`{flag}`"), format!("`{variable}`"), key, default.unwrap_or_default()]);
    }
    assert!(known.len() > 12, "{help}");
    let listed: BTreeSet<[String; 4]> = docs()
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let default = cells[4];
            // Words tell what holds where there is no value.
            let default = if default.starts_with('`') && default.ends_with('`') && !default.contains(' ') {
                default
            } else {
                ""
            };
            [cells[1], cells[2], cells[3], default].map(ToOwned::to_owned)
        })
        .collect();
    assert_eq!(listed, known);
}
