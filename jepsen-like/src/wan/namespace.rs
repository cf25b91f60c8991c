//! Network namespaces and their addresses, by the program `ip`.
//!
//! The name of a namespace tells whose it is: the process, and when that was started, since process ids are used
//! again. What a process that is gone has left behind can be removed by anybody ([`clean`]).

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Beginning of every name.
const PREFIX: &str = "hansa-wan-";

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// How many blocks of addresses are tried before giving up.
const BLOCKS_TRIED: u16 = 32;

/// Tells the WANs of this process apart.
static WANS: AtomicU64 = AtomicU64::new(0);

/// The namespaces of one WAN. Dropping it removes them.
pub(super) struct Namespaces {
    prefix: String,
    names: Vec<String>,
}

impl Namespaces {
    /// None yet.
    ///
    /// # Errors
    /// When `/proc` can not be read.
    pub(super) fn new() -> anyhow::Result<Namespaces> {
        let pid = std::process::id();
        let started = started(pid).context("/proc/self/stat can not be read")?;
        let wan = WANS.fetch_add(1, Ordering::Relaxed);
        Ok(Namespaces {
            prefix: format!("{PREFIX}{pid}-{started}-{wan}"),
            names: Vec::new(),
        })
    }

    /// Adds one and returns its name.
    ///
    /// # Errors
    /// What `ip` says.
    pub(super) fn add(&mut self) -> anyhow::Result<String> {
        let name = format!("{}-{}", self.prefix, self.names.len());
        // First remembered: an `ip` that fails may have made half of it.
        self.names.push(name.clone());
        ip(&["netns", "add", &name], "")?;
        Ok(name)
    }

    /// Removes them.
    ///
    /// # Errors
    /// What `ip` says of the first that could not be removed; the others are.
    pub(super) fn remove(mut self) -> anyhow::Result<()> {
        self.delete()
    }

    fn delete(&mut self) -> anyhow::Result<()> {
        let names = std::mem::take(&mut self.names);
        let deleted: Vec<_> = names
            .iter()
            .map(|name| ip(&["netns", "delete", name], ""))
            .collect();
        deleted
            .into_iter()
            .try_for_each(|deleted| deleted.map(drop))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What remains is removed by the next `clean`; a destructor has nobody to tell.
        let _ = self.delete();
    }
}

