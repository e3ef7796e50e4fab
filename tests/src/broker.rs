//! Brokers for tests that kill them: each its own, on a port and in a folder of its own, gone with this process however it
//! ends.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::postgres::{output, skipped, user_named};

/// A broker that can be killed, and started again on what it has kept.
#[derive(Debug)]
pub struct Broker {
    port: u16,
    folder: String,
    watchdog: Child,
    orders: ChildStdin,
    done: BufReader<ChildStdout>,
    /// What has to be there as long as it, and is not killed with it.
    beside: Option<Box<Self>>,
}

/// What a slow machine that does something else may need to start one.
const START: Duration = Duration::from_secs(120);

impl Broker {
    /// A RabbitMQ; or `None` where it is not installed, after [`skipped`] has said so.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    pub fn rabbitmq() -> Option<Self> {
        let server = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        let (true, Some(epmd)) = (server.exists(), installed("epmd")) else {
            skipped("RabbitMQ is not installed (no /usr/lib/rabbitmq/bin/rabbitmq-server, or no epmd)");
            return None;
        };
        let [port, names, peers] = [(); 3].map(|()| free_port());
        let epmd = format!("exec {} -address 127.0.0.1 -port {names}", epmd.display());
        let names_served = Self::start_new("epmd", names, &epmd);
        let settings = [
            "HOME=$PWD".to_owned(),
            format!("ERL_EPMD_PORT={names} ERL_EPMD_ADDRESS=127.0.0.1"),
            format!("RABBITMQ_NODENAME=tcc{port}@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1"),
            format!("RABBITMQ_NODE_PORT={port} RABBITMQ_DIST_PORT={peers}"),
            "RABBITMQ_MNESIA_BASE=$PWD/data RABBITMQ_LOG_BASE=$PWD/logs RABBITMQ_LOGS=-".to_owned(),
            "RABBITMQ_PID_FILE=$PWD/pid RABBITMQ_ENABLED_PLUGINS_FILE=$PWD/plugins".to_owned(),
            "RABBITMQ_CONFIG_FILE=$PWD/none RABBITMQ_CONF_ENV_FILE=$PWD/none".to_owned(),
            // So that it takes the place of the shell, and is what is killed.
            "RUNNING_UNDER_SYSTEMD=true".to_owned(),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'".to_owned(),
        ];
        let command = format!("exec env {} {}", settings.join(" "), server.display());
        let mut broker = Self::start_new("rabbitmq", port, &command);
        broker.beside = Some(Box::new(names_served));
        Some(broker)
    }

    /// A Kafka, for this user and password alone if there are any; or `None` where it is not installed, after [`skipped`]
    /// has said so.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    pub fn kafka(login: Option<(&str, &str)>) -> Option<Self> {
        let java = java("kafka")?;
        let [port, controller] = [(); 2].map(|()| free_port());
        let clients = if login.is_some() { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
        let mut settings = vec![
            "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLS".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=CLIENTS://127.0.0.1:{port},CONTROLS://127.0.0.1:{controller}"),
            format!("listener.security.protocol.map=CLIENTS:{clients},CONTROLS:PLAINTEXT"),
            format!("advertised.listeners=CLIENTS://127.0.0.1:{port}\ninter.broker.listener.name=CLIENTS"),
            "auto.create.topics.enable=false\noffsets.topic.replication.factor=1\nlog.dirs=data".to_owned(),
        ];
        if let Some((user, password)) = login {
            let module = "org.apache.kafka.common.security.plain.PlainLoginModule required";
            let who = format!("username=\"{user}\" password=\"{password}\" user_{user}=\"{password}\";");
            settings.push(format!("listener.name.clients.plain.sasl.jaas.config={module} {who}"));
            settings
                .push("sasl.enabled.mechanisms=PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN".to_owned());
        }
        let format = "kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAA -c settings";
        let settings = written("settings", &settings);
        let command = format!(
            "[ -d data ] || {{ {settings} && {java} {format}; }} && exec {java} kafka.Kafka settings"
        );
        Some(Self::start_new("kafka", port, &command))
    }

    /// A RocketMQ, for this user and password alone if there are any, and its name server [beside](Self::beside) it; or
    /// `None` where it is not installed, after [`skipped`] has said so.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    pub fn rocketmq(login: Option<(&str, &str)>) -> Option<Self> {
        let java = java("rocketmq")?;
        // On a disk that is nearly full it would take nothing.
        let java =
            java.replace(" -cp", " -Duser.home=. -Drocketmq.broker.diskSpaceWarningLevelRatio=0.99 -cp");
        let start = |settings: &[String], class: &str| {
            let settings = written("settings", settings);
            format!("{settings} && ROCKETMQ_HOME=$PWD exec {java} org.apache.rocketmq.{class} -c settings")
        };
        // It listens two below its port as well.
        let rows = std::iter::repeat_with(|| [(); 3].map(|()| free_port()));
        let in_a_row = |[below, names, port]: &[u16; 3]| below + 1 == *names && names + 1 == *port;
        let [_, names, port] = rows.take(1000).find(in_a_row).expect("three free ports in a row");
        let replicas = free_port();
        let settings = [format!("listenPort={names}\nbindAddress=127.0.0.1")];
        let beside = Self::start_new("names", names, &start(&settings, "namesrv.NamesrvStartup"));
        let mut settings = vec![
            format!("listenPort={port}\nhaListenPort={replicas}\nbindAddress=127.0.0.1\nbrokerIP1=127.0.0.1"),
            format!("namesrvAddr=127.0.0.1:{names}\nbrokerName=tcc\nbrokerId=0\nautoCreateTopicEnable=false"),
            "storePathRootDir=data\nstorePathCommitLog=data/log\nmappedFileSizeCommitLog=16777216".to_owned(),
            "flushDiskType=SYNC_FLUSH\ndiskMaxUsedSpaceRatio=99".to_owned(),
        ];
        if let Some((user, password)) = login {
            let provider = "org.apache.rocketmq.auth.authentication.provider";
            settings.extend([
                format!("authenticationEnabled=true\nauthenticationProvider={provider}.DefaultAuthenticationProvider"),
                format!("authenticationMetadataProvider={provider}.LocalAuthenticationMetadataProvider"),
                format!("initAuthenticationUser={{\"username\":\"{user}\",\"password\":\"{password}\"}}"),
                format!(
                    "innerClientAuthenticationCredentials={{\"accessKey\":\"{user}\",\"secretKey\":\"{password}\"}}"
                ),
            ]);
        }
        let mut broker = Self::start_new("rocketmq", port, &start(&settings, "broker.BrokerStartup"));
        broker.beside = Some(Box::new(beside));
        Some(broker)
    }

    /// An ActiveMQ that speaks AMQP 1.0; or `None` where it is not installed, after [`skipped`] has said so.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    pub fn activemq() -> Option<Self> {
        let java = java("activemq")?;
        let port = free_port();
        let broker = format!(
            "broker:(amqp://127.0.0.1:{port})?brokerName=tcc&dataDirectory=data&useJmx=false&useShutdownHook=false"
        );
        let command = format!("exec {java} org.apache.activemq.console.Main start '{broker}'");
        Some(Self::start_new("activemq", port, &command))
    }

    /// A NATS with JetStream and these flags beside those it needs; or `None` where it is not installed, after [`skipped`]
    /// has said so.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    pub fn nats(more: &str) -> Option<Self> {
        let Some(server) = installed("nats-server") else {
            skipped("NATS is not installed (no nats-server in PATH or sbin)");
            return None;
        };
        let port = free_port();
        let command = format!("exec {} -a 127.0.0.1 -p {port} -js -sd $PWD/data {more}", server.display());
        Some(Self::start_new("nats", port, &command))
    }

    /// A Redis that keeps everything before it answers; or `None` where it is not installed, after [`skipped`] has said
    /// so.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    pub fn redis() -> Option<Self> {
        let Some(server) = installed("redis-server") else {
            skipped("Redis is not installed (no redis-server in PATH)");
            return None;
        };
        let port = free_port();
        let command = format!(
            "exec {} --bind 127.0.0.1 --port {port} --save '' --appendonly yes --appendfsync always",
            server.display()
        );
        Some(Self::start_new("broker-redis", port, &command))
    }

    /// Where it listens, whether it runs or not.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What has to be there for it.
    ///
    /// # Panics
    /// When it needs nothing.
    #[must_use]
    pub fn beside(&self) -> &Self {
        self.beside.as_ref().expect("it needs something")
    }

    /// Has it do nothing any more, with every connection left as it is (SIGSTOP).
    ///
    /// # Panics
    /// When it is not there.
    pub fn pause(&mut self) {
        self.order("pause");
    }

    /// Has it go on after a pause.
    ///
    /// # Panics
    /// When it is not there.
    pub fn resume(&mut self) {
        self.order("resume");
    }

    /// Ends it as a power cut of the process would (SIGKILL).
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill(&mut self) {
        self.order("kill");
    }

    /// Starts it again on what it has kept, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        self.order("start");
        let by = Instant::now() + START;
        while TcpStream::connect(self.address()).is_err() {
            let ended = self.watchdog.try_wait().expect("a child can be waited for");
            assert!(ended.is_none() && Instant::now() < by, "it did not start:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it said of itself.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(format!("{}/log", self.folder)).unwrap_or_default()
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn order(&mut self, word: &str) {
        writeln!(self.orders, "{word}").expect("the watchdog reads");
        let mut line = String::new();
        self.done.read_line(&mut line).expect("the watchdog answers");
        assert_eq!(line.trim(), word, "{}", self.log());
    }

    fn start_new(name: &str, port: u16, command: &str) -> Self {
        let mut folder = user_named("nobody", Path::new("mktemp"));
        let folder = output(folder.args(["-d", "-p"]).arg(env::temp_dir()).arg(format!("tcc-{name}.XXXXXX")));
        let mut watchdog = watch(&folder, command);
        let orders = watchdog.stdin.take().expect("it is piped");
        let done = BufReader::new(watchdog.stdout.take().expect("it is piped"));
        let mut broker = Self { port, folder, watchdog, orders, done, beside: None };
        broker.start();
        broker
    }
}

/// Starts and kills the broker as it is told to, and leaves nothing behind whenever this process is killed.
fn watch(folder: &str, command: &str) -> Child {
    let script = r#"
        trap '' INT TERM HUP
        cd "$1" && chmod 755 . || exit
        while read -r word; do
            case $word in
            start) sh -c "$2" </dev/null >>log 2>&1 & ;;
            kill) kill -9 $! && wait $! 2>/dev/null ;;
            pause) kill -STOP $! ;;
            resume) kill -CONT $! ;;
            esac
            echo $word
        done
        kill -9 $!
        wait
        cd / && rm -rf "$1""#;
    user_named("nobody", Path::new("sh"))
        .args(["-c", script, "watchdog", folder, command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}

/// What runs a class of a broker that is made of jars; or `None` where there is none of it, after [`skipped`] has said so.
fn java(broker: &str) -> Option<String> {
    let jars = env::var("TCC_JARS").map(|jars| format!("{jars}/{broker}")).ok();
    let (Some(jars), Some(java)) = (jars.filter(|jars| Path::new(jars).exists()), installed("java")) else {
        skipped(&format!(
            "{broker} is not installed (no folder of its jars in TCC_JARS, or no java in PATH)"
        ));
        return None;
    };
    let frugal = "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1";
    Some(format!("{} {frugal} -cp '{jars}/*'", java.display()))
}

/// What writes a file of these lines.
fn written(file: &str, lines: &[String]) -> String {
    format!("printf '{}\\n' >{file}", lines.join("\n").replace('\n', "\\n"))
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    // Not in the PATH of all users.
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.iter().map(|folder| folder.join(program)).find(|program| program.exists())
}

/// A port that nobody listens on, below those that systems hand out by themselves: one that is killed finds its own free
/// when it starts again.
fn free_port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 20_000).expect("it is small");
    let ports = std::iter::repeat_with(|| ASKED.fetch_add(1, Ordering::Relaxed));
    let mut ports = ports.take(20_000).map(|asked| 10_240 + first.wrapping_add(asked) % 20_000);
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a port is free")
}
