//! File systems to break: ext4 on a loop device, and a small one in memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::say;

/// Says that this process has mounts of its own.
const PRIVATE: &str = "HANSA_STORE_PRIVATE_MOUNTS";

/// Runs `body` in a process whose mounts nobody else sees: they end with it, however it ends. `case` is
/// the full name of the test that calls this: the process runs that test again.
pub(crate) fn with_private_mounts(case: &str, body: impl FnOnce()) {
    if std::env::var_os(PRIVATE).is_some() {
        return body();
    }
    if let Err(reason) = private_mounts_work() {
        return say(&format!("not run: store {case}: {reason}"));
    }
    let status = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", case, "--nocapture", "--test-threads=1"])
        .env(PRIVATE, "1")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{case}: see the process's output above");
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "--kill-child",
        "--fork",
        "--",
    ]);
    command
}

/// Tries what the cases need, in a process of its own.
fn private_mounts_work() -> Result<(), String> {
    let dir = image_home();
    let script =
        "truncate -s 16M image && mkfs.ext4 -q -F image && mkdir m && mount -o loop image m";
    let tried = unshare()
        .args(["sh", "-c", script])
        .current_dir(dir.path())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&tried.stderr);
    Err(format!(
        "no private mounts of a loop device: {}",
        text.lines().next().unwrap_or("no reason given")
    ))
}

/// A directory for disk images: in memory where possible, since the tests sync thousands of times.
fn image_home() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).unwrap()
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An ext4 file system that can lose its power.
pub(crate) struct Ext4 {
    home: TempDir,
    mount: PathBuf,
}

impl Ext4 {
    pub(crate) fn new(mebibytes: u64) -> Ext4 {
        let home = image_home();
        let image = File::create(home.path().join("image")).unwrap();
        image.set_len(mebibytes << 20).unwrap();
        let mount = home.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        let disk = Ext4 { home, mount };
        run("mkfs.ext4", &["-q", "-F", text(&disk.image())]);
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }

    fn mount(&self) {
        run(
            "mount",
            &["-o", "loop", text(&self.image()), text(&self.mount)],
        );
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on nothing reaches the disk, not even the journal: every write and sync fails, as if the
    /// power were gone.
    pub(crate) fn cut(&self) {
        let dir = File::open(&self.mount).unwrap();
        shut_down(&dir).unwrap();
    }

    /// The power is back: only what was synced before the cut is there.
    pub(crate) fn restore(&self) {
        run("umount", &[text(&self.mount)]);
        self.mount();
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Lazy: a store may still be open when a test fails.
        let _ = Command::new("umount")
            .args(["-l", text(&self.mount)])
            .status();
    }
}

/// `EXT4_IOC_SHUTDOWN` without flushing the journal: the hardest form, as if the plug were pulled.
#[allow(unsafe_code)]
fn shut_down(dir: &File) -> rustix::io::Result<()> {
    use rustix::ioctl::{Setter, ioctl, opcode};
    const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
    const NO_LOG_FLUSH: u32 = 2;
    // Safety: this call reads one u32 from the pointer it is given, and `Setter` gives it one.
    unsafe { ioctl(dir, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }
}

/// A small file system in memory.
pub(crate) struct Small {
    home: TempDir,
}

impl Small {
    pub(crate) fn new(mebibytes: u64) -> Small {
        let home = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &size, "tmpfs", text(home.path())],
        );
        Small { home }
    }

    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-l", text(self.home.path())])
            .status();
    }
}
