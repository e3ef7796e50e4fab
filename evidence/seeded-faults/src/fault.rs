//! The faults, read from `faults/*.faults`.
//!
//! Each begins with `# ` and its name, then says `in ` which file it goes, and `by ` which layers it is to be caught
//! and what each says then. The lines after that are a change as a diff shows it: those that begin with `-` or a
//! space stand in the file once, and give way to those that begin with `+` or a space.

use crate::layer::{LAYERS, Layer};

/// Something wrong to be put into our own code.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Where it goes, from the root of the workspace.
    pub(crate) file: &'static str,
    /// What stands there, exactly once.
    pub(crate) was: String,
    /// What takes its place.
    pub(crate) is: String,
    /// Who has to catch it; the first is its catcher, the others see it too.
    pub(crate) catches: Vec<Catch>,
}

/// A layer that turns red, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Catch {
    pub(crate) layer: &'static Layer,
    /// What is to be found in what it says: the test that fails, the promise that is broken.
    pub(crate) says: &'static str,
}

const TEXTS: [&str; 3] = [
    include_str!("../faults/core.faults"),
    include_str!("../faults/server.faults"),
    include_str!("../faults/client.faults"),
];

/// All of them.
///
/// # Panics
/// When one is not written as it should be.
pub(crate) fn all() -> Vec<Fault> {
    TEXTS.iter().flat_map(|text| text.split("\n# ").skip(1)).map(parse).collect()
}

fn parse(text: &'static str) -> Fault {
    let mut lines = text.lines();
    let name = lines.next().expect("a name");
    let mut fault = Fault { name, file: "", was: String::new(), is: String::new(), catches: Vec::new() };
    for line in lines {
        let (kind, rest) = line.split_at(line.len().min(1));
        match kind {
            "-" => push(&mut fault.was, rest),
            "+" => push(&mut fault.is, rest),
            " " => {
                push(&mut fault.was, rest);
                push(&mut fault.is, rest);
            }
            "" => {}
            _ => match line.split_once(' ') {
                Some(("in", file)) => fault.file = file,
                Some(("by", catch)) => fault.catches.push(parse_catch(name, catch)),
                _ => panic!("{name}: what is {line:?}?"),
            },
        }
    }
    assert!(!fault.file.is_empty() && !fault.was.is_empty() && !fault.catches.is_empty(), "{name}");
    fault
}

fn parse_catch(fault: &str, text: &'static str) -> Catch {
    let (layer, says) = text.split_once(": ").unwrap_or_else(|| panic!("{fault}: {text:?} says nothing"));
    let layer = LAYERS.iter().find(|known| known.name == layer);
    Catch { layer: layer.unwrap_or_else(|| panic!("{fault}: no layer for {text:?}")), says }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
