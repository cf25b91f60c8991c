//! The disk that keeps only what was synced: what it keeps, how it fails, and a real node on it.
//!
//! Where this machine does not permit FUSE file systems, the cases say `not run:` and why.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod disk_support;
#[path = "support/say.rs"]
mod say;
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use disk_support::node::{Accident, Outcome};
use disk_support::{Bench, bench, node};
use hansa_jepsen::disk::{Entries, Settings};
use hansa_jepsen::nemesis::{Data, Disk as Fault, Refused};
use say::say;

fn sync_dir(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// A file whose bytes and name are durable.
fn write_synced(path: &Path, bytes: &[u8]) -> File {
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    file
}

fn cut(bench: &Bench) -> String {
    bench.disk.act_data(Data::DropUnsynced).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(path).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn what_was_synced_stays_and_the_rest_goes() {
    let Some(bench) = bench("what_was_synced_stays_and_the_rest_goes") else {
        return;
    };
    let file = write_synced(&bench.at("kept"), b"synced ");
    file.write_at(b"S", 0).unwrap();
    file.write_at(b"and not synced", 7).unwrap();
    fs::write(bench.at("never"), "synced").unwrap();
    assert_eq!(
        fs::read(bench.at("kept")).unwrap(),
        b"Synced and not synced"
    );
    drop(file);
    rustix::fs::syncfs(File::open(bench.path()).unwrap()).unwrap();
    let before = bench.disk.counters();
    assert_eq!((before.writes, before.bytes, before.syncs), (4, 28, 1));
    cut(&bench);
    assert_eq!(names(bench.path()), ["kept"]);
    assert_eq!(fs::read(bench.at("kept")).unwrap(), b"synced ");
    assert_eq!(bench.disk.counters().lost, 21 + 6);

    // A size is synced too, and a cut-off file comes back whole.
    let file = write_synced(&bench.at("kept"), &[7; 10_000]);
    file.set_len(5).unwrap();
    file.write_at(b"x", 9000).unwrap();
    cut(&bench);
    assert_eq!(fs::read(bench.at("kept")).unwrap(), [7; 10_000]);
    drop(file);
    let file = File::options().write(true).open(bench.at("kept")).unwrap();
    file.set_len(5).unwrap();
    file.sync_data().unwrap();
    cut(&bench);
    assert_eq!(fs::read(bench.at("kept")).unwrap(), [7; 5]);
}

#[test]
fn a_write_that_syncs_by_itself_is_durable_and_a_direct_one_is_not() {
    let Some(bench) = bench("a_write_that_syncs_by_itself_is_durable_and_a_direct_one_is_not")
    else {
        return;
    };
    for (name, flag) in [
        ("dsync", rustix::fs::OFlags::DSYNC),
        ("sync", rustix::fs::OFlags::SYNC),
    ] {
        let mut options = OpenOptions::new();
        options
            .create(true)
            .write(true)
            .custom_flags(flag.bits() as i32);
        let mut file = options.open(bench.at(name)).unwrap();
        file.write_all(b"at once").unwrap();
        drop(file);
        cut(&bench);
        assert_eq!(fs::read(bench.at(name)).unwrap(), b"at once", "{name}");
    }
    write_synced(&bench.at("direct"), &[1; 4096]);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32);
    let file = options.open(bench.at("direct")).unwrap();
    file.write_at(&[2; 4096], 0).unwrap();
    assert_eq!(fs::read(bench.at("direct")).unwrap(), [2; 4096]);
    cut(&bench);
    assert_eq!(fs::read(bench.at("direct")).unwrap(), [1; 4096]);
}

#[test]
fn a_rename_needs_a_sync_and_is_done_or_not_done() {
    let Some(bench) = bench("a_rename_needs_a_sync_and_is_done_or_not_done") else {
        return;
    };
    write_synced(&bench.at("settings"), b"old");
    write_synced(&bench.at("settings.new"), b"new");
    fs::rename(bench.at("settings.new"), bench.at("settings")).unwrap();
    assert_eq!(fs::read(bench.at("settings")).unwrap(), b"new");
    cut(&bench);
    assert_eq!(fs::read(bench.at("settings")).unwrap(), b"old");
    assert_eq!(fs::read(bench.at("settings.new")).unwrap(), b"new");

    fs::rename(bench.at("settings.new"), bench.at("settings")).unwrap();
    sync_dir(bench.path());
    cut(&bench);
    assert_eq!(names(bench.path()), ["settings"]);
    assert_eq!(fs::read(bench.at("settings")).unwrap(), b"new");

    // Between directories either sync will do, and the file is never in both or in none.
    for side in ["from", "to"] {
        fs::create_dir_all(bench.at("from")).unwrap();
        fs::create_dir_all(bench.at("to")).unwrap();
        write_synced(&bench.at("from/file"), b"moved");
        fs::rename(bench.at("from/file"), bench.at("to/file")).unwrap();
        sync_dir(&bench.at(side));
        cut(&bench);
        assert_eq!(fs::read(bench.at("to/file")).unwrap(), b"moved", "{side}");
        assert_eq!(names(&bench.at("from")), [""; 0], "{side}");
        fs::remove_dir_all(bench.at("to")).unwrap();
    }
}

#[test]
fn a_removal_needs_a_sync_and_an_open_file_outlives_it() {
    let Some(bench) = bench("a_removal_needs_a_sync_and_an_open_file_outlives_it") else {
        return;
    };
    let file = write_synced(&bench.at("file"), b"bytes");
    fs::remove_file(bench.at("file")).unwrap();
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"bytes");
    cut(&bench);
    assert_eq!(fs::read(bench.at("file")).unwrap(), b"bytes");
    let stale = file.sync_all().unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleNetworkFileHandle, "{stale}");
    fs::remove_file(bench.at("file")).unwrap();
    sync_dir(bench.path());
    cut(&bench);
    assert_eq!(names(bench.path()), [""; 0]);

    fs::create_dir_all(bench.at("a/b")).unwrap();
    let file = write_synced(&bench.at("a/b/file"), b"deep");
    drop(file);
    fs::remove_dir_all(bench.at("a")).unwrap();
    cut(&bench);
    assert_eq!(fs::read(bench.at("a/b/file")).unwrap(), b"deep");
    assert!(fs::remove_dir(bench.at("a")).is_err(), "it is not empty");
    fs::remove_dir_all(bench.at("a")).unwrap();
    sync_dir(bench.path());
    cut(&bench);
    assert_eq!(names(bench.path()), [""; 0]);
}

