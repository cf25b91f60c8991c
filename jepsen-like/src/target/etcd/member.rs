//! One member of an etcd cluster: a process, its directory, and what it uses.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::process::Command;

use crate::cluster::data;
use crate::cluster::process::{self, Ended, Process, mortal};

/// How long a member may take to stop by itself before it is killed. A leader first looks for a successor.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a member is started with, the same each time.
pub(super) struct Launch {
    /// The `etcd` binary.
    pub(super) program: PathBuf,
    /// Its name in the cluster.
    pub(super) name: String,
    /// Where its data and its log are.
    pub(super) folder: PathBuf,
    /// Where it listens for clients.
    pub(super) clients: SocketAddr,
    /// Where it listens for peers.
    pub(super) peers: SocketAddr,
    /// What it advertises to peers, `HOST:PORT`.
    pub(super) advertised: String,
    /// Where it asks for tunnels to peers.
    pub(super) door: SocketAddr,
    /// All members, as etcd wants them.
    pub(super) cluster: String,
    /// Between two heartbeats of a leader.
    pub(super) heartbeat: Duration,
    /// Without a heartbeat for so long, a member stands for election.
    pub(super) election: Duration,
}

impl Launch {
    /// The file that everything it prints goes to.
    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where its data is.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn arguments(&self, standing: Standing) -> Vec<String> {
        let state = match standing {
            Standing::Founder | Standing::Lost => "new",
            Standing::Added => "existing",
        };
        let ms = |duration: Duration| duration.as_millis().to_string();
        let pairs = [
            ("--name", self.name.clone()),
            ("--data-dir", self.data().display().to_string()),
            ("--listen-client-urls", format!("http://{}", self.clients)),
            (
                "--advertise-client-urls",
                format!("http://{}", self.clients),
            ),
            ("--listen-peer-urls", format!("https://{}", self.peers)),
            (
                "--initial-advertise-peer-urls",
                format!("https://{}", self.advertised),
            ),
            ("--initial-cluster", self.cluster.clone()),
            ("--initial-cluster-state", state.to_owned()),
            ("--heartbeat-interval", ms(self.heartbeat)),
            ("--election-timeout", ms(self.election)),
            ("--logger", "zap".to_owned()),
        ];
        let pairs = pairs
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]);
        pairs.chain(["--peer-auto-tls".to_owned()]).collect()
    }

    fn command(&self, standing: Standing) -> Command {
        let mut command = mortal(&self.program);
        command
            .args(self.arguments(standing))
            // Variables are settings of etcd, and proxies of Go: only these are meant.
            .env_clear()
            .env("HTTPS_PROXY", format!("http://{}", self.door));
        command
    }
}

/// What a member is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was there from the beginning.
    Founder,
    /// It lost its data. It may not come back as who it was: it has forgotten whom it voted for.
    Lost,
    /// It was added in the place of one that lost its data.
    Added,
}

/// A member. Its process is killed when it is dropped.
pub(super) struct Member {
    pub(super) launch: Launch,
    standing: Standing,
    process: Option<Process>,
    /// How often its process was started.
    pub(super) starts: u64,
    /// How it ended although nobody ended it, since the last question.
    deaths: Vec<String>,
}

impl Member {
    /// A member that does not run yet.
    pub(super) fn new(launch: Launch) -> Member {
        Member {
            launch,
            standing: Standing::Founder,
            process: None,
            starts: 0,
            deaths: Vec::new(),
        }
    }

    /// Starts it; nothing where it runs.
    ///
    /// # Errors
    /// When it lost its data, its log can not be opened, or the process not be started.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_lost(), "{} lost its data", self.launch.name);
        self.look();
        if self.process.is_none() {
            let command = self.launch.command(self.standing);
            let started = Process::start(command, &self.launch.log());
            let name = &self.launch.name;
            self.process = Some(started.with_context(|| format!("can not start {name}"))?);
            self.starts += 1;
        }
        Ok(())
    }

    /// Ends it by SIGKILL and waits for it; nothing where it does not run.
    ///
    /// # Errors
    /// When it can not be waited for.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.look();
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Asks it to end and waits for it; after 5 s it is killed. Nothing where it does not run. One that ends neither well
    /// nor by the signal, which is how etcd ends when it has closed everything, died of something else.
    pub(super) async fn stop(&mut self) {
        self.look();
        let Some(mut process) = self.process.take() else {
            return;
        };
        process.terminate().await;
        match process.wait_or_kill(STOP_WITHIN).await {
            Ended::Itself(status) if !status.success() && !by_term(status) => {
                self.died(&format!("{status} after SIGTERM"));
            }
            // While it is cut off it may wait for the others for longer.
            Ended::Itself(_) | Ended::Unheard | Ended::Killed => {}
        }
    }

    /// Takes its data away.
    ///
    /// # Errors
    /// When it runs, or the data can not be removed.
    pub(super) fn wipe(&mut self) -> anyhow::Result<()> {
        self.look();
        let name = &self.launch.name;
        anyhow::ensure!(self.process.is_none(), "{name} runs on its data");
        self.standing = Standing::Lost;
        data::wipe(&self.launch.data())
    }

    /// Whether its data was taken away, and nothing has been added in its place.
    pub(super) fn is_lost(&self) -> bool {
        self.standing == Standing::Lost
    }

    /// It was added to the cluster in the place of what it was.
    pub(super) fn was_added(&mut self) {
        self.standing = Standing::Added;
    }

    /// Lets it stand still; nothing where it does not run. Returns when all its threads do, or it has ended.
    ///
    /// # Errors
    /// When it does not stand within 5 s.
    pub(super) async fn pause(&mut self) -> anyhow::Result<()> {
        self.look();
        match &mut self.process {
            Some(process) => process.pause().await,
            None => Ok(()),
        }
    }

    /// Lets it go on; nothing where it does not run.
    ///
    /// # Errors
    /// Those of the process.
    pub(super) async fn resume(&mut self) -> anyhow::Result<()> {
        self.look();
        match &mut self.process {
            Some(process) => process.resume().await,
            None => Ok(()),
        }
    }

    /// Its process id, also of one that just ended.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Whether its process is there.
    pub(super) fn runs(&mut self) -> bool {
        self.look();
        self.process.is_some()
    }

    /// How it ended although nobody ended it, since the last question; in words.
    pub(super) fn deaths(&mut self) -> Vec<String> {
        self.look();
        std::mem::take(&mut self.deaths)
    }

    /// What its process and its data use: memory and disk in bytes, open files. `None` where it does not run.
    pub(super) fn usage(&mut self) -> Option<(u64, u64, u64)> {
        self.look();
        let (memory, files) = process::used(self.process.as_ref()?.id())?;
        Some((memory, data::bytes(&self.launch.data()), files))
    }

    /// Notes an end that nobody asked for.
    fn look(&mut self) {
        if let Some(status) = self.process.as_mut().and_then(Process::ended) {
            self.process = None;
            self.died(&status.to_string());
        }
    }

    fn died(&mut self, how: &str) {
        let log = fs::read_to_string(self.launch.log()).unwrap_or_default();
        let last = log.lines().next_back().unwrap_or("it printed nothing");
        let name = &self.launch.name;
        self.deaths.push(format!("{name} ended, {how}: {last}"));
    }
}

