//! Files and directories: where each is for the process, and where a power cut leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use fuser::Errno;

use super::Entries;
use super::content::{BLOCK, Content};

/// A file or a directory; never used twice.
pub(super) type Ino = u64;

/// The directory that everything is in.
pub(super) const ROOT: Ino = 1;

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: Ino,
    pub(super) name: OsString,
}

/// Owner and permissions. They are durable at once: nothing here depends on when they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The nine bits and the three above them.
    pub(super) mode: u16,
}

pub(super) type Names = BTreeMap<OsString, Ino>;

pub(super) enum Kind {
    File(Content),
    /// What the process sees in it, and what the disk has of it.
    Dir {
        live: Names,
        durable: Names,
    },
}

pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) owner: Owner,
    pub(super) changed: SystemTime,
    /// Where the process sees it; none when it was removed.
    pub(super) live: Option<Place>,
    /// Where a cut leaves it; none when a cut removes it. There are no hard links: one place at most.
    pub(super) durable: Option<Place>,
    /// Open files.
    pub(super) opens: u64,
}

/// See the module.
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<Ino, Node>,
    next: Ino,
    /// Where the contents are: one file for each, named by its number.
    backing: PathBuf,
    entries: Entries,
}

impl Tree {
    /// An empty one.
    pub(super) fn new(backing: &Path, entries: Entries, owner: Owner) -> Tree {
        let root = Node {
            kind: Kind::Dir {
                live: Names::new(),
                durable: Names::new(),
            },
            owner,
            changed: SystemTime::now(),
            live: None,
            durable: None,
            opens: 0,
        };
        Tree {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            backing: backing.to_owned(),
            entries,
        }
    }

    /// Where the content of a file is.
    pub(super) fn backing_of(&self, ino: Ino) -> PathBuf {
        self.backing.join(ino.to_string())
    }

