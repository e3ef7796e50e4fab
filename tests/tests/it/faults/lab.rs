//! A network of its own for a test: a router, and around it a namespace each for the coordinator, the initiator and the
//! two banks. The test runs on the router, sees everybody, and cuts what it likes. Nothing in it reaches, or is reached
//! from, the network outside, and it is gone with the processes in it.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tcc_tests::skipped;

use crate::bank::Site;
use crate::world::{AMOUNT, World};

/// Set for a test that runs in its lab.
const INSIDE: &str = "TCC_TEST_LAB";

/// Makes room for what is about to be made, out of everybody's sight, and runs the test.
const PREPARE: &str = r#"
set -e
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
mount -t tmpfs tmpfs /run
ip link set lo up
shift
exec "$@"
"#;

/// Who is in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Coordinator,
    Initiator,
    First,
    Second,
}

use Node::{Coordinator, First, Initiator, Second};

impl Node {
    const fn name(self) -> &'static str {
        match self {
            Coordinator => "coordinator",
            Initiator => "initiator",
            First => "first",
            Second => "second",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Coordinator => 1,
            Initiator => 2,
            First => 3,
            Second => 4,
        }
    }

    fn network(self) -> String {
        format!("10.7.{}.0/24", self.number())
    }

    /// Its side of the link to the router.
    fn address(self) -> String {
        format!("10.7.{}.2:7000", self.number())
    }

    /// The router's side of the link.
    fn router(self) -> String {
        format!("10.7.{}.1", self.number())
    }

    fn link(self) -> String {
        format!("to-{}", self.name())
    }

    fn through(self) -> Vec<String> {
        ["ip", "netns", "exec", self.name()].map(ToOwned::to_owned).to_vec()
    }

    fn site(self) -> Site {
        let address = self.address().parse().expect("an address");
        Site { through: self.through(), address: Some(address), name: None }
    }
}

/// Runs the body of a test, a closure in its function, on the router of a new network.
pub(crate) fn run<F: AsyncFnOnce()>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.expect("a runtime").block_on(body());
    }
    let Some(way) = way() else { return skipped("no network namespace can be made (unshare, ip)") };
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("a file");
    file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    file("nsswitch.conf", "hosts: dns\n");
    let mut inside = Command::new("unshare");
    inside.args(way).args(["sh", "-c", PREPARE, "sh"]).arg(directory.path());
    // As in `it::faults::network::the_name_of_the_test::{{closure}}`.
    let test = std::any::type_name::<F>().trim_start_matches("it::").trim_end_matches("::{{closure}}");
    inside.arg(std::env::current_exe().expect("a path")).args(["--exact", test, "--nocapture"]);
    let output = inside.env(INSIDE, "1").stdin(Stdio::null()).output().expect("unshare was just run");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{test}\n{said}\n{errors}");
}

/// How a namespace can be made here: as root, or as somebody who may become root in one.
fn way() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount", "--net"], &["--map-root-user", "--mount", "--net"]];
    let script = "mount -t tmpfs tmpfs /run && ip netns add a && ip netns exec a ip link set lo up";
    ways.into_iter().find(|way| {
        let mut command = Command::new("unshare");
        command.args(*way).args(["sh", "-c", script]).stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    })
}

/// The processes and the links between them.
pub(crate) struct Lab {
    pub(crate) world: World,
}

impl Lab {
    /// With everybody at his place, and all links up.
    pub(crate) async fn new() -> Self {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a router");
        for node in [Coordinator, Initiator, First, Second] {
            let (name, link, router) = (node.name(), node.link(), node.router());
            ip(&format!("netns add {name}"));
            ip(&format!("link add {link} type veth peer name eth0 netns {name}"));
            ip(&format!("address add {router}/24 dev {link}"));
            ip(&format!("link set {link} up"));
            ip(&format!("-n {name} address add 10.7.{}.2/24 dev eth0", node.number()));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} route add default via {router}"));
        }
        let mut world = World::of(&["--insecure"], [First.site(), Second.site()]).await;
        let through = Coordinator.through();
        world.coordinator.through(&through.iter().map(|word| &**word).collect::<Vec<_>>());
        world.coordinator.listen(&Coordinator.address());
        world.coordinator.start().await;
        Self { world }
    }

    /// Loses, from now on, whatever one sends to the other; not what comes back.
    pub(crate) fn lose(from: Node, to: Node) {
        ip(&format!("rule add pref 10 iif {} to {} blackhole", from.link(), to.network()));
    }

    /// Loses what they send to each other.
    pub(crate) fn cut(one: Node, other: Node) {
        Self::lose(one, other);
        Self::lose(other, one);
    }

    /// Nothing more is lost.
    pub(crate) fn heal() {
        while Command::new("ip")
            .args(["rule", "del", "pref", "10"])
            .output()
            .is_ok_and(|o| o.status.success())
        {}
    }

    /// Pulls the plug of somebody's link, or puts it back.
    pub(crate) fn plug(node: Node, state: &str) {
        ip(&format!("link set {} {state}", node.link()));
    }

    /// Loses so many of a hundred packets, whoever sends them to whom; `false` where that cannot be done, after that was
    /// said.
    pub(crate) fn drop_packets(percent: u32) -> bool {
        let rule = format!("-A FORWARD -m statistic --mode random --probability 0.{percent:02} -j DROP");
        let dropping = Command::new("iptables").args(rule.split(' ')).output();
        let dropping = dropping.is_ok_and(|output| output.status.success());
        if !dropping {
            skipped("packets cannot be dropped at random (iptables)");
        }
        dropping
    }

    /// How many were lost so far.
    pub(crate) fn packets_dropped() -> u64 {
        let listed =
            Command::new("iptables").args(["-nvxL", "FORWARD"]).output().expect("iptables was just run");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let rule = listed.lines().find(|line| line.contains("DROP") && line.contains("statistic"));
        let packets = rule.and_then(|rule| rule.split_whitespace().next()?.parse().ok());
        packets.unwrap_or_else(|| panic!("{listed}"))
    }

    /// Has a transfer done by an initiator, and returns what it says. The banks do what `faults` says, and the
    /// initiator has the time that `times` says.
    pub(crate) fn initiate(
        &self,
        gid: &str,
        faults: &[Value; 2],
        times: Times,
    ) -> tokio::task::JoinHandle<String> {
        let account = |bank: usize| json!({"at": self.world.banks[bank].at(), "faults": faults[bank]});
        let transfer = json!({
            "coordinator": format!("http://{}", Coordinator.address()), "gid": gid, "amount": AMOUNT,
            "from": account(0), "to": account(1), "deadline_ms": times.deadline_ms,
            "request_ms": times.request_ms, "repeat_ms": times.repeat_ms, "call_ms": times.call_ms,
        });
        let words = Initiator.through();
        let mut command = tokio::process::Command::new(&words[0]);
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_initiator")).arg(transfer.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it was built with this test");
        // It ends with its standard input, which waiting for its output would close.
        let alive = child.stdin.take();
        tokio::spawn(async move {
            let output = child.wait_with_output().await.expect("it is ours to wait for");
            drop(alive);
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
    }
}

/// How long an initiator waits, for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) deadline_ms: u64,
    pub(crate) request_ms: u64,
    pub(crate) repeat_ms: u64,
    pub(crate) call_ms: u64,
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip was just run");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
