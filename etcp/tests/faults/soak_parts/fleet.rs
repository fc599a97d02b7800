//! The proxies of a soak, the sessions through them, and their results.

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::lane::{STEADFAST, SoakLane};
use super::schedule::{Act, WELL};
use etcp_testkit::checked::{connect, listen};
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::workload::{WorkloadEnding, WorkloadPlan};
use etcp_testkit::{IpFamily, Process, Sproxy, TestFolder, TestRng, TestWorld};
use etcp_testkit::{netns::Namespace, process::Launch};

/// Lines of a log that no fault of the network explains.
const WRONG: [&str; 5] = ["panicked", "broke the protocol", "digest", "ERROR", "in doubt"];

/// A complete soak. The clients end before the server, and both before their world.
pub(crate) struct SoakFleet {
    lanes: Vec<FleetLane>,
    clients: Vec<Process>,
    sproxy: Sproxy,
    /// The server's open descriptors without a client.
    idle: usize,
    targets: [TcpListener; 2],
    is_over: AtomicBool,
    is_closed: AtomicBool,
    failure: Mutex<Option<String>>,
    pub(crate) world: TestWorld,
    folder: TestFolder,
}

/// A lane, the address for its applications, and the results of its sessions.
struct FleetLane {
    name: &'static str,
    lane: SoakLane,
    is_at_server: bool,
    in_order: AtomicUsize,
    reset: AtomicUsize,
    bytes: AtomicU64,
    longest: AtomicU64,
}

/// Ends the work when it is dropped, even by a panic.
pub(crate) struct FleetStop<'a>(&'a SoakFleet);

impl Drop for FleetStop<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// A client of the fleet: its name, its flags, and its lane.
struct SoakClient<'a> {
    name: &'static str,
    flags: &'a [&'a str],
    lane: SoakLane,
    is_at_server: bool,
}

impl SoakFleet {
    /// Starts a server and a client for each lane, all of them attached.
    pub(crate) fn start() -> Self {
        let (world, folder) = (TestWorld::over(&WELL), TestFolder::new());
        let targets = [&world.server, &world.client].map(|place| listen(place, "127.0.0.1:0"));
        let [far, near] = [&targets[0], &targets[1]].map(address);
        let sproxy =
            Sproxy::start_with(&world, &folder, IpFamily::V4, &far.to_string(), |launch| {
                launch.args(["--permit", "127.0.0.1:*", "--permit-listen", "*:*"])
            });
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let remote = format!("5204:{near}");
        let listener = |name, flags, port| SoakClient {
            name,
            flags,
            lane: SoakLane::Listener(at(port)),
            is_at_server: false,
        };
        let (socks, server) = (SoakLane::Socks(at(5203), far), SoakLane::Listener(at(5204)));
        let lanes = [
            listener("plain", &["--listen", "127.0.0.1:5200"], 5200),
            listener("carriers", &["--listen", "127.0.0.1:5201", "--carriers", "3"], 5201),
            listener("spare", &["--listen", "127.0.0.1:5202", "--spare"], 5202),
            SoakClient { name: "socks", flags: &["-D", "5203"], lane: socks, is_at_server: false },
            SoakClient {
                name: "remote",
                flags: &["-R", &remote],
                lane: server,
                is_at_server: true,
            },
        ];
        let mut fleet = Self {
            lanes: Vec::new(),
            clients: Vec::new(),
            idle: sproxy.process.descriptors(),
            sproxy,
            targets,
            is_over: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            failure: Mutex::new(None),
            world,
            folder,
        };
        lanes.into_iter().for_each(|client| fleet.add(client));
        let mut command = fleet.sproxy.client_command("connect");
        // Each program connects for the first time, often during an outage.
        command.extend(["--connect-timeout", "10m"].map(str::to_owned));
        fleet.lanes.push(FleetLane::new("connect", SoakLane::Connect(command, far), false));
        fleet
    }

    fn add(&mut self, client: SoakClient) {
        let command = self.sproxy.client_command("cproxy");
        let launch = Launch::new(client.name, &command[0])
            .args(&command[1..])
            .args(["--name", client.name])
            .args(client.flags)
            .env("HOME", self.folder.path());
        let mut process = launch.start(&self.world.client, &self.folder);
        process.wait_for("attached", PATIENCE);
        if client.is_at_server {
            process.wait_for("the server listens on", PATIENCE);
        }
        self.clients.push(process);
        self.lanes.push(FleetLane::new(client.name, client.lane, client.is_at_server));
    }

