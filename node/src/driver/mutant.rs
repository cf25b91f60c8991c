//! Rules of the way to the disk broken on purpose, to see the tests catch it: as [`hansa_consistency::rules`],
//! for what lies outside of the core.

/// One rule that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DiskMutant {
    /// A group counts as durable when its batch is applied.
    SyncSkipped,
    /// A vote leaves though the small sequence file lags behind it.
    SequenceNotSynced,
    /// A message whose own step wrote nothing leaves though it claims what is still being synced.
    ClaimsIgnored,
}

/// Which rule is broken, if any. Carries nothing unless feature `mutants` is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct DiskRules {
    #[cfg(feature = "mutants")]
    broken: Option<DiskMutant>,
}

impl DiskRules {
    /// All rules but one.
    #[cfg(all(test, feature = "mutants"))]
    pub(super) fn without(mutant: DiskMutant) -> DiskRules {
        DiskRules {
            broken: Some(mutant),
        }
    }

    /// Whether this rule is left out. Always `false` in the product.
    #[inline]
    pub(super) fn broken(self, mutant: DiskMutant) -> bool {
        #[cfg(feature = "mutants")]
        {
            self.broken == Some(mutant)
        }
        #[cfg(not(feature = "mutants"))]
        {
            let _ = mutant;
            false
        }
    }
}