fn by_term(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::TERM.as_raw())
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::cluster::process::in_path;

    /// A member whose program is another.
    fn member(program: &str) -> (Member, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let launch = Launch {
            program: in_path(program).unwrap(),
            name: "etcd-0".to_owned(),
            folder: folder.path().to_owned(),
            clients: address,
            peers: address,
            advertised: "192.0.2.1:2380".to_owned(),
            door: address,
            cluster: "etcd-0=https://192.0.2.1:2380".to_owned(),
            heartbeat: Duration::from_millis(100),
            election: Duration::from_secs(1),
        };
        (Member::new(launch), folder)
    }

    #[tokio::test]
    async fn an_end_that_nobody_asked_for_is_told_once_with_its_last_words() {
        // It prints its arguments and ends.
        let (mut member, _folder) = member("echo");
        member.start().unwrap();
        let give_up = Instant::now() + Duration::from_secs(30);
        while member.runs() && Instant::now() < give_up {
            sleep(Duration::from_millis(2)).await;
        }
        let deaths = member.deaths();
        assert_eq!(deaths.len(), 1);
        assert!(deaths[0].starts_with("etcd-0 ended, "), "{deaths:?}");
        assert!(deaths[0].contains("--election-timeout 1000"), "{deaths:?}");
        assert!(member.deaths().is_empty(), "told twice");
    }

    #[tokio::test]
    async fn how_it_ends_when_it_is_told_to_is_judged() {
        use std::os::unix::fs::PermissionsExt as _;
        for (ends, wrong) in [
            ("exit 0", false),
            ("kill -TERM $$", false),
            ("exit 2", true),
        ] {
            let (mut member, folder) = member("sh");
            let script = format!(
                "#!/bin/sh\ntrap 'trap - TERM; {ends}' TERM\necho ready\nwhile :; do sleep 0.02; done\n"
            );
            member.launch.program = folder.path().join("script");
            fs::write(&member.launch.program, script).unwrap();
            let runs = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&member.launch.program, runs).unwrap();
            member.start().unwrap();
            let give_up = Instant::now() + Duration::from_secs(30);
            let ready = || fs::read_to_string(member.launch.log()).unwrap_or_default();
            while !ready().contains("ready") && Instant::now() < give_up {
                sleep(Duration::from_millis(2)).await;
            }
            member.stop().await;
            let deaths = member.deaths();
            assert_eq!(deaths.len(), usize::from(wrong), "{ends}: {deaths:?}");
            if let Some(death) = deaths.first() {
                assert!(death.contains("exit status: 2 after SIGTERM"), "{death}");
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_run_can_be_told_anything() {
        let (mut member, _folder) = member("echo");
        member.kill().await.unwrap();
        member.stop().await;
        member.pause().await.unwrap();
        member.resume().await.unwrap();
        assert!(!member.runs());
        assert_eq!(member.usage(), None);
        assert!(member.deaths().is_empty());
    }

    #[tokio::test]
    async fn what_lost_its_data_comes_back_as_somebody_else_only() {
        let (mut member, _folder) = member("sleep");
        fs::create_dir_all(member.launch.data().join("member")).unwrap();
        member.wipe().unwrap();
        assert!(!member.launch.data().exists());
        assert!(member.start().is_err());
        member.wipe().unwrap();
        member.was_added();
        let arguments = member.launch.arguments(member.standing).join(" ");
        assert!(arguments.contains("--initial-cluster-state existing"));
        member.start().unwrap();
    }
}
