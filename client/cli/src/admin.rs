//! `hansa admin cut|heal`: the links of a running demo.

use hansa_client::Admin;
use hansa_client::admin::{LinkDirection, LinkState};
use serde_json::json;

use crate::args::{AdminCommand, Direction, LinkArgs, Patience, Printing};
use crate::connect::endpoint;
use crate::exit::{Code, Failure, LINKS, told};
use crate::output::Output;

/// Runs one command.
pub(crate) async fn run(
    printing: Printing,
    patience: Patience,
    command: AdminCommand,
) -> Result<Code, Failure> {
    let (
        state,
        done,
        LinkArgs {
            name,
            direction,
            admin,
        },
    ) = match command {
        AdminCommand::Cut(args) => (LinkState::Cut, "cut", args),
        AdminCommand::Heal(args) => (LinkState::Healed, "healed", args),
    };
    let direction = match direction {
        Direction::Both => LinkDirection::Unspecified,
        Direction::In => LinkDirection::Inbound,
        Direction::Out => LinkDirection::Outbound,
    };
    let (_, url) = endpoint(&admin);
    let failed = |error| Failure::Call(error, LINKS.to_owned());
    let admin = Admin::connect(&url, patience.timeout)
        .await
        .map_err(failed)?;
    let changed = admin.set_link(&name, state, direction).await;
    let links = changed.map_err(failed)?;
    let output = Output::new(printing.format);
    let printed = if output.is_json() {
        output.json(&json!({"region": name, "state": done, "links": links}))
    } else {
        output.value(format!("{done} {name}: {links} links\n").as_bytes())
    };
    told(printed.map_err(Failure::afterwards), Code::Ok)
}
