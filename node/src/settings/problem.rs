//! What is wrong with settings, said so that the reader can mend it.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// Built by a program, or a default, or given by nobody while there is no file.
    #[default]
    Unknown,
    /// On the command line, by this flag.
    Flag(String),
    /// In the environment.
    Environment(String),
    /// In a file.
    File {
        /// Which one.
        path: PathBuf,
        /// From 1; of a key that is missing, the line of its table's header.
        line: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unknown => f.write_str("settings"),
            Place::Flag(name) => write!(f, "command line {name}"),
            Place::Environment(name) => write!(f, "environment {name}"),
            Place::File { path, line } => write!(f, "{}, line {line}", path.display()),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// Which field, as a path: `keyspaces[2].regions[0]`; empty when none is meant.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl Problem {
    /// A problem whose place is not known yet.
    pub fn new(
        field: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Problem {
        Problem {
            place: Place::Unknown,
            field: field.into(),
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// The same problem at a place.
    pub fn at(self, place: Place) -> Problem {
        Problem { place, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// Settings that can not be used: every problem found, at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsError {
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl SettingsError {
    /// An error if there are problems.
    ///
    /// # Errors
    /// When there is at least one.
    pub fn none_of(problems: Vec<Problem>) -> Result<(), SettingsError> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(SettingsError { problems })
        }
    }
}

impl From<Problem> for SettingsError {
    fn from(problem: Problem) -> SettingsError {
        SettingsError {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}
