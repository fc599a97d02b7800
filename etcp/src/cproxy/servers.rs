//! The servers of a running cproxy. Each has its own client, forwards and log fields, and none waits
//! for another one.

use std::collections::BTreeSet;

use eternaltcp::client::{Client, ClientEnd, ClientMonitor, RemoteForward};
use eternaltcp::control::{Clients, ForwardStatus};
use eternaltcp::recovery::Recovery;
use eternaltcp::report::counted;
use tokio::task::JoinSet;
use tracing::{Instrument, Span, error, error_span, info, warn};

use super::forwards::{BoundRule, RemoteChange, Rule, RunningForwards, bind_all, wait_for_refusal};
use super::setup::{ServerPlan, ServerSetup, named};
use crate::exit::{ExitError, of_client};

/// A server whose client runs.
struct LiveServer {
    /// Its number: a later server may have the same name.
    number: u64,
    name: Option<String>,
    forwards: RunningForwards,
    monitor: ClientMonitor,
    span: Span,
}

/// A server whose client runs, and whose listeners do not accept yet.
struct OpeningServer {
    number: u64,
    bound: Vec<BoundRule>,
}

/// The servers of a running cproxy.
pub(super) struct RunningServers {
    clients: Clients,
    servers: Vec<LiveServer>,
    opening: Vec<OpeningServer>,
    /// The ends of all clients, with the numbers of their servers.
    ends: JoinSet<(u64, ClientEnd)>,
    started: u64,
    /// The result of the program: the worst of those of its clients so far.
    result: Result<(), ExitError>,
}

impl RunningServers {
    pub(super) fn new(clients: Clients) -> Self {
        let (servers, opening, ends) = (Vec::new(), Vec::new(), JoinSet::new());
        Self { clients, servers, opening, ends, started: 0, result: Ok(()) }
    }

    /// Listens, and starts the clients of these servers. Their listeners accept once they are
    /// [opened](Self::open). Returns the addresses that a client which is being drained has left to its
    /// successor.
    pub(super) fn start(
        &mut self,
        setups: Vec<ServerSetup>,
        recovery: &mut Recovery,
    ) -> Result<Vec<String>, ExitError> {
        let mut left = Vec::new();
        for mut setup in setups {
            if recovery.is_draining() {
                let rules = std::mem::take(&mut setup.rules);
                left.extend(rules.iter().map(|rule| rule.listen.to_string()));
            }
            let (span, rules) = (span_of(setup.name.as_deref()), std::mem::take(&mut setup.rules));
            let bound = rules.into_iter().map(|rule| span.in_scope(|| rule.listen(recovery)));
            let bound = bound.collect::<Result<Vec<_>, _>>();
            let bound = bound.map_err(|error| named(setup.name.as_deref(), error))?;
            self.start_client(setup, bound, recovery)?;
        }
        Ok(left)
    }

    /// Starts the client of a server.
    fn start_client(
        &mut self,
        setup: ServerSetup,
        bound: Vec<BoundRule>,
        recovery: &mut Recovery,
    ) -> Result<(), ExitError> {
        let ServerSetup { name, remotes, mut config, .. } = setup;
        config.label = self.clients.label(name.as_deref());
        let (span, addresses) = (span_of(name.as_deref()), config.servers.clone());
        let client = Client::recover_or_start(recovery, config)
            .map_err(|error| named(name.as_deref(), ExitError::failed(error)))?;
        let (number, monitor) = (self.started, client.monitor());
        self.started += 1;
        let mut forwards = RunningForwards::new(addresses, &client);
        for remote in remotes {
            forwards.start_remote(&client, remote);
        }
        self.clients.add(name.as_deref(), monitor.clone());
        let mut client = client;
        self.ends.spawn(async move { (number, client.ended().await) });
        self.servers.push(LiveServer { number, name, forwards, monitor, span });
        self.opening.push(OpeningServer { number, bound });
        Ok(())
    }

    /// Lets the new listeners accept connections.
    pub(super) fn open(&mut self) {
        for OpeningServer { number, bound } in std::mem::take(&mut self.opening) {
            if let Some(server) = self.servers.iter_mut().find(|server| server.number == number) {
                let _in = server.span.clone().entered();
                bound.into_iter().for_each(|bound| server.forwards.start(bound));
            }
        }
    }

    /// Returns the addresses on which it listens.
    pub(super) fn names(&self) -> Vec<String> {
        let opening = self.opening.iter().flat_map(|opening| &opening.bound);
        let opening = opening.flat_map(BoundRule::names);
        self.servers.iter().flat_map(|server| server.forwards.names()).chain(opening).collect()
    }

