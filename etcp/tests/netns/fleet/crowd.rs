//! Many clients with a checked stream each way, and the load balancer that leads them to the nodes.

use etcp_testkit::fleet::{FleetBalancer, FleetCproxy, FleetNames, FleetSite};
use etcp_testkit::process::{Launch, Process};
use etcp_testkit::random::TestRng;
use etcp_testkit::streams::Streams;
use etcp_testkit::wait::{PATIENCE, until};

/// Data that a stream must carry to count as continuing: more than was on its way.
const PROGRESS: u64 = 4 * 1024;

/// The metric of carriers that reached another node than their own.
pub(super) const OTHER_NODE: &str = "etcp_failed_handshakes_total{reason=\"other-node\"}";

/// All clients, with their servers.
pub(super) struct Crowd {
    pub(super) clients: Vec<FleetCproxy>,
    streams: Vec<Streams>,
    balancer: Option<(FleetBalancer, Process)>,
    _names: FleetNames,
    pub(super) site: FleetSite,
}

impl Crowd {
    /// Starts everything. Without a load balancer, clients get the addresses of all nodes by name.
    pub(super) fn start(balancer: Option<FleetBalancer>, count: usize) -> Self {
        let site = FleetSite::start(&[]);
        let names = FleetNames::start(&site);
        let balancer = balancer.map(|balancer| (balancer, balancer.start(&site)));
        let server = if balancer.is_some() { FleetSite::ENTRY } else { FleetNames::ALL };
        let resolve = |launch: Launch| names.serve_to(launch);
        let start = |number| FleetCproxy::start(&site, number, server, resolve);
        let mut clients: Vec<_> = (0..count).map(start).collect();
        let streams = clients.iter_mut().map(|client| {
            client.attached();
            client.session(&site).stream()
        });
        let streams = streams.collect();
        let crowd = Self { clients, streams, balancer, _names: names, site };
        crowd.go_on("the start");
        crowd
    }

    /// Waits until each stream has moved on.
    #[track_caller]
    pub(super) fn go_on(&self, after: &str) {
        let before: Vec<_> = self.streams.iter().map(Streams::received).collect();
        let mut waiting: Vec<_> = self.streams.iter().zip(&before).collect();
        until(&format!("all streams to go on after {after}"), 2 * PATIENCE, || {
            waiting.retain(|(streams, before)| {
                assert!(!streams.has_failed(), "a stream failed after {after}");
                let mut ways = streams.received().into_iter().zip(*before);
                !ways.all(|(now, before)| now >= before + PROGRESS)
            });
            waiting.is_empty()
        });
    }

    /// Cuts some carriers, and waits until each stream has moved on.
    #[track_caller]
    pub(super) fn survive_cuts(&self, random: &mut TestRng) {
        let cut = self.site.world.cut_some(random);
        self.go_on(&format!("{cut} carriers were cut"));
    }

    /// Kills the load balancer without notice, and starts it with other routes.
    pub(super) fn lead(&mut self, change: impl Fn(&str) -> String) {
        if let Some((balancer, process)) = self.balancer.take() {
            // It is killed here.
            drop(process);
            self.balancer = Some((balancer, balancer.start_changed(&self.site, change)));
        }
    }

    /// Returns how many tunnels the nodes have.
    fn tunnels(&self) -> u64 {
        let states = ["attached", "detached"].map(|it| format!("etcp_tunnels{{state=\"{it}\"}}"));
        states.iter().map(|name| self.site.metric_of_all(name)).sum()
    }

    /// Ends all streams in order, and checks every byte, and that no client has lost a session.
    pub(super) fn finish(&mut self) {
        self.streams.drain(..).for_each(Streams::finish);
        for client in &self.clients {
            let log = client.process.log();
            assert!(!log.contains("sessions are reset"), "{log}");
            // A load balancer that was killed took every carrier with it.
            let is_replaced = self.balancer.is_none() || log.contains("attached again");
            assert!(is_replaced, "its carrier was never replaced: {log}");
        }
        assert_eq!(self.tunnels(), self.clients.len() as u64, "each client still has its tunnel");
    }
}
