//! The canonical binary form of everything that is stored, logged or digested.
//!
//! One value has exactly one encoding, so that equal values have equal digests.
//! Every top-level record starts with its format version ([`FORMAT`]); a newer
//! one is refused by name, never guessed at. Behind the known fields a record may
//! carry an *extension*: bytes of a later minor format that are kept and relayed.
//!
//! Numbers are LEB128 varints, byte strings are length-prefixed, maps are sorted.

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Hlc;
use crate::key::{NodeId, Row};
use crate::version::{Ballot, Dot, Origin, ShardEpoch, Stamp, Tag};

/// The format version this build writes, first byte of every record.
pub const FORMAT: u8 = 1;

/// Bytes that are not what they should be. Nothing was taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version of Hansa.
    #[error(
        "format version {found} is newer than {FORMAT}, the newest this version reads: upgrade first"
    )]
    NewerFormat {
        /// The version found.
        found: u8,
    },
    /// Too short, too long, or out of range.
    #[error("not a valid {what}")]
    Malformed {
        /// What was being read.
        what: &'static str,
    },
}

/// The result of decoding.
pub type Decoded<T> = Result<T, DecodeError>;

/// A thing with one canonical encoding.
pub trait Encode: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut Encoder);
    /// Reads one off the front.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not one.
    fn decode(input: &mut Decoder) -> Decoded<Self>;

    /// As a stored record: format version, fields, nothing behind.
    fn to_record(&self) -> Bytes {
        let mut out = Encoder::record();
        self.encode(&mut out);
        out.finish()
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`DecodeError`] when the version is newer or the bytes are malformed.
    fn from_record(bytes: &Bytes) -> Decoded<Self> {
        let mut input = Decoder::record(bytes)?;
        let value = Self::decode(&mut input)?;
        input.end("record")?;
        Ok(value)
    }
}

/// Builds an encoding.
#[derive(Default)]
pub struct Encoder {
    out: BytesMut,
}

impl Encoder {
    /// Starts a record with its format version.
    pub fn record() -> Encoder {
        let mut encoder = Encoder::default();
        encoder.u8(FORMAT);
        encoder
    }

    /// The bytes.
    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    /// A flag.
    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// A number, as varint: small ones are short.
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.out.put_slice(value);
    }

    /// A thing.
    pub fn put<T: Encode>(&mut self, value: &T) {
        value.encode(self);
    }

    /// A thing that may be absent.
    pub fn option<T: Encode>(&mut self, value: Option<&T>) {
        self.bool(value.is_some());
        if let Some(value) = value {
            value.encode(self);
        }
    }

    /// A list; maps give their pairs in order.
    pub fn list<T: Encode>(&mut self, items: impl ExactSizeIterator<Item = T>) {
        self.number(items.len() as u64);
        for item in items {
            item.encode(self);
        }
    }
}

/// Takes an encoding apart.
pub struct Decoder {
    input: Bytes,
}

impl Decoder {
    /// Over bare fields.
    pub fn new(input: &Bytes) -> Decoder {
        Decoder {
            input: input.clone(),
        }
    }

    /// Over a record: reads and checks its format version.
    ///
    /// # Errors
    /// [`DecodeError::NewerFormat`] when it is newer, malformed when it is empty or zero.
    pub fn record(input: &Bytes) -> Decoded<Decoder> {
        let mut decoder = Decoder::new(input);
        match decoder.u8("format version")? {
            FORMAT => Ok(decoder),
            found if found > FORMAT => Err(DecodeError::NewerFormat { found }),
            _ => Err(DecodeError::Malformed {
                what: "format version",
            }),
        }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// Malformed when bytes are left.
    pub fn end(&self, what: &'static str) -> Decoded<()> {
        if self.input.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed { what })
        }
    }

    /// Whatever is left: an extension of a later minor format.
    pub fn rest(&mut self) -> Bytes {
        self.input.split_off(0)
    }

    /// One byte.
    ///
    /// # Errors
    /// Malformed at the end of the input.
    pub fn u8(&mut self, what: &'static str) -> Decoded<u8> {
        if self.input.is_empty() {
            return Err(DecodeError::Malformed { what });
        }
        Ok(self.input.split_to(1)[0])
    }

    /// A flag.
    ///
    /// # Errors
    /// Malformed when it is neither 0 nor 1.
    pub fn bool(&mut self, what: &'static str) -> Decoded<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed { what }),
        }
    }

    /// A number. Only the shortest form is accepted: one value, one encoding.
    ///
    /// # Errors
    /// Malformed when it is too long or over 64 bits.
    pub fn number(&mut self, what: &'static str) -> Decoded<u64> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed { what })
    }

    /// A number that must fit a smaller type.
    ///
    /// # Errors
    /// Malformed when it does not.
    pub fn small<T: TryFrom<u64>>(&mut self, what: &'static str) -> Decoded<T> {
        T::try_from(self.number(what)?).map_err(|_| DecodeError::Malformed { what })
    }

    /// A byte string, sharing the input's memory.
    ///
    /// # Errors
    /// Malformed when it is longer than the input.
    pub fn bytes(&mut self, what: &'static str) -> Decoded<Bytes> {
        let length: usize = self.small(what)?;
        if length > self.input.len() {
            return Err(DecodeError::Malformed { what });
        }
        Ok(self.input.split_to(length))
    }

    /// A thing.
    ///
    /// # Errors
    /// Whatever its decoding says.
    pub fn get<T: Encode>(&mut self) -> Decoded<T> {
        T::decode(self)
    }

    /// A thing that may be absent.
    ///
    /// # Errors
    /// Whatever its decoding says.
    pub fn option<T: Encode>(&mut self) -> Decoded<Option<T>> {
        self.bool("presence flag")?.then(|| self.get()).transpose()
    }

    /// A list. Its length is checked against the input before anything is allocated.
    ///
    /// # Errors
    /// Whatever its items' decoding says.
    pub fn list<T: Encode>(&mut self, what: &'static str) -> Decoded<Vec<T>> {
        let length: usize = self.small(what)?;
        if length > self.input.len() {
            return Err(DecodeError::Malformed { what });
        }
        (0..length).map(|_| self.get()).collect()
    }

    /// The pairs of a map, by ascending key and each key once: one map has one encoding. `key` says
    /// which numbers are keys.
    ///
    /// # Errors
    /// Malformed when the order is another or a number is no key; whatever the values' decoding says.
    pub fn map<K: Ord + Copy, V: Encode>(
        &mut self,
        what: &'static str,
        key: impl Fn(u64) -> Option<K>,
    ) -> Decoded<Vec<(K, V)>> {
        let mut last = None;
        let pairs = self.list::<(u64, V)>(what)?.into_iter();
        pairs
            .map(|(number, value)| {
                let key = key(number).filter(|key| last.is_none_or(|last| last < *key));
                last = key;
                Ok((key.ok_or(DecodeError::Malformed { what })?, value))
            })
            .collect()
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(self);
    }
    fn decode(input: &mut Decoder) -> Decoded<Bytes> {
        input.bytes("byte string")
    }
}

