//! What is left of contents and names, against models; nothing is mounted.

use std::fs::File;
use std::time::{Duration, Instant};

use fuser::Errno;
use tempfile::TempDir;

use super::content::{BLOCK, Content, SECTOR, TAIL_MAX};
use super::tree::{Ino, Kind, Owner, Place, ROOT, Tree};
use super::{Disk, Entries};
use crate::nemesis::Refused;
use crate::random::Random;

const OWNER: Owner = Owner {
    uid: 0,
    gid: 0,
    mode: 0o644,
};

fn content() -> Content {
    Content::new(tempfile::tempfile().unwrap()).unwrap()
}

fn bytes(content: &Content) -> Vec<u8> {
    content.read(0, usize::MAX).unwrap()
}

/// A file as the kernel has it, page by page.
#[derive(Default)]
struct Model {
    seen: Vec<u8>,
    disk: Vec<u8>,
    dirty: Vec<bool>,
}

impl Model {
    const PAGE: usize = BLOCK as usize;

    fn resize(&mut self, size: usize) {
        let old = self.seen.len();
        self.seen.resize(size, 0);
        let pages = size.max(self.disk.len()).max(old).div_ceil(Self::PAGE);
        self.dirty.resize(pages.max(self.dirty.len()), false);
        // What is cut off is cut off on the disk by the next sync too.
        for page in size / Self::PAGE..self.dirty.len() {
            self.dirty[page] |= size < self.disk.len();
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.seen.len() < at + bytes.len() {
            let len = at + bytes.len();
            self.seen.resize(len, 0);
            self.dirty
                .resize(self.dirty.len().max(len.div_ceil(Self::PAGE)), false);
        }
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
        for page in at / Self::PAGE..(at + bytes.len()).div_ceil(Self::PAGE) {
            self.dirty[page] = true;
        }
    }

    fn sync(&mut self) {
        self.disk.resize(self.seen.len(), 0);
        for (page, dirty) in self.dirty.iter_mut().enumerate() {
            let from = (page * Self::PAGE).min(self.seen.len());
            let to = (from + Self::PAGE).min(self.seen.len());
            if std::mem::take(dirty) {
                self.disk[from..to].copy_from_slice(&self.seen[from..to]);
            }
        }
    }

    fn cut(&mut self) {
        self.seen.clone_from(&self.disk);
        self.dirty.fill(false);
    }
}

/// Says where, rather than print some thousand bytes.
fn assert_same(found: &[u8], wanted: &[u8], at: &str) {
    assert_eq!(found.len(), wanted.len(), "{at}");
    if found == wanted {
        return;
    }
    let differs = (0..found.len()).find(|byte| found[*byte] != wanted[*byte]);
    let differs = differs.map(|byte| (byte, found[byte], wanted[byte]));
    panic!("{at}: {differs:?} are byte, found, wanted");
}

#[test]
fn contents_are_what_a_page_cache_makes_of_them() {
    const SIZE_MAX: u64 = 5 * BLOCK;
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let (mut content, mut model) = (content(), Model::default());
        for step in 0..120 {
            match random.below(10) {
                0..5 => {
                    let at = random.below(SIZE_MAX);
                    let bytes = vec![(step + 1) as u8; random.between(1, 2 * BLOCK) as usize];
                    content.write(at, &bytes).unwrap();
                    model.write(at as usize, &bytes);
                }
                5 => {
                    let size = random.below(SIZE_MAX);
                    content.resize(size).unwrap();
                    model.resize(size as usize);
                }
                6 => {
                    content.fail_sync();
                    model.dirty.fill(false);
                }
                7 | 8 => {
                    content.sync(Instant::now());
                    model.sync();
                }
                _ => {
                    content.roll_back().unwrap();
                    model.cut();
                }
            }
            let at = format!("seed {seed}, step {step}");
            assert_same(&bytes(&content), &model.seen, &at);
            let blocks = 0..content.durable().div_ceil(BLOCK);
            let durable = blocks.flat_map(|block| content.durable_block(block).unwrap());
            assert_same(&durable.collect::<Vec<u8>>(), &model.disk, &at);
        }
    }
}

