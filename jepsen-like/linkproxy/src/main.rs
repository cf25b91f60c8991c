//! `hansa-linkproxy`: one link from the command line.

#![forbid(unsafe_code)]

mod args;

use std::process::ExitCode;

use hansa_linkproxy::Link;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Arguments, USAGE};

/// Exit codes: 0 stopped by a signal, 1 could not run, 2 wrong arguments.
fn main() -> ExitCode {
    let arguments = match args::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("hansa-linkproxy: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hansa-linkproxy: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments {
        listen,
        target,
        settings,
    } = arguments;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let link = Link::start(listen, target, settings)
        .await
        .map_err(|error| format!("--listen {listen}: {error}"))?;
    println!("{} -> {}", link.local_addr(), link.target());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let counters = link.counters();
    link.shutdown().await;
    eprintln!(
        "{} connections, {} bytes forward, {} bytes backward",
        counters.accepted, counters.forward.bytes_out, counters.backward.bytes_out
    );
    Ok(())
}
