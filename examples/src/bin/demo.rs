//! `cargo demo`. Each of its processes is this binary too.

use std::process::ExitCode;

fn main() -> ExitCode {
    tcc_examples::demo::main(std::env::args_os().collect())
}
