//! One process: started, signalled, waited for, measured.
//!
//! Signals go through a handle of the process (pidfd) and not to a number, so none can reach a stranger.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// One turn of a throttled process: it runs for its share of it and stands for the rest.
const TURN: Duration = Duration::from_millis(100);

/// How long a process may take to stand still after it was told to. A thread in the middle of a write to a slow disk
/// stands only when that is done.
const STAND_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks whether a process stands: nobody tells.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a process may take from its start until it listens to SIGTERM.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// How to start a process.
pub(super) struct Launch<'a> {
    /// Runs the program where the node lives.
    pub(super) command: Command,
    pub(super) settings: &'a Path,
    /// The working directory.
    pub(super) folder: &'a Path,
    pub(super) log: &'a Path,
    /// Whether damaged data is to be set aside.
    pub(super) rebuild: bool,
    /// Variables to set.
    pub(super) environment: Vec<(&'static str, OsString)>,
}

/// How a process ended that was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// In time, with this status.
    Itself(ExitStatus),
    /// In time, by a SIGTERM that came so early that nothing listened to it yet.
    Unheard,
    /// By SIGKILL, because it took too long.
    Killed,
}

/// A process that was not waited for yet.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    id: u32,
    handle: Arc<OwnedFd>,
    throttle: Option<JoinHandle<()>>,
    started: Instant,
    /// Whether it was told to end before it listened to that.
    unheard: bool,
    /// Held open, never written: a node stops when it is closed, however this program ends.
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts a node. Its output goes to the end of its log.
    ///
    /// # Errors
    /// When the log can not be opened or the process not be started.
    pub(super) fn spawn(launch: Launch<'_>) -> Result<Process> {
        let mut command = launch.command;
        command
            .args(["serve", "--parent-pipe", "--config"])
            .arg(launch.settings)
            .current_dir(launch.folder);
        if launch.rebuild {
            command.arg("--rebuild");
        }
        // Variables win over files: what is meant for clients must not reach the nodes.
        let ours = std::env::vars_os().map(|(name, _)| name);
        for variable in ours.filter(|name| name.as_encoded_bytes().starts_with(b"HANSA_")) {
            command.env_remove(variable);
        }
        command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
        Process::start(command, launch.log)
    }

    /// Starts any program. Its output goes to the end of the log, its input is empty and stays open.
    ///
    /// # Errors
    /// When the log can not be opened or the process not be started.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Process> {
        let log = open_log(log)?;
        let errors = log.try_clone().context("the log can not be opened twice")?;
        command
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C on the terminal is for the harness, which stops its nodes in order.
            .process_group(0)
            .kill_on_drop(true);
        let started = command.spawn();
        let program = || format!("{:?}", command.as_std().get_program());
        let mut child = started.with_context(program)?;
        // Out of the child: waiting for a child closes the input that it still holds.
        let lifeline = child.stdin.take();
        let id = child.id().context("it ended at once")?;
        let raw = i32::try_from(id).ok().and_then(Pid::from_raw);
        let raw = raw.context("its process id is out of bounds")?;
        let handle = pidfd_open(raw, PidfdFlags::empty()).context("no handle of it")?;
        Ok(Process {
            child,
            id,
            handle: Arc::new(handle),
            throttle: None,
            started: Instant::now(),
            unheard: false,
            _lifeline: lifeline,
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// How it ended, if it did by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Lets it stand still. Returns when it does, or has ended.
    ///
    /// # Errors
    /// When it does not stand within 5 s.
    pub(crate) async fn pause(&mut self) -> Result<()> {
        self.unthrottle().await;
        signal(&self.handle, Signal::STOP);
        let give_up = Instant::now() + STAND_WITHIN;
        while !self.stands() && self.ended().is_none() {
            if Instant::now() >= give_up {
                let seconds = STAND_WITHIN.as_secs();
                bail!(
                    "process {} does not stand still within {seconds} s",
                    self.id
                );
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Lets it run freely.
    ///
    /// # Errors
    /// None; one type with the others.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.unthrottle().await;
        signal(&self.handle, Signal::CONT);
        Ok(())
    }

    /// Lets it run for so many percent of the time, 1 to 99, until something else is said.
    ///
    /// # Errors
    /// None; one type with the others.
    pub(super) async fn throttle(&mut self, percent: u8) -> Result<()> {
        self.unthrottle().await;
        let handle = self.handle.clone();
        let runs = TURN * u32::from(percent.clamp(1, 99)) / 100;
        self.throttle = Some(tokio::spawn(async move {
            loop {
                signal(&handle, Signal::CONT);
                sleep(runs).await;
                signal(&handle, Signal::STOP);
                sleep(TURN - runs).await;
            }
        }));
        Ok(())
    }

    /// Asks it to end; it runs freely from now on.
    pub(crate) async fn terminate(&mut self) {
        self.unthrottle().await;
        self.unheard = self.started.elapsed() < LISTENS_WITHIN && !listens(self.id);
        signal(&self.handle, Signal::TERM);
        // One that stands still would never get the news.
        signal(&self.handle, Signal::CONT);
    }

    /// Waits until it has ended, and kills it when that takes too long.
    pub(crate) async fn wait_or_kill(mut self, within: Duration) -> Ended {
        if let Ok(Ok(status)) = timeout(within, self.child.wait()).await {
            let by_term = status.signal() == Some(Signal::TERM.as_raw());
            return match by_term && self.unheard {
                true => Ended::Unheard,
                false => Ended::Itself(status),
            };
        }
        // An error means that it is gone: there is nothing left to do.
        let _ = self.kill().await;
        Ended::Killed
    }

    /// Ends it with SIGKILL and waits for it.
    ///
    /// # Errors
    /// When it can not be waited for.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.unthrottle().await;
        let id = self.id;
        let killed = self.child.kill().await;
        killed.with_context(|| format!("process {id} can not be killed"))
    }

    async fn unthrottle(&mut self) {
        if let Some(task) = self.throttle.take() {
            task.abort();
            // Being aborted is how it ends.
            let _ = task.await;
        }
    }

    fn stands(&self) -> bool {
        use std::os::fd::AsFd as _;
        // The news is left where it is; it is gone by itself when the process goes on.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let news = waitid(WaitId::PidFd(self.handle.as_fd()), options);
        news.ok().flatten().is_some_and(|status| status.stopped())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(task) = &self.throttle {
            task.abort();
        }
    }
}

/// Where a program is, by `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&path).map(|folder| folder.join(name));
    let mut programs = all.filter(|file| file.is_file());
    programs.next()
}

/// Runs a program that must not outlive the harness, however that ends. Where the helper is missing, it may.
pub(crate) fn mortal(program: &Path) -> Command {
    match in_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Resident memory, bytes, and open files of a process; `None` when it is gone.
pub(crate) fn used(id: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let resident = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
    Some((kibibytes * 1024, files as u64))
}

/// Whether a process has something of its own to do on SIGTERM; one that is gone has not.
fn listens(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|it| it.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    // Signals are counted from 1.
    caught.is_some_and(|caught| caught >> (Signal::TERM.as_raw() - 1) & 1 == 1)
}

/// A process that has ended takes no signal, and needs none.
fn signal(handle: &OwnedFd, signal: Signal) {
    let _ = pidfd_send_signal(handle, signal);
}

fn open_log(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).append(true).open(path);
    opened.with_context(|| format!("can not write the log {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script of the shell in the place of a node; returns when it has printed a line.
    async fn start(script: &str) -> (Process, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        let launch = Launch {
            command,
            settings: Path::new("settings"),
            folder: folder.path(),
            log: &log,
            rebuild: false,
            environment: Vec::new(),
        };
        let process = Process::spawn(launch).unwrap();
        let give_up = Instant::now() + Duration::from_secs(30);
        while !std::fs::read_to_string(&log).unwrap().contains("ready") {
            assert!(Instant::now() < give_up, "the script does not run");
            sleep(LOOK_EVERY).await;
        }
        (process, folder)
    }

    async fn told_to_end(script: &str, within: Duration) -> Ended {
        let (mut process, _folder) = start(script).await;
        process.terminate().await;
        process.wait_or_kill(within).await
    }

    #[test]
    fn this_process_uses_memory_and_files() {
        let (memory, files) = used(std::process::id()).unwrap();
        assert!(memory > 1 << 20 && files > 2, "{memory} {files}");
        assert_eq!(used(u32::MAX), None);
    }

    #[tokio::test]
    async fn how_a_process_ends_on_a_sigterm_is_told() {
        let long = Duration::from_secs(30);
        for code in [0, 3, 101] {
            let script =
                format!("trap 'exit {code}' TERM; echo ready; while :; do sleep 0.02; done");
            match told_to_end(&script, long).await {
                Ended::Itself(status) => assert_eq!(status.code(), Some(code)),
                other => panic!("{other:?}"),
            }
        }
        let deaf = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
        assert_eq!(
            told_to_end(deaf, Duration::from_millis(200)).await,
            Ended::Killed
        );
        let early = "echo ready; while :; do sleep 0.02; done";
        assert_eq!(told_to_end(early, long).await, Ended::Unheard);
    }

    #[tokio::test]
    async fn a_process_that_ended_by_itself_is_not_taken_for_one_that_was_told() {
        let (mut process, _folder) = start("echo ready; exit 7").await;
        let give_up = Instant::now() + Duration::from_secs(30);
        while process.ended().is_none() {
            assert!(Instant::now() < give_up, "it does not end");
            sleep(LOOK_EVERY).await;
        }
        process.terminate().await;
        match process.wait_or_kill(STAND_WITHIN).await {
            Ended::Itself(status) => assert_eq!(status.code(), Some(7)),
            other => panic!("{other:?}"),
        }
    }
}
