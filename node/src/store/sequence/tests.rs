use super::*;

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn the_highest_number_written_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sequence");
    assert!(matches!(
        SequenceFile::open(&path),
        Err(SequenceError::Missing)
    ));
    let mut file = SequenceFile::create(&path, 3).unwrap();
    for sequence in [4, 5, 90, u64::MAX] {
        file.write(sequence).unwrap();
        let read = SequenceFile::open(&path).unwrap();
        assert_eq!(read.current(), sequence);
    }
    assert!(matches!(
        file.write(90),
        Err(SequenceError::NotAbove { asked: 90, .. })
    ));
}

#[test]
fn a_torn_write_leaves_the_number_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sequence");
    for byte in 0..RECORD_BYTES as u64 {
        let mut file = SequenceFile::create(&path, 0).unwrap();
        for sequence in 1..=3 {
            file.write(sequence).unwrap();
        }
        // 1 and 3 went to one slot, 2 to the other: spoil the newest.
        let newest = (1 - file.next_slot) * SLOT_BYTES;
        flip(&path, newest as u64 + byte);
        let mut read = SequenceFile::open(&path).unwrap();
        assert_eq!(read.current(), 2, "byte {byte}");
        // The next write mends the torn slot, not the good one.
        read.write(7).unwrap();
        let read = SequenceFile::open(&path).unwrap();
        assert_eq!(read.current(), 7);
    }
}

#[test]
fn damage_of_both_slots_is_told_apart_from_a_missing_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sequence");
    drop(SequenceFile::create(&path, 9).unwrap());
    flip(&path, 10);
    flip(&path, 4096 + 10);
    assert!(matches!(
        SequenceFile::open(&path),
        Err(SequenceError::Damaged)
    ));
    fs::write(&path, "").unwrap();
    assert!(matches!(
        SequenceFile::open(&path),
        Err(SequenceError::Damaged)
    ));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sequence");
    let mut record = encode(5);
    record[8] = FORMAT + 1;
    let sum = xxh3_64(&record[..17]);
    record[17..].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, record).unwrap();
    assert!(matches!(
        SequenceFile::open(&path),
        Err(SequenceError::NewerFormat { found: 2, known: 1 })
    ));
}

#[test]
fn after_a_failed_write_nothing_more_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sequence");
    let mut file = SequenceFile::create(&path, 1).unwrap();
    // A descriptor that can not be written to stands for a disk that fails.
    file.file = File::open(&path).unwrap();
    assert!(matches!(file.write(2), Err(SequenceError::Io { .. })));
    file.file = File::options().write(true).open(&path).unwrap();
    assert!(matches!(file.write(2), Err(SequenceError::Poisoned)));
    assert_eq!(SequenceFile::open(&path).unwrap().current(), 1);
}
