//! The coordinator as it is shipped, with crash points.

use std::process::ExitCode;

fn main() -> ExitCode {
    tcc_tests::die_with_the_test();
    tcc_server::cli::main(std::env::args_os())
}
