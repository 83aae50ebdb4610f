//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use n4n_gateway::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
