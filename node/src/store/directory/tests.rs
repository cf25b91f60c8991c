use std::fs;

use super::*;

fn nothing(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

fn open(dir: &Path, engine: Engine) -> Result<Directory, StoreError> {
    Directory::open(dir, engine, nothing)
}

#[test]
fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), Engine::Sled).unwrap();
    let refused = open(dir.path(), Engine::Sled);
    assert!(matches!(refused, Err(StoreError::InUse { .. })));
    drop(first);
    open(dir.path(), Engine::Sled).unwrap();
}

#[test]
fn another_engine_is_refused_and_the_text_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Engine::Sled).unwrap());
    let text = open(dir.path(), Engine::Fjall).unwrap_err().to_string();
    assert!(text.contains(r#"made by engine "sled", not fjall: start with `engine = "sled"`"#));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Engine::Sled).unwrap());
    let format = dir.path().join("current/FORMAT");
    fs::write(
        &format,
        "hansa store\nengine = sled\nformat = 2\nmore = x\n",
    )
    .unwrap();
    assert!(matches!(
        open(dir.path(), Engine::Sled),
        Err(StoreError::NewerFormat {
            found: 2,
            known: 1,
            ..
        })
    ));
}

#[test]
fn a_damaged_or_missing_format_is_never_taken_for_an_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Engine::Sled).unwrap());
    let format = dir.path().join("current/FORMAT");
    for text in [
        "",
        "hansa",
        "hansa store\nengine = sled\n",
        "hansa store\nengine = sled\nformat = 0\n",
        "hansa store\nformat = 1\nengine = sled\n",
    ] {
        fs::write(&format, text).unwrap();
        let refused = open(dir.path(), Engine::Sled);
        assert!(
            matches!(refused, Err(StoreError::NotAStore { .. })),
            "{text:?}"
        );
    }
    fs::remove_file(&format).unwrap();
    let refused = open(dir.path(), Engine::Sled);
    assert!(matches!(refused, Err(StoreError::NotAStore { .. })));
}

#[test]
fn a_creation_that_was_cut_off_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let failed = Directory::open(dir.path(), Engine::Sled, |db| {
        fs::write(db.join("half"), "x").unwrap();
        Err(StoreError::io("testing")(io::Error::other("no")))
    });
    assert!(failed.is_err());
    assert!(!dir.path().join("current").exists());

    let made = Directory::open(dir.path(), Engine::Sled, |db| {
        assert_eq!(fs::read_dir(db).unwrap().count(), 0);
        fs::write(db.join("whole"), "x").map_err(StoreError::io("testing"))
    })
    .unwrap();
    assert!(made.db().join("whole").exists());
    assert!(!dir.path().join("creating").exists());
}