#[test]
fn a_tear_leaves_the_first_writes_and_sectors_of_the_one_behind_them() {
    const SECTORS: usize = 4;
    let size = SECTORS * SECTOR as usize;
    let mut left_by = [0; 4];
    for seed in 0..200 {
        let mut content = content();
        content.write(0, &[1; 700]).unwrap();
        content.sync(Instant::now());
        // Two in one sector, and one of several: the disk may have been asked for each by itself.
        content.write(700, &[2; 10]).unwrap();
        content.write(710, &[3; 20]).unwrap();
        content.write(SECTOR * 2, &vec![4; size]).unwrap();
        let (lost, done) = content.tear(&mut Random::new(seed)).unwrap();
        let left = bytes(&content);
        assert_eq!(left[..700], [1; 700]);
        let there = |byte| left.iter().filter(|it| **it == byte).count();
        let whole = usize::from(there(2) == 10) + usize::from(there(3) == 20);
        let whole_before = [there(3) == 0 || there(2) == 10, there(4) == 0 || whole == 2];
        assert_eq!(whole_before, [true; 2], "{done}: the order is kept");
        assert!(there(4) % SECTOR as usize == 0 && there(4) < size, "{done}");
        assert!(lost <= 3 * BLOCK, "{lost}");
        assert_eq!(bytes(&content).len() as u64, content.durable());
        left_by[whole + usize::from(there(4) > 0)] += 1;
    }
    assert!(left_by.iter().all(|times| *times > 10), "{left_by:?}");
}

#[test]
fn a_tear_leaves_what_a_shorter_file_had_or_has() {
    let mut lengths = [0; 2];
    for seed in 0..60 {
        let mut content = content();
        content.write(0, &[1; 900]).unwrap();
        content.sync(Instant::now());
        content.resize(100).unwrap();
        content.write(0, &[2; 50]).unwrap();
        content.tear(&mut Random::new(seed)).unwrap();
        let left = bytes(&content);
        assert!([100, 900].contains(&left.len()), "{}", left.len());
        // A write within one sector is there or not.
        let written = left.starts_with(&[2; 50]);
        assert!(!written || left.len() == 100, "the order is kept");
        assert!(left[usize::from(written) * 50..].iter().all(|it| *it == 1));
        lengths[usize::from(left.len() == 100)] += 1;
    }
    assert!(lengths.iter().all(|times| *times > 10), "{lengths:?}");
}

#[test]
fn a_tail_takes_what_was_synced_in_it_and_nothing_older() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let (mut content, begun) = (content(), Instant::now());
        // What the disk had at each moment, a sync every 10 ms.
        let mut had = vec![Vec::new()];
        for step in 1..=8_u64 {
            for _ in 0..random.between(1, 3) {
                let (at, len) = (random.below(3 * BLOCK), random.between(1, 2 * BLOCK));
                content.write(at, &vec![step as u8; len as usize]).unwrap();
            }
            if random.chance(300) {
                content.resize(random.below(4 * BLOCK)).unwrap();
            }
            content.sync(begun + Duration::from_millis(10 * step));
            had.push(bytes(&content));
        }
        content.write(7, &[99; 99]).unwrap();
        let kept = random.below(9) as usize;
        let moment = begun + Duration::from_millis(10 * kept as u64 + 5);
        content.lose_since(moment).unwrap();
        let at = format!("seed {seed}, {kept} syncs kept");
        assert_same(&bytes(&content), &had[kept], &at);
        assert_eq!(content.durable(), had[kept].len() as u64, "{at}");
    }
}

#[test]
fn what_was_synced_long_ago_is_not_lost_with_any_tail() {
    let (mut content, begun) = (content(), Instant::now());
    content.write(0, &[1; 10]).unwrap();
    content.sync(begun);
    content.write(0, &[2; 10]).unwrap();
    content.sync(begun + TAIL_MAX + Duration::from_millis(1));
    content
        .lose_since(begun - Duration::from_millis(1))
        .unwrap();
    assert_eq!(bytes(&content), [1; 10]);
}

