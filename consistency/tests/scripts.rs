//! Scenario scripts: `scripts/*.txt`, one claim per file, the file's name is the claim.
//!
//! A comment (`# ...`) tells the story, a command stands behind `> `, and what it shows
//! stands below it. `HANSA_REWRITE=1 cargo test -p hansa-consistency --test scripts`
//! writes down what the commands show now: review the difference before you keep it.
//! The commands stand in `support/play.rs`.

#[cfg(test)]
mod support;

#[cfg(test)]
mod scripts {
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};

    use super::support::Play;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
    }

    fn files() -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder()).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The script with what its commands show now.
    fn played(script: &str) -> String {
        let mut play = Play::new();
        let mut now = String::new();
        for line in script.lines() {
            if let Some(command) = line.strip_prefix("> ") {
                writeln!(now, "{line}").unwrap();
                let shown = play.run(command);
                if !shown.is_empty() {
                    writeln!(now, "{shown}").unwrap();
                }
            } else if line.starts_with('#') || line.is_empty() {
                writeln!(now, "{line}").unwrap();
            }
        }
        now
    }

    /// The first line in which two texts differ, with its number.
    fn first_difference(written: &str, now: &str) -> String {
        let mut lines = written.lines();
        for (number, line) in (1..).zip(now.lines()) {
            let before = lines.next().unwrap_or("(end)");
            if before != line {
                return format!("line {number}:\n  written: {before}\n  now:     {line}");
            }
        }
        format!("written, but not shown now: {}", lines.next().unwrap_or(""))
    }

    #[test]
    fn every_script_shows_what_it_claims() {
        let rewrite = std::env::var_os("HANSA_REWRITE").is_some();
        let mut wrong = String::new();
        for file in files() {
            let written = std::fs::read_to_string(&file).unwrap();
            let now = played(&written);
            if now == written {
                continue;
            }
            let name = file.file_name().unwrap().to_string_lossy();
            if rewrite {
                std::fs::write(&file, &now).unwrap();
                println!("rewritten: {name}");
            } else {
                writeln!(wrong, "{name}, {}", first_difference(&written, &now)).unwrap();
            }
        }
        assert!(
            wrong.is_empty(),
            "{wrong}\nHANSA_REWRITE=1 writes down what is shown now"
        );
    }

    #[test]
    fn every_script_begins_with_its_story_and_shows_something() {
        let files = files();
        assert!(files.len() >= 25, "{} scripts", files.len());
        for file in files {
            let script = std::fs::read_to_string(&file).unwrap();
            let name = file.display();
            assert!(
                script.starts_with("# "),
                "{name} does not begin with its story"
            );
            let shows = script
                .lines()
                .any(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("> "));
            assert!(shows, "{name} shows nothing");
        }
    }

    #[test]
    fn a_script_plays_the_same_twice() {
        for file in files().into_iter().step_by(5) {
            let script = std::fs::read_to_string(&file).unwrap();
            assert_eq!(played(&script), played(&script));
        }
    }
}
