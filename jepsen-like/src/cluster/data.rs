//! What can be done to the data directory of a node that does not run.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::random::Random;

/// The size of a block, bytes: what disks and file systems move as one.
const BLOCK: usize = 4096;

/// The bytes that the file system gave to a directory's files. What vanishes while it is looked at counts as nothing.
pub(crate) fn bytes(folder: &Path) -> u64 {
    let files = files(folder).unwrap_or_default();
    let sizes = files.iter().filter_map(|path| fs::metadata(path).ok());
    // The system counts in 512 bytes, whatever the file system's block is.
    sizes.map(|it| it.blocks() * 512).sum()
}

/// Removes everything in a directory, and the directory; one that is not there is no error.
///
/// # Errors
/// When a file can not be removed.
pub(crate) fn wipe(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can not remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces a directory by a copy of another one.
///
/// # Errors
/// When there is nothing to copy, or a file can not be read or written.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let paths = files(from).with_context(|| format!("can not read {}", from.display()))?;
    wipe(to)?;
    for path in paths {
        // Every path was found below `from`.
        let inside = path.strip_prefix(from).unwrap_or(&path);
        let target = to.join(inside);
        let copied = target
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::copy(&path, &target));
        copied.with_context(|| format!("can not copy {}", path.display()))?;
    }
    Ok(())
}

/// Turns one bit over, somewhere in a block that holds something.
///
/// # Errors
/// When no file holds anything, or it can not be written.
pub(super) fn flip_bit(folder: &Path, random: &mut Random) -> Result<()> {
    let Some(block) = draw(folder, random, |_| true)? else {
        bail!("{} holds no data to damage", folder.display());
    };
    let mut bytes = block.read()?;
    let at = random.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << random.below(8);
    block.write(&bytes)
}

/// Writes a block's content over another block.
///
/// # Errors
/// When there are no two different blocks, or a file can not be written.
pub(super) fn misdirect(folder: &Path, random: &mut Random) -> Result<()> {
    let Some(target) = draw(folder, random, |_| true)? else {
        bail!("{} holds no data to damage", folder.display());
    };
    let before = target.read()?;
    let fits = |block: &[u8]| block.len() >= before.len() && block[..before.len()] != before;
    let Some(source) = draw(folder, random, fits)? else {
        bail!(
            "{} has no two blocks that could be mixed up",
            folder.display()
        );
    };
    target.write(&source.read()?[..before.len()])
}

/// A block of a file; the last one of a file may be short.
struct Block {
    path: PathBuf,
    offset: u64,
    length: usize,
}

impl Block {
    fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        let read = fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_exact(&mut bytes)
        });
        read.with_context(|| format!("can not read {}", self.path.display()))?;
        Ok(bytes)
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let file = fs::OpenOptions::new().write(true).open(&self.path);
        let written = file.and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.write_all(bytes)
        });
        written.with_context(|| format!("can not write {}", self.path.display()))
    }
}

/// Draws a file among those that have such a block, then one of these blocks; `None` when no file has any. Blocks of
/// nothing but zeros are left out: engines make files longer than what is in them.
fn draw(folder: &Path, random: &mut Random, fits: impl Fn(&[u8]) -> bool) -> Result<Option<Block>> {
    let mut paths = files(folder).with_context(|| format!("can not read {}", folder.display()))?;
    while !paths.is_empty() {
        let path = paths.swap_remove(random.below(paths.len() as u64) as usize);
        let read = fs::read(&path);
        let text = read.with_context(|| format!("can not read {}", path.display()))?;
        let used = |(_, block): &(usize, &[u8])| block.iter().any(|byte| *byte != 0) && fits(block);
        let blocks: Vec<_> = text.chunks(BLOCK).enumerate().filter(used).collect();
        if let Some((number, block)) = random.pick(&blocks) {
            return Ok(Some(Block {
                path,
                offset: (number * BLOCK) as u64,
                length: block.len(),
            }));
        }
    }
    Ok(None)
}

/// Every file below a directory, sorted, so that a seed draws the same one again.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with an empty file, one of zeros, and two blocks and a bit in a folder below.
    fn sample() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("LOCK"), "").unwrap();
        fs::write(folder.path().join("zeros"), vec![0; 3 * BLOCK]).unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        let mut text = vec![1; BLOCK];
        text.extend(vec![2; BLOCK]);
        text.extend(vec![0; BLOCK]);
        text.extend([3; 5]);
        fs::write(folder.path().join("store/log"), text).unwrap();
        folder
    }

    fn log(folder: &Path) -> Vec<u8> {
        fs::read(folder.join("store/log")).unwrap()
    }

    #[test]
    fn one_bit_is_turned_over_where_something_is() {
        for seed in 0..20 {
            let folder = sample();
            let before = log(folder.path());
            flip_bit(folder.path(), &mut Random::new(seed)).unwrap();
            let after = log(folder.path());
            let changed = before.iter().zip(&after).enumerate();
            let changed: Vec<_> = changed.filter(|(_, (a, b))| a != b).collect();
            assert_eq!(changed.len(), 1);
            let (at, (a, b)) = changed[0];
            assert_eq!((a ^ b).count_ones(), 1);
            assert!(!(2 * BLOCK..3 * BLOCK).contains(&at));
            let zeros = fs::read(folder.path().join("zeros")).unwrap();
            assert!(zeros.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_block_is_written_over_another_one() {
        for seed in 0..20 {
            let folder = sample();
            let before = log(folder.path());
            misdirect(folder.path(), &mut Random::new(seed)).unwrap();
            let after = log(folder.path());
            assert_ne!(before, after);
            assert_eq!(before.len(), after.len());
            let kinds = [&after[..BLOCK], &after[BLOCK..2 * BLOCK]];
            assert!(kinds.iter().all(|block| {
                let first = block[0];
                block.iter().all(|byte| *byte == first) && matches!(first, 1 | 2)
            }));
        }
    }

    #[test]
    fn a_seed_damages_the_same_again_and_nothing_can_not_be_damaged() {
        let damaged = [sample(), sample()].map(|folder| {
            flip_bit(folder.path(), &mut Random::new(7)).unwrap();
            log(folder.path())
        });
        assert_eq!(damaged[0], damaged[1]);
        let empty = tempfile::tempdir().unwrap();
        fs::write(empty.path().join("LOCK"), "").unwrap();
        let error = flip_bit(empty.path(), &mut Random::new(7)).unwrap_err();
        assert!(error.to_string().contains("no data"), "{error}");
    }

    #[test]
    fn a_copy_replaces_everything_and_wiping_can_be_repeated() {
        let folder = sample();
        let copied = folder.path().join("copy");
        fs::create_dir(&copied).unwrap();
        fs::write(copied.join("old"), "x").unwrap();
        let store = folder.path().join("store");
        copy(&store, &copied).unwrap();
        assert!(!copied.join("old").exists());
        let copied_log = fs::read(copied.join("log")).unwrap();
        assert_eq!(copied_log, log(folder.path()));
        assert!(bytes(&copied) >= 3 * BLOCK as u64);
        wipe(&copied).unwrap();
        wipe(&copied).unwrap();
        assert_eq!(bytes(&copied), 0);
        let error = copy(&copied, &store).unwrap_err();
        assert!(error.to_string().contains("can not read"), "{error}");
        assert!(store.exists(), "nothing is removed for a copy of nothing");
    }
}