impl Encode for u64 {
    fn encode(&self, out: &mut Encoder) {
        out.number(*self);
    }
    fn decode(input: &mut Decoder) -> Decoded<u64> {
        input.number("number")
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.0);
        out.put(&self.1);
    }
    fn decode(input: &mut Decoder) -> Decoded<(A, B)> {
        Ok((input.get()?, input.get()?))
    }
}

impl Encode for Hlc {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.0);
    }
    fn decode(input: &mut Decoder) -> Decoded<Hlc> {
        Ok(Hlc(input.number("clock value")?))
    }
}

impl Encode for Origin {
    fn encode(&self, out: &mut Encoder) {
        out.number(u64::from(self.node.0));
        out.number(u64::from(self.incarnation));
    }
    fn decode(input: &mut Decoder) -> Decoded<Origin> {
        Ok(Origin {
            node: NodeId(input.small("node")?),
            incarnation: input.small("incarnation")?,
        })
    }
}

impl Encode for Dot {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.origin);
        out.number(self.seq);
    }
    fn decode(input: &mut Decoder) -> Decoded<Dot> {
        Ok(Dot {
            origin: input.get()?,
            seq: input.number("seq")?,
        })
    }
}

impl Encode for Ballot {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.n);
        out.put(&self.origin);
    }
    fn decode(input: &mut Decoder) -> Decoded<Ballot> {
        Ok(Ballot {
            n: input.number("ballot")?,
            origin: input.get()?,
        })
    }
}

impl Encode for Stamp {
    fn encode(&self, out: &mut Encoder) {
        out.number(u64::from(self.strong_version));
        out.put(&self.hlc);
        match &self.tag {
            Tag::Strong(ballot, index) => {
                out.u8(0);
                out.put(ballot);
                out.number(u64::from(*index));
            }
            Tag::Entry(dot) => {
                out.u8(1);
                out.put(dot);
            }
        }
    }
    fn decode(input: &mut Decoder) -> Decoded<Stamp> {
        Ok(Stamp {
            strong_version: input.small("strong version")?,
            hlc: input.get()?,
            tag: match input.u8("stamp tag")? {
                0 => Tag::Strong(input.get()?, input.small("group index")?),
                1 => Tag::Entry(input.get()?),
                _ => return Err(DecodeError::Malformed { what: "stamp tag" }),
            },
        })
    }
}

impl Encode for ShardEpoch {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.n);
        out.number(u64::from(self.proposer));
    }
    fn decode(input: &mut Decoder) -> Decoded<ShardEpoch> {
        Ok(ShardEpoch {
            n: input.number("epoch")?,
            proposer: input.small("epoch proposer")?,
        })
    }
}

impl Encode for Row {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(self.as_bytes());
    }
    fn decode(input: &mut Decoder) -> Decoded<Row> {
        Row::from_bytes(input.bytes("row")?).ok_or(DecodeError::Malformed { what: "row" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value in any::<u64>()) {
            let mut out = Encoder::default();
            out.number(value);
            let mut input = Decoder::new(&out.finish());
            prop_assert_eq!(input.number("n"), Ok(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn one_value_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let bytes = Bytes::from(bytes);
            let mut input = Decoder::new(&bytes);
            if let Ok(value) = input.number("n") {
                let mut out = Encoder::default();
                out.number(value);
                prop_assert_eq!(&out.finish()[..], &bytes[..bytes.len() - input.rest().len()]);
            }
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let record = Bytes::from_static(&[9, 1]);
        assert_eq!(
            u64::from_record(&record),
            Err(DecodeError::NewerFormat { found: 9 })
        );
    }
}
