//! Partial settings from one source, and their merge. Each value keeps its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use super::problem::{Place, Problem, SettingsError, line_of, of_toml};
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
}

/// `node.toml` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    node: Option<Spanned<String>>,
    data_dir: Option<Spanned<String>>,
    topology: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
    peer_listen: Option<Spanned<String>>,
    metrics_listen: Option<Spanned<String>>,
    engine: Option<Spanned<String>>,
    log_format: Option<Spanned<String>>,
    log_level: Option<Spanned<String>>,
    reflection: Option<Spanned<bool>>,
    dial: Option<Spanned<BTreeMap<String, String>>>,
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
                return Err(problem.at(Place::Flag).into());
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
        let text = std::fs::read_to_string(path).map_err(|error| {
            let advice = "name a readable file; `hansa config init` writes one";
            Problem::new("", format!("can not be read: {error}"), advice).at(Place::File {
                path: path.to_owned(),
                line: None,
            })
        })?;
        Partial::file_text(path, &text)
    }

    /// Values given by the text of a `node.toml`; `path` is used in messages and to resolve paths.
    ///
    /// # Errors
    /// [`SettingsError`] when it is no TOML or has an unknown field.
    pub fn file_text(path: &Path, text: &str) -> Result<Partial, SettingsError> {
        let file: NodeFile = toml::from_str(text).map_err(|error| of_toml(path, text, &error))?;
        let mut partial = Partial::default();
        let mut take = |name, value: Option<(String, usize)>| {
            if let Some((value, start)) = value {
                let (path, line) = (path.to_owned(), line_of(text, start));
                partial
                    .given
                    .insert(name, (value, Origin::File { path, line }));
            }
        };
        let spanned = |value: Option<Spanned<String>>| {
            value.map(|value| {
                let start = value.span().start;
                (value.into_inner(), start)
            })
        };
        take("node", spanned(file.node));
        take("data_dir", spanned(file.data_dir));
        take("topology", spanned(file.topology));
        take("listen", spanned(file.listen));
        take("peer_listen", spanned(file.peer_listen));
        take("metrics_listen", spanned(file.metrics_listen));
        take("engine", spanned(file.engine));
        take("log_format", spanned(file.log_format));
        take("log_level", spanned(file.log_level));
        let switch = |on: &bool| (if *on { "on" } else { "off" }).to_owned();
        take(
            "reflection",
            file.reflection
                .map(|on| (switch(on.get_ref()), on.span().start)),
        );
        let dial = file.dial.map(|dial| {
            let pairs: Vec<_> = dial
                .get_ref()
                .iter()
                .map(|(n, a)| format!("{n}={a}"))
                .collect();
            (pairs.join(","), dial.span().start)
        });
        take("dial", dial);
        Ok(partial)
    }

    /// These values, and `lower`'s where these have none.
    pub fn over(mut self, lower: Partial) -> Partial {
        for (name, given) in lower.given {
            self.given.entry(name).or_insert(given);
        }
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
        let flag = name.replace('_', "-");
        let advice = format!(
            "give --{flag}, set {}, or write it into node.toml",
            environment(name)
        );
        Err(Problem::new(name, "is missing", advice).into())
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

    fn place(&self, name: &'static str) -> Place {
        match self.given.get(name) {
            Some((_, Origin::Flag)) => Place::Flag,
            Some((_, Origin::Environment)) => Place::Environment(environment(name).to_owned()),
            Some((_, Origin::File { path, line })) => Place::File {
                path: path.clone(),
                line: Some(*line),
            },
            Some((_, Origin::Default)) | None => Place::Unknown,
        }
    }
}

fn environment(name: &str) -> &'static str {
    let field = FIELDS.iter().find(|field| field.name == name);
    field.map_or("", |field| field.environment)
}
