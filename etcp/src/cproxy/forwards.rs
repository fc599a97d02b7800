//! The forwards of cproxy. They can change while it runs.

use std::collections::HashSet;
use std::time::Duration;

use eternaltcp::address::{Listen, Target};
use eternaltcp::client::{
    Client, ClientMonitor, FirstAnswer, Opener, RemoteForward, RemoteForwarder,
    RunningRemoteForward, Servers, serve_dynamic, serve_transparent,
};
use eternaltcp::control::ForwardStatus;
use eternaltcp::recovery::Recovery;
use eternaltcp::{Listener, Missing};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{Instrument, Span, info, warn};

use crate::exit::ExitError;
use crate::taken::{cannot_listen, explain};

/// Time for the server to answer a request to listen, within the time of a reload.
const ANSWER: Duration = Duration::from_millis(800);

/// A listener, and the use of its connections.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Rule {
    pub(super) listen: Listen,
    pub(super) kind: ListenerKind,
}

/// The destination of a listener's sessions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum ListenerKind {
    /// To one target; `None`: the server's default target.
    Forward(Option<Target>),
    /// The target that each connection names.
    Dynamic,
    /// The original destination of each connection.
    Transparent,
}

/// A rule that listens.
pub(super) struct BoundRule {
    rule: Rule,
    listener: Listener,
    /// The reasons why it does not listen on some of its addresses, as a text for each.
    missing: Vec<String>,
}

impl Rule {
    /// Listens. The explanation of a failure asks other proxies, and so blocks.
    pub(super) fn listen(self, recovery: &mut Recovery) -> Result<BoundRule, ExitError> {
        let listener = self.bind(recovery)?;
        let missing = listener.missing().map(|Missing { address, error, .. }| {
            format!("not listening on {address}: {}", explain(&Listen::Tcp(*address), error))
        });
        let missing = missing.collect();
        Ok(BoundRule { rule: self, listener, missing })
    }

    /// Describes where the connections to these addresses lead.
    fn statuses(&self, names: &[String], server: Option<&str>) -> Vec<ForwardStatus> {
        let target = self.kind.destination();
        let status = |listen: &String| ForwardStatus {
            server: server.map(str::to_owned),
            listen: listen.clone(),
            is_remote: false,
            target: target.clone(),
        };
        names.iter().map(status).collect()
    }

    fn bind(&self, recovery: &mut Recovery) -> Result<Listener, ExitError> {
        let listen = &self.listen;
        let listener = match self.kind {
            ListenerKind::Transparent => Listener::recover_or_bind_transparent(recovery, listen),
            _ => Listener::recover_or_bind(recovery, listen),
        };
        listener.map_err(|error| cannot_listen(listen, &error))
    }
}

impl ListenerKind {
    /// Returns the flag that asks for such a listener.
    pub(super) fn flag(&self) -> &'static str {
        match self {
            Self::Forward(None) => "--listen",
            Self::Forward(Some(_)) => "--local-forward",
            Self::Dynamic => "--dynamic-forward",
            Self::Transparent => "--transparent",
        }
    }

    /// Returns the destination of its connections.
    fn destination(&self) -> String {
        match self {
            Self::Forward(Some(target)) => target.to_string(),
            Self::Forward(None) => "the default target".to_owned(),
            Self::Dynamic => "what SOCKS or HTTP CONNECT asks for".to_owned(),
            Self::Transparent => "where they were going".to_owned(),
        }
    }

    /// Serves `listener` for as long as the client runs.
    async fn serve(self, listener: Listener, servers: Servers, opener: Opener) {
        match self {
            Self::Forward(target) => accept(listener, target, opener).await,
            Self::Dynamic => serve_dynamic(listener, opener).await,
            Self::Transparent => serve_transparent(listener, servers, opener).await,
        }
    }
}

impl BoundRule {
    /// Returns its addresses.
    pub(super) fn names(&self) -> Vec<String> {
        self.listener.parts().iter().map(ToString::to_string).collect()
    }

    /// Describes where its connections will lead, for the status. `server` is the name of the server
    /// of several.
    pub(super) fn statuses(&self, server: Option<&str>) -> Vec<ForwardStatus> {
        self.rule.statuses(&self.names(), server)
    }
}

/// A rule whose connections are forwarded.
struct RunningRule {
    rule: Rule,
    /// Its addresses.
    names: Vec<String>,
    task: JoinHandle<()>,
}

