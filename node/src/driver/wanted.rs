//! Long reads beside the driver: only for as long as somebody waits for them, so that the store can be closed.

use std::ops::ControlFlow;
use std::sync::Weak;

use bytes::Bytes;
use hansa_consistency::port::{Damaged, Family, Reader};

/// A reader whose scans end early when nobody wants the result any more. What they gave until then is not all, but
/// nobody is there to take it for that.
pub(super) struct Wanted<'a> {
    pub(super) reader: &'a dyn Reader,
    /// Gone when nobody waits.
    pub(super) by: Weak<()>,
}

impl Reader for Wanted<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
        self.reader.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged> {
        let mut each = |key: &[u8], value: Bytes| match self.by.strong_count() {
            0 => ControlFlow::Break(()),
            _ => visit(key, value),
        };
        self.reader.scan(family, from, to, &mut each)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Rows without end.
    struct Endless;

    impl Reader for Endless {
        fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, Damaged> {
            Ok(None)
        }

        fn scan(
            &self,
            _: Family,
            _: &[u8],
            _: Option<&[u8]>,
            visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
        ) -> Result<(), Damaged> {
            while visit(b"key", Bytes::new()).is_continue() {}
            Ok(())
        }
    }

    #[test]
    fn a_scan_ends_when_nobody_waits_for_it() {
        let waiting = Arc::new(());
        let reader = Wanted {
            reader: &Endless,
            by: Arc::downgrade(&waiting),
        };
        let (mut waiting, mut rows) = (Some(waiting), 0);
        let mut each = |_: &[u8], _: Bytes| {
            rows += 1;
            if rows == 3 {
                waiting = None;
            }
            ControlFlow::Continue(())
        };
        reader.scan(Family::Data, b"", None, &mut each).unwrap();
        assert_eq!(rows, 3);
    }
}
