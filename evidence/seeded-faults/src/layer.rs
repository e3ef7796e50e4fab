//! The layers of the evidence that are to catch the faults: an exact command each, with everything drawn from a
//! fixed seed where that can be said.

/// A layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    /// In a few words, for the table.
    pub(crate) what: &'static str,
    pub(crate) way: Way,
}

/// How a layer is run.
#[derive(Debug)]
pub(crate) enum Way {
    /// Tests: what `cargo test` is told to build, and the filter of those to run.
    Tests { build: &'static [&'static str], filter: &'static str },
    /// A campaign with a main function of its own: its package and its arguments.
    Campaign { package: &'static str, arguments: &'static [&'static str] },
}

const CORE: &[&str] = &["--package", "tcc-core", "--features", "contract", "--test", "it"];
const SERVER: &[&str] = &["--package", "tcc-server", "--test", "it"];
const CLIENT: &[&str] = &["--package", "tcc-client", "--features", "axum,initiator,rusqlite", "--test", "it"];
const PROCESSES: &[&str] = &["--package", "tcc-tests", "--test", "it"];
const SECURITY: &[&str] = &["--package", "tcc-security", "--test", "it"];

const fn tests(
    name: &'static str,
    what: &'static str,
    build: &'static [&'static str],
    filter: &'static str,
) -> Layer {
    Layer { name, what, way: Way::Tests { build, filter } }
}

const fn campaign(
    name: &'static str,
    what: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
) -> Layer {
    Layer { name, what, way: Way::Campaign { package, arguments } }
}

/// All layers that a fault may name.
pub(crate) static LAYERS: &[Layer] = &[
    tests("properties", "C1 to C9 as properties over random orders", CORE, "promises::"),
    tests("contract", "the contract of a store, in memory", CORE, "contract::"),
    campaign("model", "the model, every state", "tcc-model", &["--small"]),
    campaign(
        "simulator",
        "the simulator, 20,000 transactions",
        "tcc-sim",
        &["--seed", "1", "--transactions", "20000", "--threads", "2"],
    ),
    tests("coordinator", "the coordinator over a scripted store", SERVER, "coordinator::"),
    tests("parked", "a destination that takes no calls", SERVER, "parked::"),
    tests("store", "the contract of a store, in SQLite", SERVER, "store::contract::"),
    tests("batches", "group commit over a gated store", SERVER, "store::batched::"),
    campaign(
        "power-cuts",
        "power cuts, 125 with 4 images each",
        "tcc-storage",
        &["--seed", "1", "--cuts", "125", "--images", "4", "--threads", "2"],
    ),
    campaign(
        "failing-disk",
        "calls of the disk that fail",
        "tcc-storage",
        &["--seed", "1", "--inject", "--first", "2"],
    ),
    tests("guard-promises", "P1 to P6 on SQLite", CLIENT, "promises::sqlite::"),
    tests("guard-model", "the guard against its model, on SQLite", CLIENT, "model::sqlite::whatever"),
    tests("guard-faults", "the guard when its database fails", CLIENT, "faults::sqlite::"),
    tests("guard-cleaning", "old guard rows that go, on SQLite", CLIENT, "cleaning::sqlite::"),
    tests("receivers", "messages that are received, on SQLite", CLIENT, "receiver::sqlite::"),
    tests("guard-sqlite", "what is particular to SQLite", CLIENT, "sqlite::a_"),
    tests("initiator", "the initiator against a stub", CLIENT, "initiator::"),
    tests("crash-cells", "processes killed around a purge", PROCESSES, "the_purge"),
    tests("participants", "processes whose participant times out", PROCESSES, "times_out_on_its_try"),
    tests("trouble", "a log whose writes fail, in a process of its own", SERVER, "store::trouble::"),
    tests("files", "the log as a file", SERVER, "store::files::"),
    tests("guard-http", "calls over HTTP that are none", CLIENT, "http::"),
    tests("callers", "callers without the token", SECURITY, "callers::x1_"),
    tests("destinations", "addresses that must not be called", SECURITY, "destinations::"),
    tests("answers", "answers of real processes after a purge", PROCESSES, "c3_who_asks"),
];

impl Layer {
    /// The arguments of cargo that build it.
    pub(crate) fn build(&self) -> Vec<&'static str> {
        match self.way {
            Way::Tests { build, .. } => [&["test", "--no-run"], build].concat(),
            Way::Campaign { package, .. } => vec!["build", "--release", "--package", package],
        }
    }

    /// The arguments of cargo that run it.
    pub(crate) fn run(&self) -> Vec<&'static str> {
        match self.way {
            Way::Tests { build, filter } => [&["test"], build, &["--", filter]].concat(),
            Way::Campaign { package, arguments } => {
                [&["run", "--quiet", "--release", "--package", package, "--"], arguments].concat()
            }
        }
    }

    /// What it said about a fault, in a line, if it said what it had to.
    pub(crate) fn said(&self, output: &str, says: &str) -> Option<String> {
        match self.way {
            Way::Tests { .. } => {
                let failed = |line: &&str| line.starts_with("test ") && line.ends_with("FAILED");
                let line = output.lines().filter(failed).find(|line| line.contains(says))?;
                Some(line.trim_start_matches("test ").split(' ').next()?.to_owned())
            }
            Way::Campaign { .. } => {
                let line = output.lines().find(|line| line.contains(says))?;
                Some(line.trim().to_owned())
            }
        }
    }
}
