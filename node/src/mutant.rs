//! Rules of a process and its disk broken on purpose, to see the tests and the harness catch it: as
//! [`hansa_consistency::rules`], for what lies outside of the core.
//!
//! A build with feature `mutants` breaks the rule that `choose` names, for the whole process; without the feature
//! there is nothing to choose, and `DiskRules::broken` is `false` at compile time.

use hansa_consistency::rules::Rules;

/// One rule that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskMutant {
    /// A group counts as durable when its batch is applied.
    SyncSkipped,
    /// Every fourth group counts as durable when its batch is applied.
    SyncSkippedAtTimes,
    /// A client is answered before the group of its write is durable.
    RepliedBeforeSync,
    /// A message leaves before the group that it speaks of is durable.
    SentBeforeSync,
    /// A vote leaves though the small sequence file lags behind it.
    SequenceNotSynced,
    /// A message whose own step wrote nothing leaves though it claims what is still being synced.
    ClaimsIgnored,
    /// A failed sync is tried once more, and whatever comes of that counts as success.
    SyncFailureIgnored,
    /// A batch is applied record by record.
    BatchTorn,
    /// A record read back is not held against its checksum.
    ChecksumIgnored,
    /// A write that met a failed disk is said not to be applied, whatever left before.
    FailureSaysNotApplied,
    /// A new store is neither synced before it gets its name, nor is the name.
    NamesNotSynced,
    /// The identity file is replaced without being synced.
    IdentityNotSynced,
    /// A start's number is the one before plus one.
    StartCounted,
    /// A store that ends before the number in the sequence file is served.
    ShortStoreAccepted,
    /// A store is served without having been read once.
    VerifySkipped,
}

/// Which rule is broken, if any. Carries nothing unless feature `mutants` is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DiskRules {
    #[cfg(feature = "mutants")]
    broken: Option<DiskMutant>,
}

impl DiskRules {
    /// The rules of this process: all, unless [`choose`] left one out.
    #[inline]
    pub(crate) fn of_process() -> DiskRules {
        #[cfg(feature = "mutants")]
        {
            chosen::disk()
        }
        #[cfg(not(feature = "mutants"))]
        {
            DiskRules::default()
        }
    }

    /// All rules but one.
    #[cfg(feature = "mutants")]
    pub(crate) fn without(mutant: DiskMutant) -> DiskRules {
        DiskRules {
            broken: Some(mutant),
        }
    }

    /// Whether this rule is left out. Always `false` in the product.
    #[inline]
    pub(crate) fn broken(self, mutant: DiskMutant) -> bool {
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

/// The core's rules in this process: all, unless [`choose`] left one out.
pub(crate) fn core_rules() -> Rules {
    #[cfg(feature = "mutants")]
    {
        chosen::core()
    }
    #[cfg(not(feature = "mutants"))]
    {
        Rules::default()
    }
}

#[cfg(feature = "mutants")]
pub use self::chosen::{UnknownRule, choose, warn};

#[cfg(all(test, feature = "mutants"))]
pub(crate) use self::chosen::breaking;

/// The rule that this process leaves out.
#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::OnceLock;

    use hansa_consistency::rules::{Mutant, Rules};

    use super::{DiskMutant, DiskRules};

    static BROKEN: OnceLock<Broken> = OnceLock::new();

    #[derive(Clone, Copy, Debug)]
    enum Broken {
        Disk(DiskMutant),
        Core(Mutant),
    }

    /// There is no rule of this name that can be left out, or one was left out before.
    #[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
    #[error("no rule called {name:?} can be broken now; there are, one for a process: {}", names().join(", "))]
    pub struct UnknownRule {
        /// The name.
        pub name: String,
    }

    /// The names of all rules: those of this crate, then the core's.
    fn names() -> Vec<String> {
        let disk = DiskMutant::ALL.iter().map(|mutant| format!("{mutant:?}"));
        let core = Mutant::ALL.iter().map(|mutant| format!("{mutant:?}"));
        disk.chain(core).collect()
    }

    fn named(name: &str) -> Option<Broken> {
        let mut disk = DiskMutant::ALL.into_iter();
        if let Some(mutant) = disk.find(|mutant| format!("{mutant:?}") == name) {
            return Some(Broken::Disk(mutant));
        }
        let mut core = Mutant::ALL.into_iter();
        let mutant = core.find(|mutant| format!("{mutant:?}") == name);
        mutant.map(Broken::Core)
    }

    /// Leaves the rule of this name out, in the whole process and for good. Call it before anything is opened.
    ///
    /// # Errors
    /// [`UnknownRule`], naming all rules; nothing is left out by this call then.
    pub fn choose(name: &str) -> Result<(), UnknownRule> {
        let unknown = || UnknownRule {
            name: name.to_owned(),
        };
        let broken = named(name).ok_or_else(unknown)?;
        BROKEN.set(broken).map_err(|_| unknown())
    }

    /// Writes into the log, loudly, which rule is left out; nothing when none is.
    pub fn warn() {
        if let Some(broken) = BROKEN.get() {
            tracing::warn!(
                ?broken,
                "THIS NODE BREAKS A RULE ON PURPOSE (HANSA_MUTANT): it does not keep what Hansa promises"
            );
        }
    }

    #[cfg(test)]
    thread_local! {
        /// What the test on this thread breaks; tests share a process.
        static HERE: std::cell::Cell<DiskRules> = std::cell::Cell::default();
    }

    /// Does something with a rule left out on this thread.
    #[cfg(test)]
    pub(crate) fn breaking<T>(mutant: DiskMutant, what: impl FnOnce() -> T) -> T {
        HERE.set(DiskRules::without(mutant));
        let outcome = what();
        HERE.set(DiskRules::default());
        outcome
    }

    pub(super) fn disk() -> DiskRules {
        #[cfg(test)]
        if HERE.get() != DiskRules::default() {
            return HERE.get();
        }
        match BROKEN.get() {
            Some(Broken::Disk(mutant)) => DiskRules::without(*mutant),
            _ => DiskRules::default(),
        }
    }

    pub(super) fn core() -> Rules {
        match BROKEN.get() {
            Some(Broken::Core(mutant)) => Rules::without(*mutant),
            _ => Rules::default(),
        }
    }

    impl DiskMutant {
        /// All of them, in the order of the declaration.
        const ALL: [DiskMutant; 15] = [
            DiskMutant::SyncSkipped,
            DiskMutant::SyncSkippedAtTimes,
            DiskMutant::RepliedBeforeSync,
            DiskMutant::SentBeforeSync,
            DiskMutant::SequenceNotSynced,
            DiskMutant::ClaimsIgnored,
            DiskMutant::SyncFailureIgnored,
            DiskMutant::BatchTorn,
            DiskMutant::ChecksumIgnored,
            DiskMutant::FailureSaysNotApplied,
            DiskMutant::NamesNotSynced,
            DiskMutant::IdentityNotSynced,
            DiskMutant::StartCounted,
            DiskMutant::ShortStoreAccepted,
            DiskMutant::VerifySkipped,
        ];
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_name_is_a_rule_and_another_one_is_refused_with_all_of_them() {
            for name in names() {
                assert!(named(&name).is_some(), "{name}");
            }
            let refused = choose("Nothing").unwrap_err().to_string();
            for name in ["\"Nothing\"", "SyncSkipped", "NoDedup"] {
                assert!(refused.contains(name), "{refused}");
            }
            assert_eq!(disk(), DiskRules::default(), "the tests keep all rules");
        }
    }
}
