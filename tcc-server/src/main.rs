//! The coordinator as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    tcc_server::cli::main(std::env::args_os())
}