/// Runs `ip` with these arguments and this input. What it printed.
///
/// # Errors
/// When it can not be started, and what it says when it fails.
pub(super) fn ip(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the program `ip` can not be started; install iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        // An end that stopped reading says why by itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}`: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Routes a block of 256 addresses that nobody uses to a device of this namespace. Its first address.
///
/// # Errors
/// When no block is free, and what `ip` says.
pub(super) fn claim_block(device: &str) -> anyhow::Result<Ipv4Addr> {
    let routes = ip(&["-4", "-oneline", "route", "show", "table", "all"], "")?;
    let used: Vec<_> = routes.lines().filter_map(Network::of_route).collect();
    // Two processes, and two WANs of one process, begin at different places.
    let wan = WANS.load(Ordering::Relaxed);
    let begin = (u64::from(std::process::id()) << 8 | wan).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut refused = None;
    for tried in 0..BLOCKS_TRIED {
        // 10.x.y.0, x and y from the best mixed bits.
        let within = (begin >> 48) as u16;
        let block = 0x0a00_0000 | u32::from(within.wrapping_add(tried)) << 8;
        let block = Network { block, prefix: 24 };
        if used.iter().any(|used| used.overlaps(block)) {
            continue;
        }
        // It fails when another process has just taken the block: then the next.
        match ip(&["route", "add", &block.to_string(), "dev", device], "") {
            Ok(_) => return Ok(block.block.into()),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(error.context("no block of addresses could be routed")),
        None => bail!("{BLOCKS_TRIED} blocks of 10.0.0.0/8 are all in use on this machine"),
    }
}

/// A block of addresses, by its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    block: u32,
    prefix: u32,
}

impl Network {
    /// The destination of a line of `ip route`; `None` for a default route.
    fn of_route(line: &str) -> Option<Network> {
        // Before it there may be a kind: `local`, `broadcast`, `unreachable`.
        line.split_whitespace().take(2).find_map(|word| {
            let (address, prefix) = word.split_once('/').unwrap_or((word, "32"));
            Some(Network {
                block: address.parse::<Ipv4Addr>().ok()?.into(),
                prefix: prefix
                    .parse()
                    .ok()
                    .filter(|prefix| (1..=32).contains(prefix))?,
            })
        })
    }

    fn overlaps(self, other: Network) -> bool {
        let beyond = 32 - self.prefix.min(other.prefix);
        self.block >> beyond == other.block >> beyond
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", Ipv4Addr::from(self.block), self.prefix)
    }
}

/// Removes the namespaces of processes that are gone, and ends what still runs in them. How many there were. What
/// belongs to a living process is left alone. Devices need no cleaning: they end with their process.
///
/// # Errors
/// What `ip` says.
pub fn clean() -> anyhow::Result<usize> {
    let Ok(entries) = fs::read_dir(NAMES) else {
        return Ok(0); // nobody made a namespace yet
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut removed = 0;
    for name in names.filter(|name| is_left_behind(name)) {
        match delete_with_processes(&name) {
            Ok(()) => removed += 1,
            // Somebody else cleans too.
            Err(_) if !Path::new(NAMES).join(&name).exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn delete_with_processes(name: &str) -> anyhow::Result<()> {
    for pid in ip(&["netns", "pids", name], "")?.lines() {
        if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
            // It may have ended since.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    ip(&["netns", "delete", name], "").map(drop)
}

/// Whether a name is one of ours whose process is gone.
fn is_left_behind(name: &str) -> bool {
    let Some(owner) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let mut numbers = owner.splitn(3, '-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(at))) = (numbers.next(), numbers.next()) else {
        return false;
    };
    u32::try_from(pid).is_ok_and(|pid| started(pid) != Some(at))
}

/// When a process was started, in the kernel's ticks since the machine was; `None` when there is none.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the 22nd field is the 20th behind it.
    let behind = &stat[stat.rfind(')')? + 1..];
    behind.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_gone_process_made_is_left_behind() {
        let pid = std::process::id();
        let since = started(pid).unwrap();
        assert!(!is_left_behind(&format!("hansa-wan-{pid}-{since}-0-1")));
        // The same process id, and another process.
        assert!(is_left_behind(&format!(
            "hansa-wan-{pid}-{}-0-1",
            since - 1
        )));
        assert!(is_left_behind(&format!("hansa-wan-{}-7-0-1", i32::MAX)));
        for other in [
            "hansa-wan-",
            "hansa-wan-x-1-0",
            "somebody-1-2-3",
            "hansa-wan-1",
        ] {
            assert!(!is_left_behind(other), "{other}");
        }
    }

    #[test]
    fn a_route_tells_which_addresses_it_is_for() {
        let network = |line| Network::of_route(line).map(|network| network.to_string());
        assert_eq!(
            network("10.0.0.0/8 dev tun0 scope link").unwrap(),
            "10.0.0.0/8"
        );
        assert_eq!(
            network("local 10.1.2.3 dev lo table local").unwrap(),
            "10.1.2.3/32"
        );
        assert_eq!(network("default via 10.1.2.3 dev eth0"), None);
        assert_eq!(network("0.0.0.0/0 dev eth0"), None);
    }

    #[test]
    fn blocks_overlap_when_one_lies_in_the_other() {
        let network = |line| Network::of_route(line).unwrap();
        let block = network("10.1.2.0/24");
        for other in ["10.0.0.0/8", "10.1.2.0/24", "10.1.2.200", "8.0.0.0/6"] {
            assert!(block.overlaps(network(other)), "{other}");
            assert!(network(other).overlaps(block), "{other}");
        }
        for other in ["10.1.3.0/24", "10.1.0.0/23", "192.168.0.0/16"] {
            assert!(!block.overlaps(network(other)), "{other}");
        }
    }
}
