//! Arguments in, exit code out.

use std::{env, process::ExitCode};

use clap::Parser;
use n4n_gateway::{cli::Cli, server::Control};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: a signal that comes while the gateway begins must not end it.
    let acts_on_signals = env::args_os().nth(1).is_some_and(|command| Cli::acts_on_signals(&command));
    let control = acts_on_signals.then(Control::begin);
    Cli::parse().run(control)
}
