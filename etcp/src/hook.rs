//! `--on-event`: a command that is run when a carrier is lost and when it is back.
//!
//! One command runs at a time, and the latest few events wait for it. It has ten seconds. The
//! tunnel never waits for it.

use std::collections::VecDeque;
use std::io::stderr;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use eternaltcp::clean;
use eternaltcp::control::{ControlPath, ProxyKind};
use eternaltcp::process::{ProcessGroup, as_started, main_process};
use eternaltcp::status::TunnelEvent;
use tokio::process::Command;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

/// Time allowed for a command; then it is killed with everything that it started.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time between two log lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// The maximum number of events that wait for the command; older ones are dropped.
const WAITING: usize = 8;

/// The task that runs the command. When this is dropped, the task and the command end.
#[derive(Debug)]
pub(crate) struct Hook {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Hook {
    /// Runs `command` with sh for `first` and for every event, on the current runtime.
    pub(crate) fn start(
        role: ProxyKind,
        command: String,
        events: broadcast::Receiver<TunnelEvent>,
        control: Option<ControlPath>,
        first: Option<TunnelEvent>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let waiting = first.into_iter().collect();
        Self { stop, task: tokio::spawn(run(role, command, events, waiting, control, stopped)) }
    }

    /// Kills the command that runs or is being started, and waits for its end.
    pub(crate) async fn end(self) {
        drop(self.stop);
        // A hook that panicked has ended too.
        let _ = self.task.await;
    }
}

async fn run(
    role: ProxyKind,
    command: String,
    mut events: broadcast::Receiver<TunnelEvent>,
    mut waiting: VecDeque<TunnelEvent>,
    control: Option<ControlPath>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut trouble = Trouble::default();
    loop {
        if waiting.is_empty() {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = &mut stopped => return,
            };
            match event {
                Ok(event) => waiting.push_back(event),
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            }
        }
        trouble.missed += gather(&mut events, &mut waiting);
        trouble.tell_missed(Instant::now());
        let Some(event) = waiting.pop_front() else { continue };
        let run = run_once(role, &command, &event, control.as_ref(), &mut stopped);
        let Some(result) = run.await else { return };
        match result {
            Ok(()) => trouble.is_failing = false,
            Err(why) if trouble.is_news(Instant::now()) => {
                warn!("--on-event {command:?} failed on {}: {why}", event.kind);
            }
            Err(why) => debug!("--on-event: {why}"),
        }
    }
}

/// Failures of the command, and when they were last logged. Peers cause events, and so these lines,
/// as often as they like.
#[derive(Default)]
struct Trouble {
    missed: usize,
    missed_at: Option<Instant>,
    is_failing: bool,
    failed_at: Option<Instant>,
}

impl Trouble {
    /// Logs how many events were dropped since the last such line.
    fn tell_missed(&mut self, now: Instant) {
        if self.missed > 0 && is_due(&mut self.missed_at, now) {
            let missed = std::mem::take(&mut self.missed);
            warn!("--on-event is too slow: {missed} events are ignored");
        }
    }

    /// Records a failure of the command. Returns whether to log the failure.
    fn is_news(&mut self, now: Instant) -> bool {
        !std::mem::replace(&mut self.is_failing, true) && is_due(&mut self.failed_at, now)
    }
}

/// Returns whether a line may be logged now; one is allowed every [`PAUSE`].
fn is_due(told_at: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = told_at.is_none_or(|at| now.saturating_duration_since(at) >= PAUSE);
    if is_due {
        *told_at = Some(now);
    }
    is_due
}

/// Takes the events that have arrived. Returns how many are dropped.
fn gather(
    events: &mut broadcast::Receiver<TunnelEvent>,
    waiting: &mut VecDeque<TunnelEvent>,
) -> usize {
    let mut missed = 0;
    loop {
        match events.try_recv() {
            Ok(event) => waiting.push_back(event),
            Err(broadcast::error::TryRecvError::Lagged(count)) => {
                missed += usize::try_from(count).unwrap_or(usize::MAX);
            }
            Err(_) => break,
        }
        if waiting.len() > WAITING {
            waiting.pop_front();
            missed += 1;
        }
    }
    missed
}