    /// Describes the forwards of all servers, for the status, also those that do not accept yet.
    pub(super) fn forwards(&self) -> Vec<ForwardStatus> {
        self.servers.iter().flat_map(|server| self.forwards_of(server)).collect()
    }

    fn forwards_of(&self, server: &LiveServer) -> Vec<ForwardStatus> {
        let name = server.name.as_deref();
        let opening = self.opening.iter().filter(|opening| opening.number == server.number);
        let opening = opening.flat_map(|opening| &opening.bound);
        let opening = opening.flat_map(|bound| bound.statuses(name));
        opening.chain(server.forwards.statuses(name)).collect()
    }

    /// Returns whether a server of this name runs.
    pub(super) fn has(&self, name: Option<&str>) -> bool {
        self.servers.iter().any(|server| server.name.as_deref() == name)
    }

    /// Returns the names of the servers whose clients have ended by themselves.
    pub(super) fn ended(&self) -> BTreeSet<String> {
        self.clients.ended().into_iter().map(|ended| ended.server).collect()
    }

    pub(super) fn monitors(&self) -> Vec<ClientMonitor> {
        self.servers.iter().map(|server| server.monitor.clone()).collect()
    }

    /// Waits until a client has ended by itself, and handles that. Returns whether it was the last one:
    /// while others run, they continue. Cancel-safe.
    pub(super) async fn wait_for_end(&mut self) -> bool {
        match self.ends.join_next().await {
            Some(Ok((number, end))) => self.handle_end(number, end),
            Some(Err(error)) => self.result = Err(ExitError::failed(error)),
            None => return true,
        }
        self.servers.is_empty()
    }

    fn handle_end(&mut self, number: u64, end: ClientEnd) {
        let Some(at) = self.servers.iter().position(|server| server.number == number) else {
            return;
        };
        // Its listeners are closed, so that applications do not wait for it.
        let server = self.servers.swap_remove(at);
        let result = of_client(end);
        if let (Some(name), false) = (&server.name, self.servers.is_empty()) {
            let _in = server.span.entered();
            let why = match &result {
                Ok(()) => "it was closed".to_owned(),
                Err(error) => error.text().to_owned(),
            };
            error!("the tunnel to {name} has ended for good, and the others continue: {why}");
            self.clients.end(name, why);
        }
        let result = result.map_err(|error| named(server.name.as_deref(), error));
        if is_worse(&result, &self.result) {
            self.result = result;
        }
    }

    /// Closes all tunnels in order, and waits for that.
    pub(super) async fn close(mut self) -> Result<(), ExitError> {
        for server in &self.servers {
            server.monitor.close().await;
        }
        let mut result = Ok(());
        while let Some(ended) = self.ends.join_next().await {
            let ended = match ended {
                Ok((_, end)) => of_client(end),
                Err(error) => Err(ExitError::failed(error)),
            };
            if is_worse(&ended, &result) {
                result = ended;
            }
        }
        result
    }

    /// Returns the result of the program when all clients have ended.
    pub(super) fn into_result(self) -> Result<(), ExitError> {
        self.result
    }

    /// Changes the servers to these: `plans` are those that run already, with their new forwards,
    /// and `added` are new ones. All others are closed. If an address is not available, or a server
    /// refuses to listen, nothing changes.
    pub(super) async fn change(
        &mut self,
        mut plans: Vec<ServerPlan>,
        added: Vec<ServerSetup>,
    ) -> Result<(), ExitError> {
        let remotes = self.ask_remotes(&mut plans).await?;
        let before = self.rules();
        if let Err(error) = self.change_rules(&plans, added).await {
            self.restore(before).await;
            return Err(error);
        }
        for (number, change) in remotes {
            if let Some(server) = self.servers.iter_mut().find(|server| server.number == number) {
                let _in = server.span.clone().entered();
                server.forwards.change_remotes(change);
            }
        }
        self.open();
        // Each server of the file runs now.
        self.clients.forget_ended();
        Ok(())
    }

    /// Asks the servers for the new listeners there. If one of them refuses, all are taken back.
    async fn ask_remotes(
        &self,
        plans: &mut [ServerPlan],
    ) -> Result<Vec<(u64, RemoteChange)>, ExitError> {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for plan in plans {
            let Some(server) = self.servers.iter().find(|it| it.name == plan.name) else {
                continue;
            };
            let wanted: Vec<RemoteForward> = std::mem::take(&mut plan.remotes);
            let (change, more) = server.forwards.begin_new(wanted);
            changes.push((server.number, change));
            answers.extend(more.into_iter().map(|answer| (plan.name.clone(), answer)));
        }
        match wait_for_refusal(answers).await {
            Some((name, text)) => Err(named(name.as_deref(), ExitError::failed(text))),
            None => Ok(changes),
        }
    }

