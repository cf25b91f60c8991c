//! Who the data directory belongs to: the identity file.
//!
//! It names the cluster and the node, the incarnation under which the node's log entries and ballots are
//! numbered, and the number of its newest start. It is text, so that people can read it, and ends with a
//! checksum, so that nobody edits it by accident. It is replaced as a whole: written beside, synced, renamed,
//! and the directory synced. It belongs into no backup: a copy of it put beside older data would let the
//! node vote as if it remembered what it has forgotten.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hansa_consistency::replica::next_start;
use xxhash_rust::xxh3::xxh3_64;

use crate::mutant::{DiskMutant, DiskRules};

const TITLE: &str = "hansa node";

/// The version of the file. Later versions keep the first two lines.
const FORMAT: u32 = 1;

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster's textual id.
    pub cluster_id: String,
    /// The node's name.
    pub node: String,
    /// Random, never zero; a new one whenever data may have been lost.
    pub incarnation: u32,
    /// The number of the newest start, 0 before the first: [`next_start`] of the one before. It follows the
    /// clock, so a node whose whole disk was replaced is above its earlier starts, which its peers have fenced.
    pub start: u64,
    /// Whether the node lost data at some time and was not yet readmitted to voting.
    pub lost: bool,
    /// Whether the store and the sequence file of this incarnation were made. While they were not, nothing
    /// was ever acknowledged under it.
    pub prepared: bool,
    /// The topology the data was stored under: [`crate::settings::Names::layout`].
    pub layout: Vec<u64>,
}

/// Why the identity is not usable. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory belongs to somebody else.
    #[error("the data directory {} belongs to node `{found_node}` of cluster `{found_cluster}`, not to node `{node}` of cluster `{cluster}`: start with that node's settings, or give this node a data directory of its own", dir.display())]
    SomebodyElse {
        /// The data directory.
        dir: PathBuf,
        /// The node it belongs to.
        found_node: String,
        /// The cluster it belongs to.
        found_cluster: String,
        /// The node that was to be started.
        node: String,
        /// Its cluster.
        cluster: String,
    },
    /// The file does not hold what was written.
    #[error("the identity file {} is damaged: rebuild the node from its peers with `hansa serve --rebuild`", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The topology is not the one the data was stored under.
    #[error("the topology differs from the one the data in {} was stored under; regions, nodes and keyspaces with data may not be changed, renamed or reordered, only keyspaces appended to the end. Way out: put the old topology back, or export the data and import it into a cluster of a new id", dir.display())]
    TopologyChanged {
        /// The data directory.
        dir: PathBuf,
    },
    /// A later version wrote it.
    #[error("the identity file {} has format {found}, this version knows formats up to {FORMAT}: use the version that wrote it", path.display())]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Nonzero and random: never used before, but for one chance in four thousand million.
pub(crate) fn fresh_incarnation() -> u32 {
    rand::random_range(1..=u32::MAX)
}

impl Identity {
    /// The identity of a node that never started before.
    pub fn first(cluster_id: &str, node: &str, layout: &[u64]) -> Identity {
        Identity {
            cluster_id: cluster_id.to_owned(),
            node: node.to_owned(),
            incarnation: fresh_incarnation(),
            start: 0,
            lost: false,
            prepared: false,
            layout: layout.to_vec(),
        }
    }

    /// Reads the file at `path`; `None` when there is none.
    ///
    /// # Errors
    /// [`IdentityError::Damaged`], [`IdentityError::NewerFormat`], [`IdentityError::Io`].
    pub fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("reading", path)(source)),
        };
        let damaged = || IdentityError::Damaged {
            path: path.to_owned(),
        };
        let text = str::from_utf8(&bytes).map_err(|_| damaged())?;
        let format = format_of(text).ok_or_else(damaged)?;
        if format > FORMAT {
            return Err(IdentityError::NewerFormat {
                path: path.to_owned(),
                found: format,
            });
        }
        parse(text).map(Some).ok_or_else(damaged)
    }

    /// Replaces the file at `path`, durably.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; the old file is then still there.
    pub fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let write = || -> io::Result<()> {
            let beside = path.with_extension("creating");
            let mut file = File::create(&beside)?;
            file.write_all(self.to_text().as_bytes())?;
            let rules = DiskRules::of_process();
            if rules.broken(DiskMutant::IdentityNotSynced) {
                return fs::rename(&beside, path);
            }
            file.sync_all()?;
            fs::rename(&beside, path)?;
            let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(io_error("writing", path))
    }

    /// Whether it is the identity of this node.
    ///
    /// # Errors
    /// [`IdentityError::SomebodyElse`], naming both.
    pub fn check(&self, dir: &Path, cluster_id: &str, node: &str) -> Result<(), IdentityError> {
        if self.cluster_id == cluster_id && self.node == node {
            return Ok(());
        }
        Err(IdentityError::SomebodyElse {
            dir: dir.to_owned(),
            found_node: self.node.clone(),
            found_cluster: self.cluster_id.clone(),
            node: node.to_owned(),
            cluster: cluster_id.to_owned(),
        })
    }

    /// Takes over a topology that differs from the one the data was stored under by appended keyspaces at
    /// most; it is written down with the next start.
    ///
    /// # Errors
    /// [`IdentityError::TopologyChanged`] when anything else differs.
    pub fn take_layout(&mut self, dir: &Path, layout: &[u64]) -> Result<(), IdentityError> {
        if !layout.starts_with(&self.layout) {
            return Err(IdentityError::TopologyChanged {
                dir: dir.to_owned(),
            });
        }
        self.layout = layout.to_vec();
        Ok(())
    }

    /// Numbers a further start, durably: the number holds from when this returns.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; the number is then the old one.
    pub fn begin_start(&mut self, path: &Path) -> Result<u64, IdentityError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let drawn = || next_start(self.start, since.unwrap_or_default(), rand::random());
        let counted = DiskRules::of_process().broken(DiskMutant::StartCounted);
        let next = Identity {
            // A clock before 1970 counts as none.
            start: if counted { self.start + 1 } else { drawn() },
            ..self.clone()
        };
        next.write(path)?;
        *self = next;
        Ok(self.start)
    }

    fn to_text(&self) -> String {
        let body = format!(
            "{TITLE}\nformat = {FORMAT}\ncluster = {}\nnode = {}\nincarnation = {}\nstart = {}\nlost = {}\nprepared = {}\nlayout = {}\n",
            self.cluster_id,
            self.node,
            self.incarnation,
            self.start,
            self.lost,
            self.prepared,
            self.layout_text(),
        );
        let sum = xxh3_64(body.as_bytes());
        format!("{body}sum = {sum:016x}\n")
    }
}

