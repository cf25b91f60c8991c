//! `hansa config`: a node's settings, checked, shown, or written with every one explained.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use hansa_node::settings::{
    Loaded, NODE_EXAMPLE, Origin, Partial, Settings, SettingsError, TOPOLOGY_EXAMPLE,
};
use serde_json::json;

use crate::args::{ConfigCommand, NodeArgs, Printing};
use crate::exit::{Code, Failure};
use crate::hint::invocation;
use crate::output::{Output, bytes};

/// Flag over environment over file over default.
pub(crate) fn load(args: &NodeArgs) -> Result<Loaded, Failure> {
    let wrong = |error: SettingsError| Failure::local(error.to_string());
    let flags = Partial::flags(args.flags()).map_err(wrong)?;
    // A variable that is no text can be no setting of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = Partial::environment(variables);
    let file = match &args.config {
        Some(path) => Partial::file(path).map_err(wrong)?,
        None => Partial::default(),
    };
    Settings::load(flags, environment, file).map_err(wrong)
}

/// Runs one command.
pub(crate) fn run(printing: Printing, command: ConfigCommand) -> Result<Code, Failure> {
    let output = Output::new(printing.format);
    match command {
        ConfigCommand::Check(args) => {
            let settings = load(&args)?.settings;
            let topology = &settings.topology;
            let regions = topology.regions.len();
            let line = format!(
                "ok: node {} of cluster {}, {regions} regions, {} keyspaces\n",
                settings.node,
                topology.cluster_id,
                topology.keyspaces.len()
            );
            match output.is_json() {
                true => output.json(&json!({"ok": true, "node": settings.node}))?,
                false => output.value(line.as_bytes())?,
            }
        }
        ConfigCommand::Show(args) => show(output, &load(&args)?)?,
        ConfigCommand::Init { print: true, .. } => {
            bytes(
                format!("# node.toml\n{NODE_EXAMPLE}\n# topology.toml\n{TOPOLOGY_EXAMPLE}")
                    .as_bytes(),
            )?;
        }
        ConfigCommand::Init { directory, .. } => init(output, &directory)?,
    }
    Ok(Code::Ok)
}

/// Name, text and origin of a setting.
type Origined = (&'static str, String, Origin);

fn show(output: Output, loaded: &Loaded) -> Result<(), Failure> {
    if output.is_json() {
        let one = |(name, text, origin): &Origined| json!({"setting": name, "value": text, "origin": origin.to_string()});
        let all: Vec<_> = loaded.origins.iter().map(one).collect();
        return output.json(&json!({"settings": all}));
    }
    let row = |(name, text, origin): &Origined| {
        vec![(*name).to_owned(), text.clone(), origin.to_string()]
    };
    let rows: Vec<_> = loaded.origins.iter().map(row).collect();
    output.rows(&["setting", "value", "origin"], &rows)
}

/// Writes both files, or neither if one is there already.
fn init(output: Output, directory: &Path) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: std::io::Error| Failure::local(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let files = [
        ("node.toml", NODE_EXAMPLE),
        ("topology.toml", TOPOLOGY_EXAMPLE),
    ];
    if let Some((name, _)) = files.iter().find(|(name, _)| directory.join(name).exists()) {
        let path = directory.join(name);
        let advice = "is there already: name another directory, or use --print";
        return Err(Failure::local(format!("{} {advice}", path.display())));
    }
    for (name, text) in files {
        let path = directory.join(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| failed(&path, error))?;
    }
    let node = directory.join("node.toml");
    let text = format!(
        "wrote {} and {}\nnext: edit them, then `{} config check --config {}`\n",
        node.display(),
        directory.join("topology.toml").display(),
        invocation(),
        node.display()
    );
    output.value(text.as_bytes()).map_err(Failure::afterwards)
}
