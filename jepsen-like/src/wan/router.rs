//! The thread between the hosts: it waits for packets and for moments, and asks the engine what becomes of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tun_rs::SyncDevice;

use super::engine::Engine;

/// Largest packet that is read: more than any interface here sends ([`super::MTU`]).
const PACKET_MAX: usize = 64 << 10;

/// Packets read from one host before the next host, and what is due, have their turn.
const TURN: usize = 64;

/// A running router. Dropping it ends the thread and closes the devices.
pub(super) struct Router {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Readable when the engine was changed from outside.
    changed: OwnedFd,
}

struct State {
    engine: Engine,
    stopping: bool,
    failure: Option<String>,
}

impl Router {
    /// Routes between devices, in the order of the engine's hosts.
    ///
    /// # Errors
    /// When the machine has no thread or file descriptor left.
    pub(super) fn start(devices: Vec<SyncDevice>, engine: Engine) -> io::Result<Router> {
        for device in &devices {
            device.set_nonblocking(true)?;
        }
        let state = State {
            engine,
            stopping: false,
            failure: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        });
        let of_thread = Arc::clone(&shared);
        let thread = Builder::new()
            .name("wan-router".to_owned())
            .spawn(move || of_thread.run(&devices))?;
        Ok(Router {
            shared,
            thread: Some(thread),
        })
    }

    /// Asks or changes the engine; a change is in force when this returns.
    ///
    /// # Errors
    /// Why the router does not run any more.
    pub(super) fn with<T>(&self, what: impl FnOnce(&mut Engine) -> T) -> Result<T, String> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let answer = what(&mut state.engine);
        drop(state);
        self.shared.wake();
        Ok(answer)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // The thread runs no code that panics; nothing to report here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Locks; a poisoned lock is taken, because no holder leaves an engine half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn run(&self, devices: &[SyncDevice]) {
        be_on_time();
        let Err(error) = self.route(devices) else {
            return;
        };
        self.lock().failure = Some(format!("the WAN's router ended: {error}"));
    }

    /// Routes until it is told to stop.
    fn route(&self, devices: &[SyncDevice]) -> io::Result<()> {
        let mut scratch = vec![0; PACKET_MAX];
        loop {
            let next = {
                let state = self.lock();
                if state.stopping {
                    return Ok(());
                }
                state.engine.next()
            };
            let readable = self.wait(devices, next)?;
            for host in readable {
                self.read(host, &devices[host], &mut scratch)?;
            }
            self.hand_out(devices);
        }
    }

    /// Waits for packets, for a moment, or for a change. Which devices have packets.
    fn wait(&self, devices: &[SyncDevice], next: Option<Instant>) -> io::Result<Vec<usize>> {
        let fds = devices.iter().map(AsFd::as_fd);
        let mut fds: Vec<_> = fds
            .chain([self.changed.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let rest = next.map(|next| next.saturating_duration_since(Instant::now()));
        // A minute at most, which fits.
        let timeout = rest.and_then(|rest| Timespec::try_from(rest).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        if !fds[devices.len()].revents().is_empty() {
            // Only to make it unreadable again.
            let _ = rustix::io::read(&self.changed, &mut [0_u8; 8]);
        }
        let hosts = 0..devices.len();
        Ok(hosts.filter(|at| !fds[*at].revents().is_empty()).collect())
    }

    /// Takes what a host sends, up to a turn.
    fn read(&self, host: usize, device: &SyncDevice, scratch: &mut [u8]) -> io::Result<()> {
        let mut state = self.lock();
        for _ in 0..TURN {
            match device.recv(scratch) {
                Ok(length) => state.engine.admit(host, &scratch[..length], Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands out what is due.
    fn hand_out(&self, devices: &[SyncDevice]) {
        let now = Instant::now();
        let mut state = self.lock();
        while let Some((to, packet)) = state.engine.due(now) {
            if devices[to].send(&packet).is_err() {
                state.engine.counters.refused += 1;
            }
        }
    }
}

/// Asks the kernel to run this thread before all ordinary ones: a WAN must not be late because the processes at its
/// ends keep the machine busy. Where that is refused it is later under load ([`super::WanCounters`] tell how much),
/// and nothing worse, so nobody is told.
fn be_on_time() {
    let Ok(task) = std::fs::read_link("/proc/thread-self") else {
        return;
    };
    let thread = task.file_name().unwrap_or_default();
    let _ = Command::new("chrt")
        .args(["--rr", "--pid", "1"])
        .arg(thread)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
