//! What the kernel asks, and what it is told. No request waits for another: a slow sync is answered by a thread that
//! does nothing else.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::content::{BLOCK, SECTOR};
use super::late::Late;
use super::state::{Shared, State, Synced};
use super::tree::{Ino, Kind, Owner, Place};

/// How long the kernel may believe a name or an attribute: it asks again every time, since a cut changes both.
const TTL: Duration = Duration::ZERO;

/// A number of a file is never used twice.
const GENERATION: Generation = Generation(0);

/// Longest name, bytes.
const NAME_MAX: u32 = 255;

/// The permission bits of a mode.
const MODE_BITS: u32 = 0o7777;

/// See the module.
pub(super) struct Server {
    shared: Shared,
    late: Late,
    backing: PathBuf,
}

impl Server {
    pub(super) fn new(shared: Shared, late: Late, backing: PathBuf) -> Server {
        Server {
            shared,
            late,
            backing,
        }
    }

    /// Syncs now or, on a slow disk, later. Nothing is durable before the answer.
    fn sync(&self, number: INodeNo, what: Synced, reply: ReplyEmpty) {
        let slowness = self.shared.lock().slowness();
        let shared = self.shared.clone();
        let sync = move || {
            let synced = shared.lock().sync(number, what);
            answer(reply, synced);
        };
        if slowness.is_zero() {
            sync();
        } else {
            self.late.after(slowness, sync);
        }
    }

    fn create_entry(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        directory: bool,
    ) -> Result<FileAttr, Errno> {
        let mut state = self.shared.lock();
        let dir = state.find(parent)?;
        if name.len() > NAME_MAX as usize {
            return Err(Errno::ENAMETOOLONG);
        }
        state.need(BLOCK)?;
        let owner = Owner {
            uid: request.uid(),
            gid: request.gid(),
            mode: (mode & MODE_BITS) as u16,
        };
        let ino = state.tree.create(place(dir, name), owner, directory)?;
        if !directory {
            state.tree.opened(ino)?;
        }
        attr(&state, ino)
    }
}