    pub(super) fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    pub(super) fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    pub(super) fn content(&self, ino: Ino) -> Result<&Content, Errno> {
        match &self.node(ino)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Dir { .. } => Err(Errno::EISDIR),
        }
    }

    /// All files.
    pub(super) fn files(&self) -> Vec<Ino> {
        let files = self.nodes.iter();
        let files = files.filter(|(_, node)| matches!(node.kind, Kind::File(_)));
        files.map(|(ino, _)| *ino).collect()
    }

    /// The content of a file that is about to change.
    pub(super) fn content_mut(&mut self, ino: Ino) -> Result<&mut Content, Errno> {
        let node = self.node_mut(ino)?;
        node.changed = SystemTime::now();
        match &mut node.kind {
            Kind::File(content) => Ok(content),
            Kind::Dir { .. } => Err(Errno::EISDIR),
        }
    }

    /// What the process sees in a directory.
    pub(super) fn names(&self, dir: Ino) -> Result<&Names, Errno> {
        match &self.node(dir)?.kind {
            Kind::Dir { live, .. } => Ok(live),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn live_names(&mut self, dir: Ino) -> Result<&mut Names, Errno> {
        let node = self.node_mut(dir)?;
        node.changed = SystemTime::now();
        match &mut node.kind {
            Kind::Dir { live, .. } => Ok(live),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn durable_names(&mut self, dir: Ino) -> Option<&mut Names> {
        match &mut self.nodes.get_mut(&dir)?.kind {
            Kind::Dir { durable, .. } => Some(durable),
            Kind::File(_) => None,
        }
    }

    /// What has this name.
    pub(super) fn lookup(&self, dir: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.names(dir)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The path of something for messages: where a cut leaves it, or else where the process sees it.
    pub(super) fn path(&self, ino: Ino) -> PathBuf {
        let mut names = Vec::new();
        let mut at = ino;
        while let Some(node) = self.nodes.get(&at)
            && let Some(place) = node.durable.as_ref().or(node.live.as_ref())
            && names.len() < self.nodes.len()
        {
            names.push(place.name.clone());
            at = place.dir;
        }
        names.into_iter().rev().collect()
    }

    /// Bytes in use, in whole blocks.
    pub(super) fn used(&self) -> u64 {
        let of = |node: &Node| match &node.kind {
            Kind::Dir { .. } => BLOCK,
            Kind::File(content) if node.live.is_some() || node.opens > 0 => {
                content.size().next_multiple_of(BLOCK)
            }
            // The process removed it, and need not know that a cut could bring it back.
            Kind::File(_) => 0,
        };
        self.nodes.values().map(of).sum()
    }

    /// An empty file or directory. Its name is durable later.
    pub(super) fn create(
        &mut self,
        place: Place,
        owner: Owner,
        directory: bool,
    ) -> Result<Ino, Errno> {
        if self.names(place.dir)?.contains_key(&place.name) {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        let kind = if directory {
            Kind::Dir {
                live: Names::new(),
                durable: Names::new(),
            }
        } else {
            let mut options = File::options();
            options.read(true).write(true).create_new(true);
            Kind::File(Content::new(options.open(self.backing_of(ino))?)?)
        };
        self.next += 1;
        self.live_names(place.dir)?.insert(place.name.clone(), ino);
        let node = Node {
            kind,
            owner,
            changed: SystemTime::now(),
            live: Some(place),
            durable: None,
            opens: 0,
        };
        self.nodes.insert(ino, node);
        Ok(ino)
    }

    /// Removes a file, or an empty directory, from what the process sees.
    pub(super) fn remove(&mut self, place: &Place, directory: bool) -> Result<(), Errno> {
        let ino = self.lookup(place.dir, &place.name)?;
        match (&self.node(ino)?.kind, directory) {
            (Kind::Dir { live, .. }, true) if !live.is_empty() => return Err(Errno::ENOTEMPTY),
            (Kind::Dir { .. }, false) => return Err(Errno::EISDIR),
            (Kind::File(_), true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.live_names(place.dir)?.remove(&place.name);
        self.node_mut(ino)?.live = None;
        self.forget_if_gone(ino);
        Ok(())
    }

    /// Gives something another name, or takes the name from something else.
    pub(super) fn rename(&mut self, from: &Place, to: Place, keep: bool) -> Result<(), Errno> {
        let ino = self.lookup(from.dir, &from.name)?;
        match self.lookup(to.dir, &to.name) {
            Ok(other) if other == ino => return Ok(()),
            Ok(_) if keep => return Err(Errno::EEXIST),
            Ok(_) => {
                let directory = matches!(self.node(ino)?.kind, Kind::Dir { .. });
                self.remove(&to, directory)?;
            }
            Err(_) => {}
        }
        self.live_names(to.dir)?.insert(to.name.clone(), ino);
        self.live_names(from.dir)?.remove(&from.name);
        self.node_mut(ino)?.live = Some(to);
        Ok(())
    }

    /// A file was opened, or closed.
    pub(super) fn opened(&mut self, ino: Ino) -> Result<(), Errno> {
        self.node_mut(ino)?.opens += 1;
        Ok(())
    }

    pub(super) fn closed(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.opens = node.opens.saturating_sub(1);
            self.forget_if_gone(ino);
        }
    }

    /// Forgets what neither the process nor the disk has any more.
    fn forget_if_gone(&mut self, ino: Ino) {
        let gone = |node: &Node| node.live.is_none() && node.durable.is_none() && node.opens == 0;
        if ino != ROOT && self.nodes.get(&ino).is_some_and(gone) {
            self.forget(ino);
        }
    }

    fn forget(&mut self, ino: Ino) {
        if let Some(Node {
            kind: Kind::File(_),
            ..
        }) = self.nodes.remove(&ino)
        {
            // A file left behind costs space and nothing else: numbers are not used twice.
            let _ = fs::remove_file(self.backing_of(ino));
        }
    }

    /// A sync of a file that succeeds.
    pub(super) fn sync_file(&mut self, ino: Ino, data_only: bool) -> Result<(), Errno> {
        let entries = self.entries;
        let node = self.node_mut(ino)?;
        if let Kind::File(content) = &mut node.kind {
            content.sync(Instant::now());
        }
        let new = node.durable.is_none();
        if entries == Entries::WithFile && node.live.is_some() && (new || !data_only) {
            self.settle(vec![ino]);
        }
        Ok(())
    }

    /// A sync of a directory that succeeds: what was created in it, renamed into or out of it, or removed from it is
    /// durable.
    pub(super) fn sync_dir(&mut self, dir: Ino) -> Result<(), Errno> {
        let node = self.node(dir)?;
        let Kind::Dir { live, durable } = &node.kind else {
            return Err(Errno::ENOTDIR);
        };
        let mut moved: Vec<Ino> = live.values().chain(durable.values()).copied().collect();
        if self.entries == Entries::WithFile && dir != ROOT && node.durable.is_none() {
            moved.push(dir);
        }
        self.settle(moved);
        Ok(())
    }

    /// Makes the places of these durable, and of everything that would be lost or be in two places without that: a
    /// rename is done or not done, and what was done before it is done.
    fn settle(&mut self, mut waiting: Vec<Ino>) {
        let mut done = BTreeSet::new();
        while let Some(ino) = waiting.pop() {
            let Some(node) = self.nodes.get_mut(&ino) else {
                continue;
            };
            if ino == ROOT || node.live == node.durable || !done.insert(ino) {
                continue;
            }
            let new = node.live.clone();
            let old = std::mem::replace(&mut node.durable, new.clone());
            let directory = matches!(node.kind, Kind::Dir { .. });
            if let (None, Kind::Dir { durable, .. }) = (&new, &node.kind) {
                // It is empty for the process, so all of these are elsewhere or gone.
                waiting.extend(durable.values());
            }
            let moved = old.is_some();
            if let Some(old) = old
                && let Some(names) = self.durable_names(old.dir)
                && names.get(&old.name) == Some(&ino)
            {
                names.remove(&old.name);
            }
            if let Some(Place { dir, name }) = new {
                let replaced = self
                    .durable_names(dir)
                    .and_then(|names| names.insert(name, ino));
                waiting.extend(replaced);
                let parent = self.nodes.get(&dir).and_then(|dir| dir.durable.as_ref());
                let needed = parent.is_none() && (moved || self.entries == Entries::WithFile);
                // A directory that moves may go into one that was below it: both or none.
                if needed || (moved && directory) {
                    waiting.push(dir);
                }
            }
            self.forget_if_gone(ino);
        }
    }

    /// A power cut, but for the contents of files that are left: every name is where the disk has it. Returns how many
    /// bytes of files went away.
    pub(super) fn cut(&mut self) -> u64 {
        let mut left = BTreeSet::from([ROOT]);
        let mut waiting = vec![ROOT];
        while let Some(dir) = waiting.pop() {
            let Some(node) = self.nodes.get_mut(&dir) else {
                continue;
            };
            node.live.clone_from(&node.durable);
            node.opens = 0;
            if let Kind::Dir { live, durable } = &mut node.kind {
                live.clone_from(durable);
                left.extend(durable.values());
                waiting.extend(durable.values());
            }
        }
        let gone: Vec<Ino> = self
            .nodes
            .keys()
            .copied()
            .filter(|ino| !left.contains(ino))
            .collect();
        let mut lost = 0;
        for ino in gone {
            lost += self.content(ino).map_or(0, Content::size);
            self.forget(ino);
        }
        lost
    }

    /// Removes everything, from the disk too.
    pub(super) fn wipe(&mut self) {
        let all: Vec<Ino> = self
            .nodes
            .keys()
            .copied()
            .filter(|ino| *ino != ROOT)
            .collect();
        for ino in all {
            self.forget(ino);
        }
        if let Some(Node {
            kind: Kind::Dir { live, durable },
            ..
        }) = self.nodes.get_mut(&ROOT)
        {
            live.clear();
            durable.clear();
        }
    }

    /// Puts something to where it is for the process and on the disk; its directory is put the same way.
    pub(super) fn put(&mut self, ino: Ino, place: Place, owner: Owner, kind: Kind) {
        if let Some(Node {
            kind: Kind::Dir { live, durable },
            ..
        }) = self.nodes.get_mut(&place.dir)
        {
            live.insert(place.name.clone(), ino);
            durable.insert(place.name.clone(), ino);
        }
        let node = Node {
            kind,
            owner,
            changed: SystemTime::now(),
            live: Some(place.clone()),
            durable: Some(place),
            opens: 0,
        };
        self.nodes.insert(ino, node);
        self.next = self.next.max(ino + 1);
    }
}