#[test]
fn the_strict_disk_keeps_a_name_only_with_its_directory() {
    let settings = Settings {
        entries: Entries::WithDirectory,
        lying: false,
    };
    let case = "the_strict_disk_keeps_a_name_only_with_its_directory";
    let Some(bench) = disk_support::bench_with(case, settings) else {
        return;
    };
    write_synced(&bench.at("file"), b"bytes");
    cut(&bench);
    assert_eq!(names(bench.path()), [""; 0]);
    fs::create_dir(bench.at("dir")).unwrap();
    write_synced(&bench.at("dir/file"), b"bytes");
    sync_dir(&bench.at("dir"));
    cut(&bench);
    assert_eq!(names(bench.path()), [""; 0], "the directory has no name");
    fs::create_dir(bench.at("dir")).unwrap();
    write_synced(&bench.at("dir/file"), b"bytes");
    sync_dir(&bench.at("dir"));
    sync_dir(bench.path());
    cut(&bench);
    assert_eq!(fs::read(bench.at("dir/file")).unwrap(), b"bytes");
}

#[test]
fn a_torn_write_leaves_the_first_writes_and_whole_sectors_of_the_next() {
    const SECTOR: usize = 512;
    let Some(bench) = bench("a_torn_write_leaves_the_first_writes_and_whole_sectors_of_the_next")
    else {
        return;
    };
    let (mut nothing, mut prefixes, mut gaps) = (0, 0, 0);
    for round in 0..60 {
        let path = bench.at(&format!("file-{round}"));
        let file = write_synced(&path, &[1; 2 * SECTOR]);
        file.write_at(&[2; SECTOR], 0).unwrap();
        file.write_at(&[3; 10 * SECTOR], 2 * SECTOR as u64).unwrap();
        drop(file);
        let done = bench.disk.act_data(Data::Tear).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() % SECTOR, 0);
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        for (sector, byte) in bytes.chunks(SECTOR).zip(&sectors) {
            assert!(sector.iter().all(|it| it == byte), "{done}");
        }
        assert_eq!(sectors[1], 1, "{done}");
        let there = sectors.iter().filter(|it| **it == 3).count();
        assert!(there < 10 && (there == 0 || sectors[0] == 2), "{done}");
        match (there, sectors[2..].contains(&0)) {
            (0, _) => nothing += 1,
            (_, true) => gaps += 1,
            (_, false) => prefixes += 1,
        }
        fs::remove_file(&path).unwrap();
        sync_dir(bench.path());
    }
    assert!(
        nothing > 5 && prefixes > 5 && gaps > 5,
        "{nothing} with nothing, {prefixes} prefixes, {gaps} with gaps"
    );
    let none = bench.disk.act_data(Data::Tear).unwrap();
    assert!(none.contains("no unsynced write"), "{none}");
}

