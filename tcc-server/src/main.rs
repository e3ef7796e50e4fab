//! The coordinator as a process.

use std::process::ExitCode;

/// What a transaction is made of is made by one thread and let go of by another, which this one is quick at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tcc_server::cli::main(std::env::args_os())
}