/// The forwards at the server after a reload.
pub(super) struct RemoteChange {
    /// The forwards that run already.
    kept: Vec<RemoteForward>,
    /// New ones.
    started: Vec<RunningRemote>,
    /// New ones whose addresses are still in use by forwards that are removed.
    later: Vec<RemoteForward>,
}

/// A forward at the server, which ends when this is dropped.
type RunningRemote = (RemoteForward, RunningRemoteForward);

/// The rules of a running client.
pub(super) struct RunningForwards {
    rules: Vec<RunningRule>,
    servers: Servers,
    opener: Opener,
    monitor: ClientMonitor,
    remotes: Vec<RunningRemote>,
    forwarder: RemoteForwarder,
}

impl RunningForwards {
    pub(super) fn new(servers: Servers, client: &Client) -> Self {
        Self {
            rules: Vec::new(),
            servers,
            opener: client.opener(),
            monitor: client.monitor(),
            remotes: Vec::new(),
            forwarder: client.remote_forwarder(),
        }
    }

    /// Asks the server to listen at the start of the client. The log says where it does.
    pub(super) fn start_remote(&mut self, client: &Client, remote: RemoteForward) {
        let (running, _) = client.forward_remotely_until_dropped(remote.clone());
        self.remotes.push((remote, running));
    }

    /// Asks the server to listen for those of the wanted forwards that do not run yet, and returns
    /// the receivers of its answers. Dropping the change takes the requests back.
    pub(super) fn begin_new(&self, wanted: Vec<RemoteForward>) -> (RemoteChange, Vec<FirstAnswer>) {
        let (mut added, mut kept, mut removed) = (wanted, Vec::new(), Vec::new());
        for (remote, _) in &self.remotes {
            match added.iter().position(|it| it == remote) {
                Some(at) => kept.push(added.remove(at)),
                None => removed.push(&remote.forward.listen),
            }
        }
        // The address of a forward that is removed must be free first.
        let is_freed = |it: &RemoteForward| removed.iter().any(|at| it.forward.listen.overlaps(at));
        let (later, now): (Vec<_>, Vec<_>) = added.into_iter().partition(is_freed);
        let (mut started, mut answers) = (Vec::new(), Vec::new());
        for remote in now {
            let (running, answer) = self.forwarder.start(remote.clone());
            started.push((remote, running));
            answers.push(answer);
        }
        (RemoteChange { kept, started, later }, answers)
    }

    /// Stops the forwards at the server that a change removes, and starts the others.
    pub(super) fn change_remotes(&mut self, change: RemoteChange) {
        let RemoteChange { mut kept, started, later } = change;
        self.remotes.retain(|(remote, _)| {
            let at = kept.iter().position(|it| it == remote);
            match at {
                Some(at) => drop(kept.remove(at)),
                None => info!("the server is no longer asked to listen: -R {}", remote.forward),
            }
            at.is_some()
        });
        self.remotes.extend(started);
        for remote in later {
            let (running, _) = self.forwarder.start(remote.clone());
            self.remotes.push((remote, running));
        }
    }

    /// Forwards the connections of a rule, until the rule is removed or the client is drained, and
    /// logs where it listens.
    pub(super) fn start(&mut self, bound: BoundRule) {
        let names = bound.names();
        let BoundRule { rule, listener, missing } = bound;
        names.iter().for_each(|name| info!("listening on {name}"));
        missing.iter().for_each(|line| warn!("{line}"));
        let accepting =
            rule.kind.clone().serve(listener, self.servers.clone(), self.opener.clone());
        let draining = self.monitor.draining();
        let task = async move {
            tokio::select! {
                () = accepting => {}
                () = draining => {}
            }
        };
        let task = tokio::spawn(task.in_current_span());
        self.rules.push(RunningRule { rule, names, task });
    }

    /// Returns the rules that run.
    pub(super) fn rules(&self) -> Vec<Rule> {
        self.rules.iter().map(|running| running.rule.clone()).collect()
    }

    /// Returns the rules that run and are still wanted, or are not in the way of a new one of any
    /// server.
    pub(super) fn kept_beside(&self, wanted: &[Rule], new: &[&Rule]) -> Vec<Rule> {
        let running: HashSet<_> = self.rules.iter().map(|running| &running.rule).collect();
        let wanted: HashSet<_> = wanted.iter().collect();
        let is_new = |rule: &&&Rule| !running.contains(**rule) && !wanted.contains(**rule);
        let new: Vec<_> = new.iter().filter(is_new).collect();
        let is_in_the_way = |rule: &Rule| new.iter().any(|new| new.listen.overlaps(&rule.listen));
        self.rules()
            .into_iter()
            .filter(|rule| wanted.contains(rule) || !is_in_the_way(rule))
            .collect()
    }