    /// Changes the listeners of all servers, starts new ones, and closes those that have no plan.
    async fn change_rules(
        &mut self,
        plans: &[ServerPlan],
        added: Vec<ServerSetup>,
    ) -> Result<(), ExitError> {
        let plan_of = |server: &LiveServer| plans.iter().find(|plan| plan.name == server.name);
        let wanted: Vec<Vec<Rule>> = self
            .servers
            .iter()
            .map(|server| plan_of(server).map(|plan| plan.rules.clone()).unwrap_or_default())
            .collect();
        let removed: Vec<bool> =
            self.servers.iter().map(|server| plan_of(server).is_none()).collect();
        // An address that moves to another server must be free first.
        let new: Vec<_> =
            added.iter().flat_map(|setup| &setup.rules).chain(wanted.iter().flatten()).collect();
        for (server, wanted) in self.servers.iter_mut().zip(&wanted) {
            let kept = server.forwards.kept_beside(wanted, &new);
            if kept.len() == server.forwards.rules().len() {
                continue;
            }
            server.forwards.change(kept).instrument(server.span.clone()).await?;
        }
        let mut bound = Vec::new();
        for setup in &added {
            let binding = bind_all(setup.rules.clone());
            let listeners = binding.instrument(span_of(setup.name.as_deref())).await;
            bound.push(listeners.map_err(|error| named(setup.name.as_deref(), error))?);
        }
        for (server, wanted) in self.servers.iter_mut().zip(wanted) {
            let changed = server.forwards.change(wanted).instrument(server.span.clone()).await;
            changed.map_err(|error| named(server.name.as_deref(), error))?;
        }
        for (listeners, setup) in bound.into_iter().zip(added) {
            self.start_client(setup, listeners, &mut Recovery::none())?;
        }
        self.close_removed(&removed).await;
        Ok(())
    }

    /// Closes the servers that are marked, which come first.
    async fn close_removed(&mut self, removed: &[bool]) {
        let removed: BTreeSet<_> = self
            .servers
            .iter()
            .zip(removed)
            .filter(|(_, is_removed)| **is_removed)
            .map(|(server, _)| server.number)
            .collect();
        let is_removed = |server: &mut LiveServer| removed.contains(&server.number);
        for server in self.servers.extract_if(.., is_removed).collect::<Vec<_>>() {
            let status = server.monitor.status().await;
            let count = status.map_or(0, |status| status.sessions.len());
            let sessions = counted(count, "session", "sessions");
            self.clients.remove(server.name.as_deref());
            server.monitor.close().await;
            let _in = server.span.entered();
            info!("the server was removed: its tunnel is closed, with {sessions}");
        }
    }

    fn rules(&self) -> Vec<(u64, Vec<Rule>)> {
        self.servers.iter().map(|server| (server.number, server.forwards.rules())).collect()
    }

    /// Returns to the listeners before a change that failed.
    async fn restore(&mut self, before: Vec<(u64, Vec<Rule>)>) {
        let numbers: BTreeSet<_> = before.iter().map(|(number, _)| *number).collect();
        for (number, rules) in before {
            let Some(server) = self.servers.iter_mut().find(|it| it.number == number) else {
                continue;
            };
            let restored = server.forwards.change(rules).instrument(server.span.clone()).await;
            if let Err(error) = restored {
                warn!("{}", error.text());
            }
        }
        // The clients that the failed change has started are closed.
        let is_new = |server: &mut LiveServer| !numbers.contains(&server.number);
        for server in self.servers.extract_if(.., is_new).collect::<Vec<_>>() {
            self.opening.retain(|opening| opening.number != server.number);
            self.clients.remove(server.name.as_deref());
            server.monitor.close().await;
        }
    }
}

/// Returns the span of what concerns one server of several.
fn span_of(name: Option<&str>) -> Span {
    match name {
        Some(name) => error_span!(parent: None, "server", server = name),
        None => Span::none(),
    }
}

/// Returns whether the first result is the one that the shell should rather see: a rejection before a
/// failure, and a failure before success.
fn is_worse(one: &Result<(), ExitError>, other: &Result<(), ExitError>) -> bool {
    let weight = |result: &Result<(), ExitError>| match result {
        Ok(()) => 0,
        Err(ExitError::Refused(_)) => 2,
        Err(_) => 1,
    };
    weight(one) > weight(other)
}
