//! What must stay true of the tree itself: its layers, its files, and that the docs say what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tcc_core::answer::{Answer, Outlook, Reply, Response, Shape, judge};
use tcc_core::conformance::{ACCEPTED, CASES, CONFIRMED, PREFIX};
use tcc_core::wire::{BeginRequest, ProblemCode};
use tcc_core::{Operation, limits};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file below the root with this ending, but for what was built.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, ending, found);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    assert!(!found.is_empty(), "no file ends in {ending}");
    found
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path.as_ref())).unwrap()
}

/// The lines of a list in a manifest, without comments.
fn section(manifest: &str, name: &str) -> String {
    let after = manifest.split(&format!("[{name}]\n")).nth(1).unwrap_or_default();
    after.split("\n[").next().unwrap_or_default().to_owned()
}

#[test]
fn every_source_file_says_what_it_is_and_none_is_too_long() {
    for path in files(".rs") {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} does not begin with a //! line", path.display());
        let lines = text.lines().count();
        assert!(lines <= 520, "{} has {lines} lines; past 500 it is asking to be two", path.display());
    }
}

#[test]
fn the_core_reads_no_clock_draws_no_number_and_does_no_io() {
    for path in files(".rs") {
        let inside = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        // The suite for stores waits for what a store does, and only a store's tests link it.
        if !inside.starts_with("tcc-core/src/") || inside.starts_with("tcc-core/src/contract") {
            continue;
        }
        // An example in the docs may: it is the reader's code.
        let text = fs::read_to_string(&path).unwrap();
        let text: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in [
            "SystemTime",
            "Instant",
            "std::fs",
            "std::net",
            "std::thread",
            "tokio",
            "rand::",
            "fastrand",
            "async_std",
        ] {
            assert!(!text.contains(word), "{inside} holds {word}");
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    let core = section(&read("tcc-core/Cargo.toml"), "dependencies");
    assert!(!core.contains("tcc-") && !core.contains("tokio"), "{core}");
    let client = section(&read("tcc-client/Cargo.toml"), "dependencies");
    assert!(!client.contains("tcc-server"), "{client}");
    let server = section(&read("tcc-server/Cargo.toml"), "dependencies");
    assert!(!server.contains("tcc-client"), "{server}");
    // Inside the server: main → cli → api, scheduler → driver → coordinator.
    for (file, must_not) in [
        ("tcc-server/src/coordinator.rs", &["crate::api", "crate::scheduler", "crate::cli"][..]),
        ("tcc-server/src/driver.rs", &["crate::api", "crate::scheduler", "crate::cli"]),
        ("tcc-server/src/scheduler.rs", &["crate::api", "crate::cli"]),
        ("tcc-server/src/api/mod.rs", &["crate::driver", "crate::scheduler", "crate::store", "crate::cli"]),
    ] {
        let text = read(file);
        for module in must_not {
            assert!(!text.contains(module), "{file} uses {module}");
        }
    }
}

#[test]
fn the_docs_list_every_problem_code_and_no_other() {
    let docs = read("docs/http-api.md");
    let listed: BTreeSet<(String, String)> = docs
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (code, status) = (cells.next()?, cells.next()?);
            let code = code.strip_prefix('`')?.strip_suffix('`')?;
            status.parse::<u16>().ok()?;
            Some((code.to_owned(), status.to_owned()))
        })
        .collect();
    let known: BTreeSet<_> =
        ProblemCode::ALL.iter().map(|code| (code.as_str().to_owned(), code.status().to_string())).collect();
    assert_eq!(listed, known);
}

#[test]
fn the_docs_list_every_header_of_a_call() {
    let (docs, protocol) = (read("docs/participant-api.md").to_lowercase(), read("tcc-core/src/protocol.rs"));
    let headers: Vec<&str> =
        protocol.split("= \"tcc-").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(headers.len(), 7, "{headers:?}");
    for header in headers {
        assert!(
            docs.contains(&format!("| `tcc-{header}` |")),
            "tcc-{header} is not in docs/participant-api.md"
        );
    }
}