fn place(dir: Ino, name: &OsStr) -> Place {
    let name = name.to_owned();
    Place { dir, name }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn attr(state: &State, ino: Ino) -> Result<FileAttr, Errno> {
    let node = state.tree.node(ino)?;
    let (kind, size, nlink) = match &node.kind {
        Kind::File(content) => (FileType::RegularFile, content.size(), 1),
        Kind::Dir { .. } => (FileType::Directory, BLOCK, 2),
    };
    Ok(FileAttr {
        ino: state.number(ino),
        size,
        blocks: size.next_multiple_of(BLOCK) / SECTOR,
        atime: node.changed,
        mtime: node.changed,
        ctime: node.changed,
        crtime: node.changed,
        kind,
        perm: node.owner.mode,
        nlink,
        uid: node.owner.uid,
        gid: node.owner.gid,
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    })
}

/// What of a file is to change, of what can.
struct Change {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    mtime: Option<TimeOrNow>,
}

fn change(state: &mut State, number: INodeNo, change: Change) -> Result<FileAttr, Errno> {
    let ino = state.find(number)?;
    if let Some(size) = change.size {
        state.need_size(ino, size)?;
        state.tree.content_mut(ino)?.resize(size)?;
    }
    let node = state.tree.node_mut(ino)?;
    let owner = &mut node.owner;
    owner.uid = change.uid.unwrap_or(owner.uid);
    owner.gid = change.gid.unwrap_or(owner.gid);
    owner.mode = change
        .mode
        .map_or(owner.mode, |mode| (mode & MODE_BITS) as u16);
    match change.mtime {
        Some(TimeOrNow::SpecificTime(time)) => node.changed = time,
        Some(TimeOrNow::Now) => node.changed = SystemTime::now(),
        None => {}
    }
    attr(state, ino)
}

fn write(state: &mut State, number: INodeNo, at: u64, bytes: &[u8]) -> Result<u32, Errno> {
    let ino = state.find(number)?;
    let len = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
    let end = at.checked_add(u64::from(len)).ok_or(Errno::EFBIG)?;
    let size = state.tree.content(ino)?.size();
    state.need_size(ino, end.max(size))?;
    state.tree.content_mut(ino)?.write(at, bytes)?;
    state.counters.writes += 1;
    state.counters.bytes += u64::from(len);
    Ok(len)
}

fn rename(
    state: &mut State,
    from: (INodeNo, &OsStr),
    to: (INodeNo, &OsStr),
    flags: RenameFlags,
) -> Result<(), Errno> {
    let keep = flags == RenameFlags::RENAME_NOREPLACE;
    if !keep && !flags.is_empty() {
        return Err(Errno::EINVAL);
    }
    let (from_dir, to_dir) = (state.find(from.0)?, state.find(to.0)?);
    state
        .tree
        .rename(&place(from_dir, from.1), place(to_dir, to.1), keep)
}

/// An entry of a directory: position, what, of which kind, under which name.
type Entry = (u64, INodeNo, FileType, OsString);

/// What a directory shows. An entry's position is its number, so it stays where it is whatever is removed meanwhile.
fn listing(state: &State, number: INodeNo) -> Result<Vec<Entry>, Errno> {
    const DOTS: u64 = 2;
    let dir = state.find(number)?;
    let parent = state.tree.node(dir)?.live.as_ref();
    let parent = parent.map_or(dir, |live| live.dir);
    let mut all: Vec<Entry> = vec![
        (1, state.number(dir), FileType::Directory, ".".into()),
        (2, state.number(parent), FileType::Directory, "..".into()),
    ];
    for (name, ino) in state.tree.names(dir)? {
        let kind = match state.tree.node(*ino)?.kind {
            Kind::File(_) => FileType::RegularFile,
            Kind::Dir { .. } => FileType::Directory,
        };
        all.push((DOTS + ino, state.number(*ino), kind, name.clone()));
    }
    all.sort_unstable_by_key(|entry| entry.0);
    Ok(all)
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.shared.lock();
        let dir = state.find(parent);
        let found = dir.and_then(|dir| attr(&state, state.tree.lookup(dir, name)?));
        match found {
            Ok(attr) => reply.entry(&TTL, &attr, GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let state = self.shared.lock();
        match state.find(ino).and_then(|ino| attr(&state, ino)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let wanted = Change {
            mode,
            uid,
            gid,
            size,
            mtime,
        };
        match change(&mut self.shared.lock(), ino, wanted) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        match self.create_entry(request, parent, name, mode & !umask, true) {
            Ok(attr) => reply.entry(&TTL, &attr, GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.create_entry(request, parent, name, mode & !umask, false) {
            Ok(attr) => reply.created(
                &TTL,
                &attr,
                GENERATION,
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.shared.lock();
        let dir = state.find(parent);
        answer(
            reply,
            dir.and_then(|dir| state.tree.remove(&place(dir, name), false)),
        );
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.shared.lock();
        let dir = state.find(parent);
        answer(
            reply,
            dir.and_then(|dir| state.tree.remove(&place(dir, name), true)),
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.shared.lock();
        answer(
            reply,
            rename(&mut state, (parent, name), (newparent, newname), flags),
        );
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut state = self.shared.lock();
        match state.find(ino).and_then(|ino| state.tree.opened(ino)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.shared.lock();
        let read = |ino| Ok(state.tree.content(ino)?.read(offset, size as usize)?);
        match state.find(ino).and_then(read) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match write(&mut self.shared.lock(), ino, offset, data) {
            Ok(len) => reply.written(len),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut state = self.shared.lock();
        if let Ok(ino) = state.find(ino) {
            state.tree.closed(ino);
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        self.sync(ino, Synced::File { data_only }, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino, Synced::Directory, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match listing(&self.shared.lock(), ino) {
            Ok(all) => {
                for (at, number, kind, name) in all {
                    if at > offset && reply.add(number, at, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let room = self.shared.lock().room();
        match rustix::fs::statvfs(&self.backing) {
            Ok(below) => {
                let unit = below.f_frsize.max(1);
                let free = room.map_or(below.f_bavail, |room| room / unit);
                reply.statfs(
                    below.f_blocks,
                    free,
                    free,
                    below.f_files,
                    below.f_ffree,
                    unit as u32,
                    NAME_MAX,
                    unit as u32,
                );
            }
            Err(_) => reply.error(Errno::EIO),
        }
    }
}