/// A tree, and what stands where in it.
struct Bench {
    tree: Tree,
    _home: TempDir,
}

impl Bench {
    fn new(entries: Entries) -> Bench {
        let home = tempfile::tempdir().unwrap();
        let tree = Tree::new(home.path(), entries, OWNER);
        Bench { tree, _home: home }
    }

    fn find(&self, path: &str) -> Result<Ino, Errno> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names
            .into_iter()
            .try_fold(ROOT, |dir, name| self.tree.lookup(dir, name.as_ref()))
    }

    fn place(&self, path: &str) -> Place {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (dir, name) = (self.find(dir).unwrap(), name.into());
        Place { dir, name }
    }

    fn make(&mut self, path: &str, directory: bool) -> Ino {
        let place = self.place(path);
        self.tree.create(place, OWNER, directory).unwrap()
    }

    fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (self.place(from), self.place(to));
        self.tree.rename(&from, to, false).unwrap();
    }

    fn sync_dir(&mut self, path: &str) {
        let dir = self.find(path).unwrap();
        self.tree.sync_dir(dir).unwrap();
    }

    /// All paths after a cut.
    fn cut(&mut self) -> Vec<String> {
        self.tree.cut();
        let mut found = Vec::new();
        let mut waiting = vec![(ROOT, String::new())];
        while let Some((dir, path)) = waiting.pop() {
            for (name, ino) in self.tree.names(dir).unwrap() {
                let path = format!("{path}/{}", name.display());
                let node = self.tree.node(*ino).unwrap();
                assert_eq!(node.live, node.durable, "{path}");
                if matches!(node.kind, Kind::Dir { .. }) {
                    waiting.push((*ino, path.clone()));
                }
                found.push(path);
            }
        }
        assert_eq!(
            self.tree.nodes.len(),
            found.len() + 1,
            "nothing is left over"
        );
        found.sort();
        found
    }
}

#[test]
fn names_that_change_places_do_it_together() {
    let mut bench = Bench::new(Entries::WithDirectory);
    let (one, two) = (bench.make("one", false), bench.make("two", false));
    bench.sync_dir("");
    bench.rename("one", "third");
    bench.rename("two", "one");
    bench.rename("third", "two");
    bench.sync_dir("");
    assert_eq!(bench.cut(), ["/one", "/two"]);
    assert_eq!((bench.find("one"), bench.find("two")).0.unwrap(), two);
    assert_eq!(bench.find("two").unwrap(), one);
}

#[test]
fn a_file_that_made_room_for_another_is_where_it_went() {
    for entries in [Entries::WithFile, Entries::WithDirectory] {
        let mut bench = Bench::new(entries);
        bench.make("old", true);
        bench.make("dir", true);
        bench.make("dir/log", false);
        bench.sync_dir("dir");
        bench.sync_dir("");
        bench.rename("dir/log", "old/log");
        bench.make("dir/log", false);
        bench.sync_dir("dir");
        assert_eq!(bench.cut(), ["/dir", "/dir/log", "/old", "/old/log"]);
    }
}

#[test]
fn a_directory_that_moves_into_its_child_is_not_lost() {
    let mut bench = Bench::new(Entries::WithDirectory);
    bench.make("a", true);
    bench.make("a/b", true);
    bench.sync_dir("a");
    bench.sync_dir("");
    bench.rename("a/b", "b");
    bench.rename("a", "b/a");
    bench.sync_dir("b");
    assert_eq!(bench.cut(), ["/b", "/b/a"]);
}

#[test]
fn a_file_that_left_a_removed_directory_is_not_lost() {
    let mut bench = Bench::new(Entries::WithDirectory);
    bench.make("dir", true);
    bench.make("dir/file", false);
    bench.sync_dir("dir");
    bench.sync_dir("");
    bench.rename("dir/file", "file");
    let place = bench.place("dir");
    bench.tree.remove(&place, true).unwrap();
    bench.sync_dir("");
    assert_eq!(bench.cut(), ["/file"]);
}

