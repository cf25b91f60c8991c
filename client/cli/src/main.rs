//! The one binary `hansa`: a node (`serve`), three regions on this machine (`demo`), and everything
//! to talk to a cluster. The only place where server and SDK meet.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod config;
mod connect;
mod demo;
mod exit;
mod hint;
mod kv;
mod output;
mod serve;
mod status;
mod text;
mod usage;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Cli, Command};
use crate::exit::{Code, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::end(&error),
    };
    let output = output::Output::new(cli.command.format());
    let result = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::local(format!("can not start: {error}"))),
    };
    let code = match result {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            failure.code()
        }
    };
    ExitCode::from(code as u8)
}

async fn run(cli: Cli) -> Result<Code, Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(args).await,
        // A large future: it holds the whole demo.
        Command::Demo(args) => Box::pin(demo::run(args)).await,
        Command::Kv { options, command } => kv::run(&options, command).await,
        Command::Status(args) => status::run(&args).await,
        Command::Config { printing, command } => config::run(printing, command),
        Command::Admin {
            printing,
            patience,
            command,
        } => admin::run(printing, patience, command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hansa", &mut script);
            output::bytes(&script)?;
            Ok(Code::Ok)
        }
    }
}