/// Runs the command once. Returns its result, or `None` if it was stopped.
async fn run_once(
    role: ProxyKind,
    command: &str,
    event: &TunnelEvent,
    control: Option<&ControlPath>,
    stopped: &mut oneshot::Receiver<()>,
) -> Option<Result<(), String>> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).process_group(0);
    shell.envs(environment(role, event));
    if let Some(path) = control {
        shell.env("ETCP_CONTROL", path.get());
    }
    if !role.is_proxy() {
        // stdout is the connection, or the command's.
        shell.stdout(
            stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from),
        );
    }
    as_started(shell.as_std_mut());
    // Starting a program may take longer than the tunnel can wait.
    let started = tokio::task::spawn_blocking(move || shell.spawn()).await;
    let mut child = match started {
        Ok(Ok(child)) => child,
        Ok(Err(error)) => return Some(Err(format!("sh: {error}"))),
        Err(error) => return Some(Err(error.to_string())),
    };
    let group = ProcessGroup::of(child.id());
    let ended = tokio::select! {
        ended = timeout(PATIENCE, child.wait()) => ended,
        _ = stopped => return None,
    };
    let Ok(ended) = ended else {
        drop(group);
        let _ = child.wait().await;
        return Some(Err(format!("it took longer than {PATIENCE:?} and was killed")));
    };
    // Processes that it left running on purpose continue.
    group.release();
    Some(ended.map_err(|error| error.to_string()).and_then(judge))
}

fn judge(status: ExitStatus) -> Result<(), String> {
    match (status.success(), status.signal()) {
        (true, _) => Ok(()),
        (false, Some(signal)) => Err(format!("it was ended by signal {signal}")),
        (false, None) => Err(format!("its exit code is {}", status.code().unwrap_or_default())),
    }
}

/// Returns the command's environment variables. Text from a peer is reduced to one line.
fn environment(role: ProxyKind, event: &TunnelEvent) -> Vec<(&'static str, String)> {
    let plain = |text: &str| clean(text).into_owned();
    let optional = |text: &Option<String>| text.as_deref().map(plain).unwrap_or_default();
    let peer = if role.is_client() { "ETCP_SERVER" } else { "ETCP_KEY" };
    let mut variables = vec![
        ("ETCP_EVENT", event.kind.to_string()),
        ("ETCP_TUNNEL", optional(&event.tunnel)),
        (peer, plain(&event.peer)),
        ("ETCP_PATH", optional(&event.path)),
        ("ETCP_WHY", plain(&event.why)),
        ("ETCP_OUTAGE_MS", event.outage.map_or_else(String::new, |it| it.as_millis().to_string())),
        ("ETCP_REPLAYED", event.replayed.to_string()),
        ("ETCP_SESSIONS", event.sessions.to_string()),
        ("ETCP_PID", main_process().to_string()),
    ];
    if let Some(name) = &event.server_name {
        variables.push(("ETCP_SERVER_NAME", plain(name)));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use eternaltcp::status::EventKind;

    fn event(sessions: usize) -> TunnelEvent {
        TunnelEvent {
            kind: EventKind::Back,
            tunnel: Some("33d69d2a".to_owned()),
            server_name: Some("office".to_owned()),
            peer: "example.org:6200".to_owned(),
            path: Some("192.0.2.7 via wlan0".to_owned()),
            why: "bad\x1b[2J\nwords\u{202e}".to_owned(),
            outage: Some(Duration::from_millis(310)),
            replayed: 12,
            sessions,
        }
    }

    #[test]
    fn the_environment_tells_the_event_in_plain_lines() {
        let environment = environment(ProxyKind::Cproxy, &event(2));
        let get = |name| environment.iter().find(|(key, _)| *key == name).map(|it| it.1.as_str());
        assert_eq!(get("ETCP_EVENT"), Some("back"));
        assert_eq!(get("ETCP_SERVER"), Some("example.org:6200"));
        assert_eq!(get("ETCP_OUTAGE_MS"), Some("310"));
        assert_eq!(get("ETCP_SERVER_NAME"), Some("office"));
        assert_eq!(get("ETCP_WHY"), Some("bad [2J words "));
    }

    #[test]
    fn a_hook_that_fails_or_is_too_slow_is_reported_once_in_a_while() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        assert!(trouble.is_news(start) && !trouble.is_news(start));
        trouble.is_failing = false;
        assert!(!trouble.is_news(start), "it was told a moment ago");
        trouble.is_failing = false;
        assert!(trouble.is_news(start + PAUSE));
        trouble.missed = 5;
        trouble.tell_missed(start);
        assert_eq!(trouble.missed, 0);
        trouble.missed = 7;
        trouble.tell_missed(start + PAUSE / 2);
        assert_eq!(trouble.missed, 7, "they are told with later ones");
        trouble.tell_missed(start + PAUSE);
        assert_eq!(trouble.missed, 0);
    }

    #[test]
    fn the_latest_events_wait_and_older_ones_are_passed_over() {
        let (sender, mut events) = broadcast::channel(64);
        let mut waiting = VecDeque::new();
        (0..20).for_each(|number| drop(sender.send(event(number))));
        assert_eq!(gather(&mut events, &mut waiting), 12);
        let numbers: Vec<_> = waiting.iter().map(|event| event.sessions).collect();
        assert_eq!(numbers, (12..20).collect::<Vec<_>>());
    }
}