#[test]
fn a_sync_of_a_new_file_takes_its_directories_along_unless_it_is_strict() {
    for (entries, left) in [
        (Entries::WithFile, vec!["/a", "/a/b", "/a/b/file"]),
        (Entries::WithDirectory, vec![]),
    ] {
        let mut bench = Bench::new(entries);
        bench.make("a", true);
        bench.make("a/b", true);
        let file = bench.make("a/b/file", false);
        bench.make("a/other", false);
        bench.tree.sync_file(file, true).unwrap();
        assert_eq!(bench.cut(), left);
    }
    let mut bench = Bench::new(Entries::WithFile);
    let file = bench.make("file", false);
    bench.tree.sync_file(file, true).unwrap();
    bench.rename("file", "renamed");
    bench.tree.sync_file(file, true).unwrap();
    assert_eq!(
        bench.cut(),
        ["/file"],
        "a sync of the data is none of a rename"
    );
    bench.rename("file", "renamed");
    bench.tree.sync_file(file, false).unwrap();
    assert_eq!(bench.cut(), ["/renamed"]);
}

/// Whatever is renamed, removed and synced: after a cut every file is in one place, nothing is left over, and a file
/// that was durable and never removed is there.
#[test]
fn no_order_of_renames_and_syncs_loses_a_file() {
    const DIRS: [&str; 4] = ["", "a", "b", "b/c"];
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let entries = [Entries::WithFile, Entries::WithDirectory][(seed % 2) as usize];
        let mut bench = Bench::new(entries);
        for dir in &DIRS[1..] {
            bench.make(dir, true);
        }
        let files: Vec<String> = (0..6).map(|n| format!("{}/{n}", DIRS[n % 4])).collect();
        let files: Vec<Ino> = files.iter().map(|path| bench.make(path, false)).collect();
        for dir in DIRS {
            bench.sync_dir(dir);
        }
        for _ in 0..60 {
            let dir = bench.find(DIRS[random.below(4) as usize]).unwrap();
            match random.below(4) {
                0 => bench.tree.sync_dir(dir).unwrap(),
                1 => {
                    bench.cut();
                }
                _ => {
                    let file = files[random.below(6) as usize];
                    let from = bench.tree.node(file).unwrap().live.clone().unwrap();
                    // Ten names for six files: some are taken, and those are left alone.
                    let name = random.below(10).to_string().into();
                    let _ = bench.tree.rename(&from, Place { dir, name }, true);
                }
            }
        }
        let left = bench.cut();
        assert_eq!(
            left.len(),
            DIRS.len() - 1 + files.len(),
            "seed {seed}: {left:?}"
        );
    }
}

#[test]
fn what_is_gone_for_good_takes_no_space() {
    let mut bench = Bench::new(Entries::WithFile);
    let file = bench.make("file", false);
    bench
        .tree
        .content_mut(file)
        .unwrap()
        .write(0, &[1; 100])
        .unwrap();
    assert_eq!(bench.tree.used(), 2 * BLOCK);
    bench.tree.opened(file).unwrap();
    let place = bench.place("file");
    bench.tree.remove(&place, false).unwrap();
    assert!(bench.tree.backing_of(file).exists(), "it is open");
    bench.tree.closed(file);
    assert!(!bench.tree.backing_of(file).exists());
    assert_eq!(bench.tree.used(), BLOCK);
}

#[test]
fn a_disk_wants_an_empty_directory() {
    let home = tempfile::tempdir().unwrap();
    File::create(home.path().join("something")).unwrap();
    let refused = Disk::mount(home.path(), &home.path().join("at"), 1).unwrap_err();
    let Refused::Failed(text) = refused else {
        panic!("{refused}");
    };
    assert!(text.contains("is not empty"), "{text}");
}
