//! What the configuration file of a coordinator says of brokers.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tcc_tests::Broker;

use super::{PATIENCE, write_login};

/// It ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tcc-server"))
}

/// A file that says this of a destination.
fn file(folder: &Path, at: &str, said: &str) -> PathBuf {
    let db = folder.join("tcc.db");
    let text =
        format!("db = \"{}\"\nlisten = \"127.0.0.1:0\"\n\n[destinations.\"{at}\"]\n{said}\n", db.display());
    let file = folder.join("tcc.toml");
    fs::write(&file, text).unwrap();
    file
}

fn look(what: &str, file: &Path) -> Output {
    server().args(["config", what, "--config"]).arg(file).output().unwrap()
}

#[test]
fn a_file_of_a_login_goes_to_its_broker() {
    let Some(broker) = Broker::redis() else { return };
    let redis = |said: &str| {
        let mut tcp = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.write_all(format!("{said}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answers = String::new();
        tcp.read_to_string(&mut answers).unwrap();
        answers
    };
    assert_eq!(
        redis("XGROUP CREATE orders points 0 MKSTREAM\r\nCONFIG SET requirepass secret:1"),
        "+OK\r\n+OK\r\n+OK\r\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let login = folder.path().join("login");
    write_login(&login, "default:secret:1");
    let at = format!("redis://127.0.0.1:{}", broker.port());
    let said = format!("login-file = \"{}\"", login.display());
    let file = file(folder.path(), &at, &said);
    let printed = String::from_utf8(look("print", &file).stdout).unwrap();
    assert!(printed.ends_with(&format!("\n[destinations.\"{at}\"]\n{said}\n")), "{printed}");

    let mut started = server();
    let started = started.arg("--config").arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server(started.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let body = format!(r#"{{"gid":"a","branches":[{{"id":"b","confirm":"{at}/orders"}}]}}"#);
    let head = "POST /v1/transactions?wait=end HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let head = format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""phase":"Confirmed""#), "{answer}");
    assert!(redis("AUTH secret:1\r\nXLEN orders").contains(":1\r\n"));
}

#[test]
fn what_a_file_says_wrongly_of_a_broker_is_told_in_a_line_without_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let login = folder.path().join("login");
    write_login(&login, "shop:secret");
    let of_login = format!("login-file = \"{}\"", login.display());
    let (broker, peer) = ("redis://broker.internal:6379", "https://payment.internal");
    let refuses = |at: &str, said: &str, why: &str| {
        let look = look("check", &file(folder.path(), at, said));
        let told = String::from_utf8(look.stderr).unwrap();
        assert_eq!((look.status.code(), told.lines().count()), (Some(2), 1), "{told}");
        assert!(told.contains(why) && !told.contains("secret"), "{told}");
    };
    assert!(look("check", &file(folder.path(), broker, &of_login)).status.success());
    refuses(peer, &of_login, "it is for brokers alone");
    refuses(broker, "header-files = { a = \"b\" }", "it is not for a broker");
    refuses(broker, "password = \"secret\"", "login-file");
    refuses(&format!("{broker}/orders"), &of_login, "destinations");
    fs::write(&login, "secret\n").unwrap();
    refuses(broker, &of_login, "it holds no line like user:password");
    write_login(&login, "shop:secret");
    fs::set_permissions(&login, Permissions::from_mode(0o644)).unwrap();
    refuses(broker, &of_login, "anyone on this machine can read it");
}