#[test]
fn the_docs_say_what_an_answer_means() {
    let columns = [
        (Operation::Try, Shape::Other),
        (Operation::Confirm, Shape::Other),
        (Operation::Confirm, Shape::ConfirmsOnly),
        (Operation::Check, Shape::Other),
    ];
    let mut rows = 0;
    for line in read("docs/participant-api.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, answer, said @ .., _] = &*cells else { continue };
        let (status, code) = answer.split_once(' ').unwrap_or((answer, ""));
        let Ok(status) = status.parse() else { continue };
        let body = if code.is_empty() { Vec::new() } else { br#"{"code":"refused"}"#.to_vec() };
        let meant = columns.map(|(operation, shape)| {
            let response = Response { status, retry_after: None, body: Some(body.clone()) };
            match judge(operation, shape, Answer::Response(response)) {
                Reply::Done(_) => "done",
                Reply::Pending(_) => "pending",
                Reply::Refused(_) if operation == Operation::Confirm => "attention",
                Reply::Refused(_) => "refused",
                Reply::Unknown { outlook: Outlook::Passing, .. } => "unknown",
                Reply::Unknown { outlook: Outlook::Attention, .. } => "attention",
            }
        });
        assert_eq!(*said, meant, "{answer}");
        rows += 1;
    }
    assert!(rows > 10, "{rows} answers");
}

#[test]
fn the_docs_list_every_check_and_every_flag_of_the_conformance_command() {
    let (docs, cli) = (read("docs/protocol.md"), read("tcc-server/src/cli/conformance.rs"));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let listed: Vec<_> = docs.lines().map(cells).filter(|cells| cells.len() == 5).collect();
    let checks: Vec<_> =
        CASES.iter().map(|case| (case.promise.as_str(), case.name.replace('_', " "))).collect();
    let told = |(promise, name): &(&str, String)| {
        listed.iter().any(|cells| cells[1] == *promise && cells[2] == *name)
    };
    assert!(checks.len() > 20 && checks.iter().all(told), "docs/protocol.md lists not: {checks:?}");
    let rows = listed.iter().filter(|cells| cells[1] == "answers" || cells[1].starts_with('P')).count();
    assert_eq!(rows, checks.len(), "docs/protocol.md lists others");

    let flags = cli.split("#[arg(long").skip(1).filter_map(|rest| {
        let field = rest.lines().find(|line| line.starts_with("    ") && !line.contains(")]"))?;
        Some(field.trim().split(':').next()?.replace('_', "-"))
    });
    let flags: BTreeSet<String> = flags.collect();
    let described = docs.lines().filter_map(|line| line.strip_prefix("| `--")?.split('`').next());
    assert_eq!(flags, described.map(str::to_owned).collect(), "docs/protocol.md");
    for said in
        [format!("at most {ACCEPTED} tries"), format!("{CONFIRMED} of them confirmed"), PREFIX.to_owned()]
    {
        assert!(docs.contains(&said), "docs/protocol.md does not say: {said}");
    }
}

#[test]
fn what_the_docs_show_an_initiator_is_understood() {
    for page in ["docs/protocol.md", "docs/http-api.md"] {
        let docs = read(page);
        let begin = docs.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).next();
        let begin = serde_json::from_str::<BeginRequest>(begin.expect("a body")).expect(page);
        let begin = begin.parse(|| unreachable!("it has a gid")).expect(page);
        assert_eq!((begin.gid.as_str(), begin.branches.len()), ("order/1042", 2), "{page}");
    }
}

#[test]
fn the_docs_say_how_much_is_taken() {
    let docs = read("docs/http-api.md");
    for said in [
        format!("at most {} levels deep", limits::JSON_DEPTH),
        format!("at most {} |", limits::BRANCHES),
        format!("at most {} KiB: the body of each call", limits::PAYLOAD / 1024),
        format!("over {} KiB", tcc_server::limits::BODY / 1024),
        format!(
            "over {} headers or {} KiB",
            tcc_server::limits::HEAD_LINES,
            tcc_server::limits::HEAD_BYTES / 1024
        ),
    ] {
        assert!(docs.contains(&said), "docs/http-api.md does not say: {said}");
    }
}

