//! The load of the crash tests: groups of writes that can be checked after the fact.
//!
//! Group `n` overwrites place `n % PLACES`: sixteen keys over three families with values of 1 B to 1 MiB
//! made from `n`, in `Meta` the place's stamp `n`, and the key `last`. So a torn group, a lost group and a wrong
//! byte all show.

use std::sync::LazyLock;

use hansa_consistency::port::{Family, Write};
use hansa_node::store::{Store, View};

use super::put;

/// Keys of a group, besides its stamp and `last`.
const KEYS: u64 = 16;

/// Places for groups: small enough that most writes overwrite.
const PLACES: u64 = 24;

fn mix(n: u64, i: u64) -> u64 {
    let mut x = (n << 8 | i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ x >> 32
}

/// Incompressible bytes to cut values from: making each value by itself would be most of the time of a test.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = (0..1 << 19).flat_map(|word| mix(0, word).to_le_bytes());
    words.collect()
});

/// Bytes that do not compress, made from a seed. At most 3 MiB.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let start = mix(seed, len as u64) as usize % (NOISE.len() - len);
    let mut bytes = NOISE[start..start + len].to_vec();
    for (byte, seed) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *byte ^= seed;
    }
    bytes
}

fn value(n: u64, i: u64) -> Vec<u8> {
    let spread = mix(n, i) as usize;
    let len = match i {
        0 => 1,
        1 => 1 << 20 >> (spread % 21),
        2 => 6 * 1024 + spread % 4096,
        _ => 1 + spread % 300,
    };
    noise(mix(n, i), len)
}

fn key(n: u64, i: u64) -> (Family, String) {
    let families = [Family::Data, Family::Slot, Family::Log];
    let family = families[i as usize % families.len()];
    (family, format!("{:02}/{i:02}", n % PLACES))
}

fn stamp_key(place: u64) -> String {
    format!("stamp/{place:02}")
}

/// Group `n` as one batch.
pub(crate) fn group(n: u64) -> Vec<Write> {
    let mut batch: Vec<Write> = (0..KEYS)
        .map(|i| {
            let (family, key) = key(n, i);
            put(family, key, value(n, i))
        })
        .collect();
    let stamp = n.to_be_bytes();
    batch.push(put(Family::Meta, stamp_key(n % PLACES), stamp));
    batch.push(put(Family::Meta, "last", stamp));
    batch
}

fn number(store: &(impl View + ?Sized), key: &str) -> Option<u64> {
    let value = store.get(Family::Meta, key.as_bytes()).unwrap();
    value.map(|value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

/// Checks that all groups up to `acknowledged` are there, or were overwritten by later ones, and that no
/// group is there in part. Returns the newest group.
pub(crate) fn check(store: &dyn Store, acknowledged: Option<u64>) -> Result<Option<u64>, String> {
    let last = number(store, "last");
    if last < acknowledged {
        return Err(format!(
            "acknowledged up to {acknowledged:?}, found {last:?}"
        ));
    }
    let Some(last) = last else { return Ok(None) };
    for place in 0..PLACES.min(last + 1) {
        let newest = last - (last - place) % PLACES;
        let stamp = number(store, &stamp_key(place));
        if stamp != Some(newest) {
            return Err(format!(
                "group {newest}, up to {last}: its stamp is {stamp:?}"
            ));
        }
        for i in 0..KEYS {
            let (family, key) = key(newest, i);
            let found = store.get(family, key.as_bytes());
            let found = found.map_err(|error| format!("group {newest}, key {i}: {error}"))?;
            if found.as_deref() != Some(&value(newest, i)[..]) {
                let len = found.map(|found| found.len());
                return Err(format!(
                    "group {newest} of {last} is torn at key {i}: {len:?} bytes"
                ));
            }
        }
    }
    Ok(Some(last))
}
