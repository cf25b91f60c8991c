//! `hansa serve`: one node until a signal.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::ServeArgs;
use crate::config::load;
use crate::demo::parent_gone;
use crate::exit::{Code, Failure};

/// Serves until SIGTERM or SIGINT, then stops in bounded time. A second signal ends the process at
/// once: what was acknowledged is durable already.
pub(crate) async fn run(args: ServeArgs) -> Result<Code, Failure> {
    #[cfg(feature = "mutants")]
    break_a_rule()?;
    let mut settings = load(&args.node)?.settings;
    settings.rebuild = args.rebuild;
    hansa_node::telemetry::init(settings.log_format, &settings.log_level)
        .map_err(|error| Failure::local(error.to_string()))?;
    #[cfg(feature = "mutants")]
    hansa_node::mutant::warn();
    let listen = |kind| signal(kind).map_err(|error| Failure::Node(format!("signals: {error}")));
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let shutdown = async move {
        tokio::select! {
            () = either(&mut terminate, &mut interrupt) => {}
            () = parent_gone(), if args.parent_pipe => {}
        }
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(i32::from(Code::Refused as u8));
        });
    };
    match hansa_node::server::serve(settings, shutdown).await {
        Ok(()) => Ok(Code::Ok),
        Err(error) => Err(Failure::Node(error.to_string())),
    }
}

/// Breaks the rule that the variable `HANSA_MUTANT` names, if it is set.
///
/// # Errors
/// When there is no such rule: names all.
#[cfg(feature = "mutants")]
fn break_a_rule() -> Result<(), Failure> {
    let Some(name) = std::env::var_os("HANSA_MUTANT") else {
        return Ok(());
    };
    hansa_node::mutant::choose(&name.to_string_lossy())
        .map_err(|unknown| Failure::local(format!("HANSA_MUTANT: {unknown}")))
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