    /// Returns the clients that run for the whole soak.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &Process> {
        self.clients.iter()
    }

    /// Returns the programs that something happens to.
    pub(crate) fn some_of(&self, act: Act, random: &mut TestRng) -> Vec<&Process> {
        let client = &self.clients[(random.next() % self.clients.len() as u64) as usize];
        match act {
            Act::StopClient | Act::KillClient | Act::UpgradeClient => vec![client],
            Act::StopServer | Act::KillServer | Act::UpgradeServer => vec![&self.sproxy.process],
            _ => vec![client, &self.sproxy.process],
        }
    }

    /// Ends the work when the returned value is dropped.
    pub(crate) fn end_at_drop(&self) -> FleetStop<'_> {
        FleetStop(self)
    }

    /// Serves both targets on threads of `scope`.
    pub(crate) fn serve<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for listener in &self.targets {
            scope.spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    if self.is_closed.load(Ordering::Relaxed) {
                        return;
                    }
                    scope.spawn(move || {
                        self.note("a target", || WorkloadPlan::run_target_for(stream, STEADFAST))
                    });
                }
            });
        }
    }

    /// Runs this many concurrent sessions in every lane, until the soak is over.
    pub(crate) fn work<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        workers: usize,
        most: u64,
        random: &mut TestRng,
    ) {
        let mut all = Vec::new();
        for way in &self.lanes {
            // Each session of `connect` is a program, a handshake and a tunnel.
            let workers = if way.name == "connect" { workers.div_ceil(4) } else { workers };
            for _ in 0..workers {
                let mut random = random.split();
                all.push(scope.spawn(move || {
                    while !self.is_over.load(Ordering::Relaxed) && self.failed().is_none() {
                        let plan = way.lane.adapt(WorkloadPlan::random_paced(&mut random, most));
                        self.note(way.name, || way.run(plan, self));
                    }
                }));
            }
        }
        scope.spawn(move || {
            all.into_iter().for_each(|worker| worker.join().expect("panics are caught"));
            self.is_closed.store(true, Ordering::Relaxed);
            // The targets wait in accept(2): these connections let them check again.
            drop(connect(&self.world.server, &address(&self.targets[0]).to_string()));
            drop(connect(&self.world.client, &address(&self.targets[1]).to_string()));
        });
    }

    /// Runs a part of a session, and stores the first failure.
    fn note(&self, what: &str, work: impl FnOnce()) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else { return };
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = format!("{what}: {}", text.unwrap_or_default());
        self.failure.lock().expect("no thread panics with it").get_or_insert(text);
    }

    fn failed(&self) -> Option<String> {
        self.failure.lock().expect("no thread panics with it").clone()
    }

    /// Panics if a session has failed.
    #[track_caller]
    pub(crate) fn check(&self) {
        if let Some(failure) = self.failed() {
            panic!("a session failed: {failure}");
        }
    }

    /// Summarizes the results of all sessions in one line.
    pub(crate) fn summary(&self) -> String {
        let sum = |count: fn(&FleetLane) -> u64| self.lanes.iter().map(count).sum::<u64>();
        let (in_order, reset) = (sum(FleetLane::ended), sum(FleetLane::resets));
        let attaches: usize = self.clients().map(|client| client.count("attached again")).sum();
        let megabytes = sum(FleetLane::carried) / 1_000_000;
        format!("{in_order} sessions in order, {reset} reset, {megabytes} MB, {attaches} attaches")
    }

    /// Lists the results with one line for each lane.
    pub(crate) fn table(&self) -> String {
        let mut text = self.summary();
        for way in &self.lanes {
            text += &format!(
                "\n  {:<9} {:>6} in order {:>5} reset {:>6} MB, longest {:.1} s",
                way.name,
                way.ended(),
                way.resets(),
                way.carried() / 1_000_000,
                way.longest.load(Ordering::Relaxed) as f64 / 1000.0
            );
        }
        text
    }

    /// Ends the proxies, and checks what they leave behind.
    #[track_caller]
    pub(crate) fn finish(mut self, length: Duration) {
        self.check();
        for way in &self.lanes {
            assert!(way.ended() > 0, "{}: no session ended in {length:?}", way.name);
        }
        for client in &mut self.clients {
            assert!(client.stop(PATIENCE).success());
        }
        let sproxy = &mut self.sproxy.process;
        let idle = self.idle;
        let what = format!("{idle} descriptors again; now: {:?}", sproxy.descriptor_names());
        until(&what, PATIENCE, || sproxy.descriptors() <= idle);
        for (name, log) in self
            .clients
            .iter()
            .map(|client| ("a client", client.log()))
            .chain([("sproxy", sproxy.log())])
        {
            let wrong = log.lines().find(|line| WRONG.iter().any(|word| line.contains(word)));
            assert_eq!(wrong, None, "in the log of {name}");
        }
        assert!(sproxy.stop(PATIENCE).success());
    }
}

impl FleetLane {
    fn new(name: &'static str, lane: SoakLane, is_at_server: bool) -> Self {
        let (in_order, reset) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (bytes, longest) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { name, lane, is_at_server, in_order, reset, bytes, longest }
    }

    fn run(&self, plan: WorkloadPlan, fleet: &SoakFleet) {
        let world = &fleet.world;
        let namespace: &Namespace = if self.is_at_server { &world.server } else { &world.client };
        let start = Instant::now();
        self.lane.run(plan, namespace, &fleet.folder);
        self.longest.fetch_max(start.elapsed().as_millis() as u64, Ordering::Relaxed);
        if plan.ending() == WorkloadEnding::InOrder {
            self.bytes.fetch_add(plan.bytes(), Ordering::Relaxed);
            self.in_order.fetch_add(1, Ordering::Relaxed);
        } else {
            self.reset.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended(&self) -> u64 {
        self.in_order.load(Ordering::Relaxed) as u64
    }

    fn resets(&self) -> u64 {
        self.reset.load(Ordering::Relaxed) as u64
    }

    fn carried(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it listens")
}