#[test]
fn each_file_is_torn_by_itself() {
    let Some(bench) = bench("each_file_is_torn_by_itself") else {
        return;
    };
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..60 {
        let paths = ["one", "two"].map(|name| bench.at(&format!("{name}-{round}")));
        for path in &paths {
            let file = write_synced(path, b"");
            file.write_at(b"first", 0).unwrap();
            file.write_at(b"second", 5).unwrap();
        }
        bench.disk.act_data(Data::Tear).unwrap();
        seen.insert(paths.map(|path| fs::read(path).unwrap()));
    }
    // Nothing, the first, or both: a write within a sector is there or not.
    assert!(seen.len() > 6, "{seen:?}");
    let short = |bytes: &Vec<u8>| [&b""[..], b"first", b"firstsecond"].contains(&&bytes[..]);
    assert!(seen.iter().flatten().all(short), "{seen:?}");
}

#[test]
fn a_lost_tail_is_of_files_below_the_top_and_of_what_was_synced_in_it() {
    let Some(bench) = bench("a_lost_tail_is_of_files_below_the_top_and_of_what_was_synced_in_it")
    else {
        return;
    };
    fs::create_dir(bench.at("store")).unwrap();
    let paths = [bench.at("sequence"), bench.at("store/log")];
    let files = paths.clone().map(|path| write_synced(&path, b"old"));
    sync_dir(&bench.at("store"));
    sync_dir(bench.path());
    std::thread::sleep(Duration::from_millis(600));
    for file in &files {
        file.write_at(b"new", 0).unwrap();
        file.sync_data().unwrap();
    }
    drop(files);
    bench.disk.power_off();
    // It counts back from when the power went.
    std::thread::sleep(Duration::from_millis(600));
    let done = bench.disk.act_data(Data::LoseTail(500)).unwrap();
    let left = paths.map(|path| fs::read(path).unwrap());
    assert_eq!(left, [b"new", b"old"], "{done}");
}

#[test]
fn what_a_failed_sync_dropped_no_later_sync_brings_back() {
    let Some(bench) = bench("what_a_failed_sync_dropped_no_later_sync_brings_back") else {
        return;
    };
    let file = write_synced(&bench.at("file"), &[1; 8192]);
    file.write_at(&[2; 100], 0).unwrap();
    file.write_at(&[2; 100], 8192).unwrap();
    bench.disk.act_disk(Fault::FailSyncs);
    let error = file.sync_data().unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::IO.raw_os_error())
    );
    assert!(File::open(bench.path()).unwrap().sync_all().is_err());
    bench.disk.act_disk(Fault::Healthy);
    file.write_at(&[3; 100], 4096).unwrap();
    file.sync_all().unwrap();
    let mut seen = [0; 8292];
    file.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(
        (seen[0], seen[4096], seen[8192]),
        (2, 3, 2),
        "the cache still has it"
    );
    cut(&bench);
    let bytes = fs::read(bench.at("file")).unwrap();
    assert_eq!((bytes[0], bytes[4096], bytes[4196]), (1, 3, 1));
    assert_eq!(
        bytes[8192..],
        [0; 100],
        "a size is synced, the page in it never"
    );
}

