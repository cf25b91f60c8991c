//! Partial settings from one source, and their merge. Each value keeps its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::lines::{self, Lines, text_of};
use super::problem::{Place, Problem, SettingsError};
use super::{FIELDS, Field};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// A line of a file.
    File {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// Nobody gave one.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Environment => f.write_str("environment"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// Some of a node's settings, as texts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Partial {
    given: BTreeMap<&'static str, (String, Origin)>,
    /// Of the `node.toml`, when there is one.
    lines: Option<Lines>,
}

/// `node.toml` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    node: Option<String>,
    data_dir: Option<String>,
    topology: Option<String>,
    listen: Option<String>,
    peer_listen: Option<String>,
    metrics_listen: Option<String>,
    engine: Option<String>,
    log_format: Option<String>,
    log_level: Option<String>,
    reflection: Option<bool>,
    dial: Option<BTreeMap<String, String>>,
}

impl Partial {
    /// The values nobody needs to give.
    pub fn defaults() -> Partial {
        let given = FIELDS.iter().filter_map(|field| {
            let default = field.default?.to_owned();
            Some((field.name, (default, Origin::Default)))
        });
        Partial {
            given: given.collect(),
            lines: None,
        }
    }

    /// Values given on the command line, by the names of [`FIELDS`].
    ///
    /// # Errors
    /// [`SettingsError`] for a name that is no setting.
    pub fn flags<'a>(
        flags: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<Partial, SettingsError> {
        let mut partial = Partial::default();
        for (name, value) in flags {
            let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
                let what = "there is no such setting";
                let known = FIELDS.map(|field| field.name).join(", ");
                let problem = Problem::new(name, what, format!("the settings are {known}"));
                return Err(problem.at(Place::Flag(flag(name))).into());
            };
            partial.given.insert(field.name, (value, Origin::Flag));
        }
        Ok(partial)
    }

    /// Values given by the environment. Variables that are no setting are left alone: clients use the same
    /// prefix.
    pub fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Partial {
        let mut partial = Partial::default();
        for (name, value) in variables {
            if let Some(field) = FIELDS.iter().find(|field| field.environment == name) {
                let given = (value, Origin::Environment);
                partial.given.insert(field.name, given);
            }
        }
        partial
    }

    /// Values given by a `node.toml`.
    ///
    /// # Errors
    /// [`SettingsError`] when it can not be read, or is no TOML, or has an unknown field.
    pub fn file(path: &Path) -> Result<Partial, SettingsError> {
        let advice = "name a readable file; `hansa config init` writes one";
        let named = Place::Flag("--config".to_owned());
        let text = text_of(path, |what| Problem::new("", what, advice).at(named))?;
        Partial::file_text(path, &text)
    }

    /// Values given by the text of a `node.toml`; `path` is used in messages and to resolve paths.
    ///
    /// # Errors
    /// [`SettingsError`] when it is no TOML or has an unknown field.
    pub fn file_text(path: &Path, text: &str) -> Result<Partial, SettingsError> {
        let (file, lines) = lines::read::<NodeFile>(path, text)?;
        let mut partial = Partial::default();
        let mut take = |name, value: Option<String>| {
            if let Some(value) = value {
                let (path, line) = (path.to_owned(), lines.line(name));
                partial
                    .given
                    .insert(name, (value, Origin::File { path, line }));
            }
        };
        take("node", file.node);
        take("data_dir", file.data_dir);
        take("topology", file.topology);
        take("listen", file.listen);
        take("peer_listen", file.peer_listen);
        take("metrics_listen", file.metrics_listen);
        take("engine", file.engine);
        take("log_format", file.log_format);
        take("log_level", file.log_level);
        let switch = |on: bool| (if on { "on" } else { "off" }).to_owned();
        take("reflection", file.reflection.map(switch));
        let dial = file.dial.map(|dial| one_text(&dial, &lines)).transpose()?;
        take("dial", dial);
        partial.lines = Some(lines);
        Ok(partial)
    }

    /// These values, and `lower`'s where these have none.
    pub fn over(mut self, lower: Partial) -> Partial {
        for (name, given) in lower.given {
            self.given.entry(name).or_insert(given);
        }
        self.lines = self.lines.or(lower.lines);
        self
    }

    /// Name, text and origin of each value, in the order of [`FIELDS`].
    pub fn origins(&self) -> Vec<(&'static str, String, Origin)> {
        let one = |field: &Field| {
            let (text, origin) = self.given.get(field.name)?;
            Some((field.name, text.clone(), origin.clone()))
        };
        FIELDS.iter().filter_map(one).collect()
    }

    /// A value's text.
    ///
    /// # Errors
    /// [`SettingsError`] when nobody gave it.
    pub(super) fn text(&self, name: &'static str) -> Result<&str, SettingsError> {
        if let Some((text, _)) = self.given.get(name) {
            return Ok(text);
        }
        let advice = format!(
            "give {}, set {}, or write it into node.toml",
            flag(name),
            environment(name)
        );
        let problem = Problem::new(name, "is missing", advice);
        Err(problem.at(self.place(name)).into())
    }

    /// A value.
    ///
    /// # Errors
    /// [`SettingsError`] when nobody gave it or it can not be understood.
    pub(super) fn parse<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
        advice: &str,
    ) -> Result<T, SettingsError> {
        let text = self.text(name)?;
        text.parse().map_err(|error: T::Err| {
            let what = format!("`{text}`: {error}");
            Problem::new(name, what, advice).at(self.place(name)).into()
        })
    }

    /// A path, relative to the file that gave it.
    ///
    /// # Errors
    /// [`SettingsError`] when nobody gave it, or it is empty.
    pub(super) fn path(&self, name: &'static str) -> Result<PathBuf, SettingsError> {
        let text = self.text(name)?;
        if text.is_empty() {
            let problem = Problem::new(name, "is empty", "write a path");
            return Err(problem.at(self.place(name)).into());
        }
        Ok(match self.given.get(name) {
            Some((_, Origin::File { path, .. })) => match path.parent() {
                Some(folder) => folder.join(text),
                None => PathBuf::from(text),
            },
            _ => PathBuf::from(text),
        })
    }

    /// Where a value stands, or one inside it like `dial.NAME`; for one that nobody gave, where it belongs in
    /// the file.
    pub(super) fn place(&self, field: &str) -> Place {
        let name = field.split('.').next().unwrap_or(field);
        match self.given.get(name) {
            Some((_, Origin::Flag)) => Place::Flag(flag(name)),
            Some((_, Origin::Environment)) => Place::Environment(environment(name).to_owned()),
            Some((_, Origin::File { .. })) | None => self.place_in_file(field),
            Some((_, Origin::Default)) => Place::Unknown,
        }
    }

    /// Where a value stands or belongs in the file, if there is one.
    pub(super) fn place_in_file(&self, field: &str) -> Place {
        let lines = self.lines.as_ref();
        lines.map(|lines| lines.place(field)).unwrap_or_default()
    }
}

/// The addresses to dial as a flag would give them.
fn one_text(dial: &BTreeMap<String, String>, lines: &Lines) -> Result<String, Problem> {
    let mut pairs = Vec::new();
    for (name, address) in dial {
        if name.contains(['=', ',']) || address.contains(',') {
            let field = format!("dial.{name}");
            let what = format!("`{name}` = `{address}` is no name and address");
            let place = lines.place(&field);
            return Err(Problem::new(field, what, "write NAME = \"host:port\"").at(place));
        }
        pairs.push(format!("{name}={address}"));
    }
    Ok(pairs.join(","))
}

fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

fn environment(name: &str) -> &'static str {
    let field = FIELDS.iter().find(|field| field.name == name);
    field.map_or("", |field| field.environment)
}
