//! What happens to data at rest: bits that flip, blocks from elsewhere, old copies.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fuser::Errno;

use super::content::{BLOCK, Content};
use super::tree::{Ino, Kind, Owner, Place, ROOT, Tree};
use crate::random::Random;

/// How often a block is drawn until one holds something. Files are allocated far ahead, and a damaged zero in a part
/// that nobody reads is no fault.
const DRAWS: u32 = 64;

/// A block of a file.
type At = (Ino, u64);

/// The files of which the disk has something.
fn files(tree: &Tree) -> Vec<Ino> {
    let something = |ino: &Ino| {
        let node = tree.nodes.get(ino)?;
        let Kind::File(content) = &node.kind else {
            return None;
        };
        (node.durable.is_some() && content.durable() > 0).then_some(())
    };
    let all = tree.nodes.keys().copied();
    all.filter(|ino| something(ino).is_some()).collect()
}

fn block(tree: &Tree, at: At) -> Result<Vec<u8>, Errno> {
    Ok(tree.content(at.0)?.durable_block(at.1)?)
}

/// A block that holds something, if some draws find one. Now every file is as likely as any other, now every block: small
/// files name what is in the large ones, and most bytes are in those.
fn draw(tree: &Tree, random: &mut Random, files: &[Ino]) -> Result<Option<At>, Errno> {
    let mut blocks = Vec::new();
    for ino in files {
        blocks.push((*ino, tree.content(*ino)?.durable().div_ceil(BLOCK)));
    }
    let mut drawn = None;
    for _ in 0..DRAWS {
        drawn = if random.chance(500) {
            let file = random.pick(&blocks).copied();
            file.map(|(ino, blocks)| (ino, random.below(blocks)))
        } else {
            any_block(&blocks, random)
        };
        match drawn {
            Some(at) if block(tree, at)?.iter().all(|byte| *byte == 0) => {}
            _ => break,
        }
    }
    Ok(drawn)
}

/// Any block of files that have so many.
fn any_block(blocks: &[(Ino, u64)], random: &mut Random) -> Option<At> {
    let mut number = random.below(blocks.iter().map(|(_, blocks)| blocks).sum());
    for (ino, blocks) in blocks {
        if number < *blocks {
            return Some((*ino, number));
        }
        number -= blocks;
    }
    None
}

/// Flips a bit. Returns where, in words; none when the disk has no byte.
pub(super) fn flip_bit(tree: &mut Tree, random: &mut Random) -> Result<Option<String>, Errno> {
    let Some(at) = draw(tree, random, &files(tree))? else {
        return Ok(None);
    };
    let len = block(tree, at)?.len() as u64;
    let (byte, bit) = (random.below(len), random.below(8));
    tree.content_mut(at.0)?.damage(at.1, |block| {
        if let Some(byte) = block.get_mut(byte as usize) {
            *byte ^= 1 << bit;
        }
    })?;
    let (file, offset) = (tree.path(at.0), at.1 * BLOCK + byte);
    let file = file.display();
    Ok(Some(format!(
        "flipped bit {bit} of byte {offset} of {file}"
    )))
}

/// Puts a block in the place of another one that differs. Returns which, in words; none when no two blocks differ.
pub(super) fn misdirect(tree: &mut Tree, random: &mut Random) -> Result<Option<String>, Errno> {
    let files = files(tree);
    let Some(to) = draw(tree, random, &files)? else {
        return Ok(None);
    };
    let old = block(tree, to)?;
    for _ in 0..DRAWS {
        let Some(from) = draw(tree, random, &files)? else {
            return Ok(None);
        };
        let mut new = block(tree, from)?;
        new.resize(old.len(), 0);
        if new == old {
            continue;
        }
        tree.content_mut(to.0)?.damage(to.1, |block| {
            let len = block.len().min(new.len());
            block[..len].copy_from_slice(&new[..len]);
        })?;
        return Ok(Some(format!(
            "put {} bytes from byte {} of {} over byte {} of {}",
            old.len(),
            from.1 * BLOCK,
            tree.path(from.0).display(),
            to.1 * BLOCK,
            tree.path(to.0).display()
        )));
    }
    Ok(None)
}

/// A copy of a disk: what a process saw, as if its directory had been copied.
pub(super) struct Kept {
    /// Where the contents are: one file for each, named by its number.
    home: PathBuf,
    /// Directories before what is in them. For a file, its bytes are at `home`.
    all: Vec<(Ino, Place, Owner, bool)>,
}

impl Kept {
    /// Copies what is there now, over an earlier copy.
    pub(super) fn keep(tree: &Tree, home: &Path) -> Result<Kept, Errno> {
        let _ = fs::remove_dir_all(home);
        fs::create_dir(home)?;
        let mut all = Vec::new();
        let mut waiting = vec![ROOT];
        while let Some(dir) = waiting.pop() {
            for (name, ino) in tree.names(dir)? {
                let node = tree.node(*ino)?;
                let name = name.clone();
                let is_file = matches!(node.kind, Kind::File(_));
                all.push((*ino, Place { dir, name }, node.owner, is_file));
                if is_file {
                    copy(&tree.backing_of(*ino), &home.join(ino.to_string()))?;
                } else {
                    waiting.push(*ino);
                }
            }
        }
        let home = home.to_owned();
        Ok(Kept { home, all })
    }

    /// How many files and directories it has.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Makes the disk what it was; all of it is durable.
    pub(super) fn restore(&self, tree: &mut Tree) -> Result<(), Errno> {
        tree.wipe();
        for (ino, place, owner, is_file) in &self.all {
            let kind = if *is_file {
                let path = tree.backing_of(*ino);
                copy(&self.home.join(ino.to_string()), &path)?;
                Kind::File(Content::new(
                    File::options().read(true).write(true).open(path)?,
                )?)
            } else {
                Kind::Dir {
                    live: Default::default(),
                    durable: Default::default(),
                }
            };
            tree.put(*ino, place.clone(), *owner, kind);
        }
        Ok(())
    }
}

/// Copies a file; holes stay holes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    const PIECE: usize = 64 << 10;
    let from = File::open(from)?;
    let size = from.metadata()?.len();
    let to = File::create(to)?;
    to.set_len(size)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let len = from.read_at(&mut piece, at)?;
        if piece[..len].iter().any(|byte| *byte != 0) {
            to.write_all_at(&piece[..len], at)?;
        }
        at += len.max(1) as u64;
    }
    Ok(())
}

/// Whether a directory has nothing in it; one that does not exist is made.
pub(super) fn make_empty_dir(path: &Path) -> io::Result<bool> {
    fs::create_dir_all(path)?;
    let mut entries = fs::read_dir(path)?;
    Ok(entries.next().transpose()?.is_none())
}