    /// Returns the addresses of all rules.
    pub(super) fn names(&self) -> Vec<String> {
        self.rules.iter().flat_map(|running| running.names.clone()).collect()
    }

    /// Describes where the connections of all rules lead, for the status. `server` is the name of the
    /// server of several.
    pub(super) fn statuses(&self, server: Option<&str>) -> Vec<ForwardStatus> {
        let of = |running: &RunningRule| running.rule.statuses(&running.names, server);
        let local = self.rules.iter().flat_map(of);
        let remote = self.remotes.iter().map(|(remote, _)| ForwardStatus {
            server: server.map(str::to_owned),
            listen: remote.forward.listen.to_string(),
            is_remote: true,
            target: remote.forward.target.to_string(),
        });
        local.chain(remote).collect()
    }

    /// Starts and stops listeners, so that exactly these rules run. Sessions continue. If an
    /// address is not available, nothing changes.
    pub(super) async fn change(&mut self, wanted: Vec<Rule>) -> Result<(), ExitError> {
        let running: HashSet<_> = self.rules.iter().map(|it| &it.rule).collect();
        let (kept, added): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|rule| running.contains(rule));
        let kept: HashSet<_> = kept.into_iter().collect();
        let removed = self.rules.iter().map(|it| &it.rule).filter(|rule| !kept.contains(*rule));
        let removed: Vec<_> = removed.cloned().collect();
        // The address of a rule that is removed must be free first.
        let is_freed = |rule: &Rule| removed.iter().any(|it| rule.listen.overlaps(&it.listen));
        let (later, now): (Vec<_>, Vec<_>) = added.into_iter().partition(is_freed);
        let mut bound = bind_all(now).await?;
        let is_in_the_way = |rule: &Rule| later.iter().any(|it| it.listen.overlaps(&rule.listen));
        let (freeing, removed): (Vec<_>, Vec<_>) = removed.into_iter().partition(is_in_the_way);
        self.stop(&freeing).await;
        match bind_all(later).await {
            Ok(more) => bound.extend(more),
            Err(error) => {
                for rule in freeing {
                    match bind_all(vec![rule]).await {
                        Ok(again) => again.into_iter().for_each(|bound| self.start(bound)),
                        Err(error) => warn!("{}", error.text()),
                    }
                }
                return Err(error);
            }
        }
        self.stop(&removed).await;
        bound.into_iter().for_each(|bound| self.start(bound));
        Ok(())
    }

    /// Closes the listeners of these rules.
    async fn stop(&mut self, rules: &[Rule]) {
        let rules: HashSet<_> = rules.iter().collect();
        let (stopped, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.rules).into_iter().partition(|it| rules.contains(&it.rule));
        self.rules = kept;
        for RunningRule { names, task, .. } in stopped {
            task.abort();
            // The listener is closed when the task has ended.
            let _ = task.await;
            info!("no longer listening on {}", names.join(", "));
        }
    }
}

/// Returns the first refusal of servers that were asked to listen, with the name that stands beside the
/// answer. While a server cannot be reached, it refuses nothing.
pub(super) async fn wait_for_refusal<T>(answers: Vec<(T, FirstAnswer)>) -> Option<(T, String)> {
    let refusal = async {
        for (name, answer) in answers {
            if let Some(text) = answer.refusal().await {
                return Some((name, text));
            }
        }
        None
    };
    timeout(ANSWER, refusal).await.unwrap_or_default()
}

/// Listens at all of these rules, or at none of them. The explanation of a failure asks other
/// proxies, and this one, so it must not block the runtime.
pub(super) async fn bind_all(rules: Vec<Rule>) -> Result<Vec<BoundRule>, ExitError> {
    let span = Span::current();
    let bind = move || {
        let _in = span.entered();
        rules.into_iter().map(|rule| rule.listen(&mut Recovery::none())).collect()
    };
    spawn_blocking(bind).await.map_err(ExitError::failed)?
}

/// Forwards every connection that `listener` accepts.
pub(crate) async fn accept(mut listener: Listener, target: Option<Target>, opener: Opener) {
    loop {
        let stream = listener.accept().await;
        if !opener.carry(stream, target.as_ref()).await {
            return;
        }
    }
}