#[test]
fn the_docs_list_every_route() {
    let (docs, api) = (read("docs/http-api.md"), read("tcc-server/src/api/mod.rs"));
    let probes = api.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let probes = probes.map(|route| format!("GET {route}"));
    let described: serde_json::Value = serde_json::from_str(&read("docs/openapi.json")).unwrap();
    let described = described["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let routes: BTreeSet<String> = probes.chain(described).collect();
    assert!(routes.len() >= 12, "{routes:?}");
    let listed = docs.lines().filter_map(|line| line.strip_prefix("| `"));
    let methods = ["GET ", "POST ", "PUT ", "DELETE "];
    let listed = listed.filter(|line| methods.iter().any(|method| line.starts_with(method)));
    let listed: BTreeSet<String> =
        listed.filter_map(|line| Some(line.split('`').next()?.to_owned())).collect();
    assert_eq!(listed, routes, "docs/http-api.md lists other routes than there are");
}

#[test]
fn the_docs_list_every_exit_code() {
    let (docs, cli) = (read("docs/operating.md"), read("tcc-server/src/cli.rs"));
    let codes =
        cli.split("const EXIT_").skip(1).filter_map(|rest| rest.split("= ").nth(1)?.split(';').next());
    let codes: Vec<&str> = codes.chain(["0", "1"]).collect();
    assert_eq!(codes.len(), 5, "{codes:?}");
    for code in codes {
        assert!(docs.contains(&format!("\n| {code} | ")), "exit code {code} is not in docs/operating.md");
    }
}

#[test]
fn the_fault_matrix_has_every_row_and_names_tests_that_are_there() {
    let page = read("RELIABILITY.md");
    let matrix = page.split("## The fault matrix\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = matrix.lines().filter(|line| line.starts_with("| F")).collect();
    for (row, nth) in rows.iter().zip(1..) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!((cells.len(), cells[1]), (5, &*format!("F{nth}")), "{row}");
        let quoted: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        let why_not =
            ["No test: ", "Does not exist", "In `cargo sim`"].iter().any(|why| cells[3].starts_with(why));
        assert!(why_not || quoted.iter().any(|name| name.contains("::")), "F{nth} has no test and no reason");
    }
    assert_eq!(rows.len(), 45);
}

#[test]
fn reliability_names_tests_and_commands_that_are_there() {
    let (page, aliases) = (read("RELIABILITY.md"), read(".cargo/config.toml"));
    let mut tests = 0;
    for name in page.split('`').skip(1).step_by(2) {
        if let Some(command) = name.strip_prefix("cargo ") {
            let alias = command.split(' ').next().unwrap();
            let known = alias == "test" || aliases.contains(&format!("\n{alias} = "));
            assert!(known, "there is no cargo {alias}");
        } else if let Some((file, test)) = name.split_once(".rs::") {
            // A test is a function, a module that a macro makes, or a situation that a campaign counts.
            let text = read(format!("{file}.rs"));
            let named =
                [format!("fn {test}("), format!("fn {test}<"), format!("({test}:"), format!("{test},\n")];
            assert!(named.iter().any(|named| text.contains(named)), "{file}.rs has no {test}");
            tests += 1;
        }
    }
    assert!(tests > 100, "{tests} tests are named");
}

#[test]
fn links_between_the_docs_lead_somewhere() {
    for path in files(".md") {
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if target.starts_with("http") || target.is_empty() {
                continue;
            }
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{} links to {target}", path.display());
            if !anchor.is_empty() {
                let slug = |line: &str| -> String {
                    let kept = line.trim_start_matches('#').trim().to_lowercase();
                    kept.chars()
                        .filter(|c| c.is_alphanumeric() || " -".contains(*c))
                        .collect::<String>()
                        .replace(' ', "-")
                };
                let linked = fs::read_to_string(&file).unwrap();
                let headings: Vec<String> =
                    linked.lines().filter(|line| line.starts_with('#')).map(slug).collect();
                assert!(headings.iter().any(|h| h == anchor), "{} links to {target}", path.display());
            }
        }
    }
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    // Put together here, so that this file does not hold what it looks for.
    let words =
        [["#[ign", "ore"].concat(), ["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["dbg", "!("].concat()];
    for path in files(".rs") {
        let text = fs::read_to_string(&path).unwrap();
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} holds {word}", path.display());
        }
    }
}