#[test]
fn a_full_disk_takes_nothing_more_until_something_goes() {
    let Some(bench) = bench("a_full_disk_takes_nothing_more_until_something_goes") else {
        return;
    };
    let file = write_synced(&bench.at("file"), &[1; 8192]);
    fs::write(bench.at("ballast"), [0; 8192]).unwrap();
    bench.disk.act_disk(Fault::Full);
    let full = |error: io::Error| assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    full(file.write_at(&[2; 10], 8192).unwrap_err());
    full(file.set_len(20_000).unwrap_err());
    full(File::create(bench.at("another")).unwrap_err());
    full(fs::create_dir(bench.at("directory")).unwrap_err());
    file.write_at(&[2; 10], 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(rustix::fs::statvfs(bench.path()).unwrap().f_bavail, 0);
    fs::remove_file(bench.at("ballast")).unwrap();
    file.write_at(&[2; 10], 8192).unwrap();
    full(
        file.write_at(&[2; 10], 12_288)
            .map(|_| ())
            .and_then(|()| file.write_at(&[2; 10], 16_384))
            .unwrap_err(),
    );
    bench.disk.act_disk(Fault::Healthy);
    file.write_at(&[2; 10], 16_384).unwrap();
    fs::write(bench.at("another"), "fits").unwrap();
}

#[test]
fn a_slow_sync_blocks_nobody_else() {
    const SLOW: Duration = Duration::from_millis(1500);
    let Some(bench) = bench("a_slow_sync_blocks_nobody_else") else {
        return;
    };
    let file = File::create(bench.at("slow")).unwrap();
    file.write_at(b"slow", 0).unwrap();
    bench.disk.act_disk(Fault::Slow(SLOW.as_millis() as u64));
    let (sender, receiver) = mpsc::channel();
    let syncing = std::thread::spawn(move || {
        let begin = Instant::now();
        sender.send(()).unwrap();
        file.sync_all().unwrap();
        begin.elapsed()
    });
    receiver.recv().unwrap();
    let begin = Instant::now();
    let mut others = 0;
    while !syncing.is_finished() {
        fs::write(bench.at("other"), format!("{others}")).unwrap();
        assert_eq!(
            fs::read(bench.at("other")).unwrap(),
            format!("{others}").as_bytes()
        );
        others += 1;
    }
    let took = syncing.join().unwrap();
    assert!(took >= SLOW && begin.elapsed() < 10 * SLOW, "{took:?}");
    assert!(others > 20, "{others} writes and reads meanwhile");

    // A cut comes first: what was being synced is gone.
    let file = write_at_once(&bench, "cut");
    file.write_at(b"late", 0).unwrap();
    bench.disk.act_disk(Fault::Slow(SLOW.as_millis() as u64));
    let syncing = std::thread::spawn(move || file.sync_all());
    std::thread::sleep(SLOW / 5);
    cut(&bench);
    assert!(syncing.join().unwrap().is_err());
    assert_eq!(fs::read(bench.at("cut")).unwrap(), b"once");
}

fn write_at_once(bench: &Bench, name: &str) -> File {
    bench.disk.act_disk(Fault::Healthy);
    write_synced(&bench.at(name), b"once")
}

#[test]
fn a_flipped_bit_and_a_misdirected_block_are_seen_and_told() {
    let Some(bench) = bench("a_flipped_bit_and_a_misdirected_block_are_seen_and_told") else {
        return;
    };
    let refused = bench.disk.act_data(Data::FlipBit).unwrap_err();
    assert!(matches!(refused, Refused::NotHere(_)), "{refused}");
    File::create(bench.at("empty")).unwrap().sync_all().unwrap();
    let original: Vec<u8> = (0..20_000).map(|at| (at / 4096 + 1) as u8).collect();
    write_synced(&bench.at("file"), &original);
    assert_eq!(fs::read(bench.at("file")).unwrap(), original, "and cached");
    for _ in 0..10 {
        let done = bench.disk.act_data(Data::FlipBit).unwrap();
        let now = fs::read(bench.at("file")).unwrap();
        let differing: Vec<usize> = (0..now.len())
            .filter(|at| now[*at] != original[*at])
            .collect();
        assert_eq!(differing.len(), 1, "{done}");
        assert_eq!((now[differing[0]] ^ original[differing[0]]).count_ones(), 1);
        assert!(
            done.contains(&format!("byte {} of file", differing[0])),
            "{done}"
        );
        write_synced(&bench.at("file"), &original);
    }
    for _ in 0..10 {
        let done = bench.disk.act_data(Data::Misdirect).unwrap();
        let now = fs::read(bench.at("file")).unwrap();
        assert_eq!(now.len(), original.len());
        let blocks = original.chunks(4096).zip(now.chunks(4096));
        let changed: Vec<_> = blocks.filter(|(old, new)| old != new).collect();
        assert_eq!(changed.len(), 1, "{done}");
        assert!(done.contains(" of file over byte "), "{done}");
        write_synced(&bench.at("file"), &original);
    }
}

#[test]
fn a_copy_is_kept_and_put_back_and_a_wipe_leaves_nothing() {
    let Some(bench) = bench("a_copy_is_kept_and_put_back_and_a_wipe_leaves_nothing") else {
        return;
    };
    let refused = bench.disk.act_data(Data::Restore).unwrap_err();
    assert!(matches!(refused, Refused::NotHere(_)), "{refused}");
    fs::create_dir_all(bench.at("a/b")).unwrap();
    fs::write(bench.at("a/b/file"), vec![5; 100_000]).unwrap();
    fs::write(bench.at("top"), "old").unwrap();
    bench.disk.act_data(Data::Keep).unwrap();
    fs::write(bench.at("top"), "newer").unwrap();
    fs::remove_dir_all(bench.at("a")).unwrap();
    fs::write(bench.at("late"), "x").unwrap();
    bench.disk.act_data(Data::Wipe).unwrap();
    assert_eq!(names(bench.path()), [""; 0]);
    for _ in 0..2 {
        bench.disk.act_data(Data::Restore).unwrap();
        cut(&bench);
        assert_eq!(names(bench.path()), ["a", "top"]);
        assert_eq!(fs::read(bench.at("top")).unwrap(), b"old");
        assert_eq!(fs::read(bench.at("a/b/file")).unwrap(), vec![5; 100_000]);
        write_synced(&bench.at("after"), b"it goes on");
        cut(&bench);
        assert_eq!(fs::read(bench.at("after")).unwrap(), b"it goes on");
    }
}

#[test]
fn a_program_runs_from_it_so_files_can_be_mapped() {
    let Some(bench) = bench("a_program_runs_from_it_so_files_can_be_mapped") else {
        return;
    };
    fs::copy("/bin/sh", bench.at("sh")).unwrap();
    fs::set_permissions(bench.at("sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let status = Command::new(bench.at("sh")).args(["-c", "exit 7"]).status();
    assert_eq!(status.unwrap().code(), Some(7));
}

#[test]
fn a_busy_disk_is_unmounted_all_the_same() {
    let Some(bench) = bench("a_busy_disk_is_unmounted_all_the_same") else {
        return;
    };
    let file = write_synced(&bench.at("file"), b"bytes");
    let at = bench.path().to_owned();
    let Bench { disk, home } = bench;
    drop(disk);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(at.to_str().unwrap()), "{mounts}");
    assert_eq!(names(&at), [""; 0]);
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"bytes", "served until it is closed");
    drop((file, home));
}

#[test]
fn how_much_a_sync_costs() {
    const SYNCS: u32 = 300;
    let Some(bench) = bench("how_much_a_sync_costs") else {
        return;
    };
    let measure = |dir: &Path| {
        let file = File::create(dir.join("log")).unwrap();
        let begin = Instant::now();
        for n in 0..SYNCS {
            file.write_at(&[1; 200], u64::from(n) * 200).unwrap();
            file.sync_data().unwrap();
        }
        begin.elapsed() / SYNCS
    };
    let (below, here) = (measure(bench.home.path()), measure(bench.path()));
    let ratio = here.as_secs_f64() / below.as_secs_f64();
    say(&format!(
        "disk: 200 bytes written and synced in {here:?}, on the file system below in {below:?}: ratio {ratio:.2}"
    ));
    assert_eq!(bench.disk.counters().syncs, u64::from(SYNCS));
}

mod a_node_on_it {
    use super::*;

    const CUT: Accident = Accident {
        fault: None,
        data: Data::DropUnsynced,
    };

    fn keeps(case: &str, engine: &str, fault: Option<Fault>) {
        let accident = Accident { fault, ..CUT };
        let found = node::power_cuts(case, engine, Settings::default(), accident);
        assert!(matches!(found, None | Some(Outcome::Kept)), "{found:?}");
    }

    #[test]
    fn keeps_what_it_acknowledged_with_fjall() {
        keeps("keeps_what_it_acknowledged_with_fjall", "fjall", None);
    }

    #[test]
    fn keeps_what_it_acknowledged_with_sled() {
        keeps("keeps_what_it_acknowledged_with_sled", "sled", None);
    }

    /// Names too are synced where POSIX asks for it.
    #[test]
    fn keeps_what_it_acknowledged_on_a_strict_disk() {
        let strict = Settings {
            entries: Entries::WithDirectory,
            ..Settings::default()
        };
        let case = "keeps_what_it_acknowledged_on_a_strict_disk";
        for engine in ["fjall", "sled"] {
            let found = node::power_cuts(case, engine, strict, CUT);
            assert!(matches!(found, None | Some(Outcome::Kept)), "{found:?}");
        }
    }

    #[test]
    fn acknowledges_nothing_after_a_failed_sync() {
        let case = "acknowledges_nothing_after_a_failed_sync";
        for engine in ["fjall", "sled"] {
            keeps(case, engine, Some(Fault::FailSyncs));
        }
    }

    #[test]
    fn acknowledges_nothing_that_a_full_disk_did_not_take() {
        let case = "acknowledges_nothing_that_a_full_disk_did_not_take";
        for engine in ["fjall", "sled"] {
            keeps(case, engine, Some(Fault::Full));
        }
    }

    /// A hole in what was never acknowledged looks like damage: an engine may refuse it, and then the node has to say
    /// so. It may not go on without what it had acknowledged.
    fn never_forgets(case: &str, engine: &str) {
        let data = Data::Tear;
        let found = node::power_cuts(case, engine, Settings::default(), Accident { data, ..CUT });
        match found {
            None | Some(Outcome::Kept) => {}
            Some(Outcome::Refused(log)) if log.contains("is not what this node left there") => {
                say(&format!("disk: {engine} refuses a torn write: {log}"));
            }
            found => panic!("{found:?}"),
        }
    }

    #[test]
    fn never_forgets_after_torn_writes_with_fjall() {
        never_forgets("never_forgets_after_torn_writes_with_fjall", "fjall");
    }

    #[test]
    fn never_forgets_after_torn_writes_with_sled() {
        never_forgets("never_forgets_after_torn_writes_with_sled", "sled");
    }

    /// The check can fail.
    #[test]
    fn loses_what_it_acknowledged_when_syncs_do_nothing() {
        let lying = Settings {
            lying: true,
            ..Settings::default()
        };
        let case = "loses_what_it_acknowledged_when_syncs_do_nothing";
        let found = node::power_cuts(case, "fjall", lying, CUT);
        match found {
            None => {}
            Some(Outcome::Lost(keys)) => assert!(!keys.is_empty()),
            found => panic!("{found:?}"),
        }
    }
}
