//! One step at work: what it reads, what it wrote so far, what it will say.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::clock::Now;
use crate::codec::{DecodeError, Encode};
use crate::effect::{Effect, Note};
use crate::port::{Damaged, Family, Reader, Write};

/// The working area of one step. Writes come before everything that is said.
pub(super) struct Turn<'a> {
    /// The time of the step.
    pub(super) now: Now,
    /// Storage as earlier steps left it.
    pub(super) reader: &'a dyn Reader,
    written: BTreeMap<(Family, Bytes), Option<Bytes>>,
    /// Whether a row was read that this step wrote.
    showed_own: Cell<bool>,
    /// Whether a vote that this step writes was counted in it.
    counted: bool,
    said: Vec<Effect>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(now: Now, reader: &'a dyn Reader) -> Turn<'a> {
        Turn {
            now,
            reader,
            written: BTreeMap::new(),
            showed_own: Cell::new(false),
            counted: false,
            said: Vec::new(),
        }
    }

    /// Reads, this step's own writes included.
    pub(super) fn get(&self, family: Family, key: &Bytes) -> Result<Option<Bytes>, Damaged> {
        match self.written.get(&(family, key.clone())) {
            Some(value) => {
                self.showed_own.set(true);
                Ok(value.clone())
            }
            None => self.reader.get(family, key),
        }
    }

    /// Visits the records from `from` to before `to` in order, this step's own writes included.
    pub(super) fn scan(
        &self,
        family: Family,
        (from, to): (&Bytes, &Bytes),
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged> {
        if from >= to {
            return Ok(());
        }
        let range = (family, from.clone())..(family, to.clone());
        let mut own = self.written.range(range).peekable();
        if own.peek().is_some() {
            self.showed_own.set(true);
        }
        let mut flow = ControlFlow::Continue(());
        self.reader
            .scan(family, from, Some(to), &mut |key, stored| {
                flow = visit_below(&mut own, Some(key), visit);
                flow?;
                flow = match own.next_if(|((_, name), _)| name == key) {
                    Some((_, None)) => ControlFlow::Continue(()),
                    Some((_, Some(written))) => visit(key, written.clone()),
                    None => visit(key, stored),
                };
                flow
            })?;
        if flow.is_continue() {
            let _ = visit_below(&mut own, None, visit);
        }
        Ok(())
    }

    /// Reads and decodes a record.
    pub(super) fn load<T: Encode>(
        &self,
        family: Family,
        key: &Bytes,
    ) -> Result<Option<T>, Damaged> {
        let Some(bytes) = self.get(family, key)? else {
            return Ok(None);
        };
        T::from_record(&bytes)
            .map(Some)
            .map_err(|error| damaged(family, &error))
    }

    /// Writes a record.
    pub(super) fn store<T: Encode>(&mut self, family: Family, key: Bytes, value: &T) {
        self.put(family, key, value.to_record());
    }

    /// Writes bytes.
    pub(super) fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.written.insert((family, key), Some(value));
    }

    /// Whether this step read a row that it wrote itself: what it shows is not durable yet.
    pub(super) fn showed_own(&self) -> bool {
        self.showed_own.get()
    }

    /// Whether this step wrote anything yet.
    pub(super) fn has_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// Whether this step said anything yet.
    pub(super) fn has_said(&self) -> bool {
        !self.said.is_empty()
    }

    /// Says something, after the writes.
    pub(super) fn say(&mut self, effect: Effect) {
        self.said.push(effect);
    }

    /// Counts a rare path.
    pub(super) fn note(&mut self, note: Note) {
        self.said.push(Effect::Note(note));
    }

    /// A vote that this step writes counts in it: what the step says waits as for a vote that is sent.
    pub(super) fn count_own_vote(&mut self) {
        self.counted = true;
    }

    /// Marks every reply of this step as waiting for durable writes.
    pub(super) fn make_replies_wait(&mut self) {
        for effect in &mut self.said {
            if let Effect::Reply { waits, .. } = effect {
                *waits = true;
            }
        }
    }

    /// Writes first, then what was said.
    pub(super) fn finish(self, store_sequence: u64, effects: &mut Vec<Effect>) {
        if !self.written.is_empty() {
            let writes = self
                .written
                .into_iter()
                .map(|((family, key), value)| Write { family, key, value });
            effects.push(Effect::Persist(writes.collect()));
            effects.push(Effect::StoreSequence {
                sequence: store_sequence,
                counted: self.counted,
            });
        }
        effects.extend(self.said);
    }
}

/// The writes of a step that a scan has not passed yet.
type Rest<'a> = Peekable<Range<'a, (Family, Bytes), Option<Bytes>>>;

/// Visits what `rest` has below `end`, everything when `None`.
fn visit_below(
    rest: &mut Rest<'_>,
    end: Option<&[u8]>,
    visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
) -> ControlFlow<()> {
    while let Some(((_, name), written)) =
        rest.next_if(|((_, name), _)| end.is_none_or(|end| name < end))
    {
        if let Some(written) = written {
            visit(name, written.clone())?;
        }
    }
    ControlFlow::Continue(())
}

/// A record whose bytes are whole but make no sense: damage all the same.
pub(super) fn damaged(family: Family, error: &DecodeError) -> Damaged {
    Damaged {
        family,
        what: error.to_string(),
    }
}