impl Identity {
    fn layout_text(&self) -> String {
        let digests = self.layout.iter().map(|digest| format!("{digest:016x}"));
        digests.collect::<Vec<_>>().join(" ")
    }
}

fn layout_from(text: &str) -> Option<Vec<u64>> {
    let digests = text.split_whitespace();
    digests
        .map(|digest| u64::from_str_radix(digest, 16).ok())
        .collect()
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    move |source| IdentityError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

fn format_of(text: &str) -> Option<u32> {
    let mut lines = text.lines();
    (lines.next()? == TITLE).then_some(())?;
    lines.next()?.strip_prefix("format = ")?.parse().ok()
}

fn parse(text: &str) -> Option<Identity> {
    let (body, sum) = text.split_at(text.rfind("sum = ")?);
    let sum = u64::from_str_radix(sum.strip_prefix("sum = ")?.strip_suffix('\n')?, 16).ok()?;
    (sum == xxh3_64(body.as_bytes())).then_some(())?;
    let mut lines = body.lines().skip(2);
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(" = ");
    Some(Identity {
        cluster_id: field("cluster")?.to_owned(),
        node: field("node")?.to_owned(),
        incarnation: field("incarnation")?.parse().ok()?,
        start: field("start")?.parse().ok()?,
        lost: field("lost")?.parse().ok()?,
        prepared: field("prepared")?.parse().ok()?,
        layout: layout_from(field("layout")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, PathBuf, Identity) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let identity = Identity::first("test cluster", "eu-1", &[7, 8]);
        identity.write(&path).unwrap();
        (dir, path, identity)
    }

    #[test]
    fn what_is_written_is_read_and_starts_rise() {
        let (_dir, path, mut identity) = written();
        assert_eq!(Identity::read(&path).unwrap(), Some(identity.clone()));
        let first = identity.begin_start(&path).unwrap();
        assert!(
            first > 1_700_000_000_000_000_000,
            "above every start of an earlier disk"
        );
        assert!(identity.begin_start(&path).unwrap() > first);
        assert_eq!(Identity::read(&path).unwrap(), Some(identity));
    }

    #[test]
    fn two_starts_on_one_copy_have_different_numbers() {
        let (_dir, path, mut identity) = written();
        // Far in the future: the clock adds nothing to the number.
        identity.start = u64::MAX / 2;
        identity.write(&path).unwrap();
        let copy = fs::read(&path).unwrap();
        let first = identity.begin_start(&path).unwrap();
        fs::write(&path, copy).unwrap();
        let mut restored = Identity::read(&path).unwrap().unwrap();
        let second = restored.begin_start(&path).unwrap();
        assert!(first > u64::MAX / 2 && second > u64::MAX / 2);
        assert_ne!(first, second);
    }

    #[test]
    fn a_topology_may_grow_at_its_end_and_not_change() {
        let (dir, _, mut identity) = written();
        let take =
            |identity: &mut Identity, layout: &[u64]| identity.take_layout(dir.path(), layout);
        for changed in [&[7][..], &[8, 7], &[7, 9], &[7, 9, 8]] {
            let refused = take(&mut identity, changed);
            assert!(matches!(
                refused,
                Err(IdentityError::TopologyChanged { .. })
            ));
        }
        take(&mut identity, &[7, 8, 9]).unwrap();
        assert!(take(&mut identity, &[7, 8]).is_err());
    }

    #[test]
    fn no_file_is_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(&dir.path().join("identity")).unwrap(), None);
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let (_dir, path, _) = written();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(Identity::read(&path).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let (_dir, path, _) = written();
        fs::write(&path, format!("{TITLE}\nformat = 2\nanything\n")).unwrap();
        let error = Identity::read(&path).unwrap_err().to_string();
        assert!(error.contains("has format 2"), "{error}");
    }

    #[test]
    fn another_nodes_directory_is_refused_naming_both_and_the_way_out() {
        let (dir, _path, identity) = written();
        assert!(identity.check(dir.path(), "test cluster", "eu-1").is_ok());
        for (cluster, node) in [("test cluster", "us-1"), ("other", "eu-1")] {
            let error = identity.check(dir.path(), cluster, node).unwrap_err();
            let text = error.to_string();
            for word in ["eu-1", "test cluster", cluster, node, "data directory"] {
                assert!(text.contains(word), "{word} in {text}");
            }
        }
    }
}
