//! `etcp drain --move`: the clients of a server go over to another one, and lose nothing.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::operator::{control, operate, status};
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, PATIENCE, Steady};
use serde_json::Value;

/// The line of a client that has another tunnel.
const MOVED: &str = "new sessions go to another server; ";

/// Two nodes, and what is beside their clients.
struct TwoNodes {
    nodes: [LoopbackSproxy; 2],
    /// The port of the second one, which another one may have later.
    _port: HeldPort,
    echo: Echo,
    site: LoopbackSite,
}

impl TwoNodes {
    fn start() -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        let port = HeldPort::take();
        let second = format!("127.0.0.1:{}", port.number());
        let nodes = [("127.0.0.1:0", "node-1.test"), (&second, "node-2.test")].map(|(at, name)| {
            LoopbackSproxy::with(&site, echo.address, &["--listen", at, "--node", name], None)
        });
        Self { nodes, _port: port, echo, site }
    }

    /// Starts a client of both, whose tunnel is at the first.
    fn client(&self, args: &[&str]) -> Cproxy {
        let other = self.nodes[1].address.to_string();
        let args = [&["--server", &other], args].concat();
        let (site, server) = (&self.site, self.nodes[0].address);
        Cproxy::with(site, server, "cproxy", &site.client, &args).attached()
    }

    fn control(&self, node: usize) -> String {
        control(&self.site, "sproxy", &self.nodes[node].program)
    }

    /// Asks the clients of a node to move.
    fn leave(&self, node: usize) {
        let said = operate(&self.site, &["drain", "--move", "--control", &self.control(node)]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("asks those that it has to move; "), "{said:?}");
    }

    fn status(&self, cproxy: &Cproxy) -> Value {
        status(&self.site, "cproxy", &cproxy.program)
    }
}

/// Waits until a server listens for a client for the `count`th time, and returns where.
#[track_caller]
fn remote(program: &mut RunningProgram, count: usize) -> SocketAddr {
    let line = program.wait_for_count("the server listens on ", count);
    let text = line.split("listens on ").nth(1).and_then(|it| it.split(' ').next());
    text.and_then(|text| text.parse().ok()).expect("an address")
}

/// Connections that are made one after the other, each used once, until this ends.
struct Newcomers {
    made: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Newcomers {
    fn start(listen: SocketAddr) -> Self {
        let (made, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, is_over) = (Arc::clone(&made), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(listen)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(b"ping")?;
                stream.read_exact(&mut [0; 4])?;
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(3));
            }
            Ok(())
        });
        Self { made, stop, thread }
    }

    /// Waits until some more were made.
    #[track_caller]
    fn go_on(&self) {
        let wanted = self.made.load(Ordering::Relaxed) + 5;
        wait("more connections", || {
            assert!(!self.thread.is_finished(), "one failed");
            self.made.load(Ordering::Relaxed) >= wanted
        });
    }

    /// Ends; all were served.
    #[track_caller]
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it panics at nothing").expect("each is served");
    }
}

/// A running `etcp drain --move --wait`.
struct WaitingDrain {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl WaitingDrain {
    fn start(nodes: &TwoNodes, node: usize) -> Self {
        let control = nodes.control(node);
        let args = ["drain", "--move", "--wait", "--control", &control];
        let mut command = etcp(nodes.site.path(), args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("setpriv and setsid run");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// Waits until it prints this line.
    #[track_caller]
    fn wait_for(&mut self, wanted: &str) {
        let mut said = self.lines.by_ref().map(|line| line.expect("it says text"));
        assert!(said.any(|line| line == wanted), "it ends without {wanted:?}");
    }

    /// Waits until it has ended.
    #[track_caller]
    fn finish(mut self) {
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}");
    }
}

#[test]
fn no_connection_is_refused_while_a_client_moves_and_its_sessions_end_where_they_are() {
    let mut nodes = TwoNodes::start();
    let forward = format!("0:{}", nodes.echo.address);
    let mut cproxy = nodes.client(&["-R", &forward]);
    let steady = Steady::start(cproxy.listen);
    let before = remote(&mut cproxy.program, 1);
    let through = Steady::start(before);
    let newcomers = Newcomers::start(cproxy.listen);
    newcomers.go_on();
    nodes.leave(0);
    let after = remote(&mut cproxy.program, 2);
    let newcomers_there = Newcomers::start(after);
    let line = cproxy.program.wait_for(MOVED);
    assert!(line.contains("continue here"), "{line}");
    newcomers.go_on();
    newcomers_there.go_on();
    wait("the listener to be given up", || TcpStream::connect(before).is_err());
    let shown = operate(&nodes.site, &["status"]);
    assert!(shown.out.contains(", leaving node node-1.test: attached for "), "{shown:?}");
    assert!(shown.out.contains(", node node-2.test: attached for "), "{shown:?}");
    let status = nodes.status(&cproxy);
    assert_eq!(status["tunnels"][1]["server"]["leaving"], true, "{status}");
    // The connection that found the listener gone may have ended a moment ago.
    wait("the two that go on to be alone", || {
        let left = nodes.status(&cproxy)["tunnels"][1]["sessions"].as_array().map(Vec::len);
        left == Some(2)
    });

    let mut command = WaitingDrain::start(&nodes, 0);
    command.wait_for("1 tunnel is left, 1 of them with 2 sessions");
    steady.goes_on();
    through.goes_on();
    assert!(nodes.nodes[0].program.is_running());
    steady.finish();
    through.goes_on();
    through.finish();
    command.finish();
    let first = &mut nodes.nodes[0].program;
    assert_eq!(first.end().0, Some(0), "{}", first.log());
    cproxy.program.wait_for("the tunnel was left, and ends with its last session");
    newcomers.go_on();
    newcomers.finish();
    newcomers_there.finish();
    for lost in ["session reset", "cannot be resumed"] {
        assert_eq!(cproxy.program.count(lost), 0, "{}", cproxy.program.log());
    }
}

#[test]
fn both_tunnels_of_a_client_that_moves_outlive_its_worker_and_that_of_the_node() {
    let mut nodes = TwoNodes::start();
    let forward = format!("0:{}", nodes.echo.address);
    let mut cproxy = nodes.client(&["-R", &forward]);
    let steady = Steady::start(cproxy.listen);
    let newcomers = Newcomers::start(cproxy.listen);
    nodes.leave(0);
    let there = remote(&mut cproxy.program, 2);
    let through = Steady::start(there);
    cproxy.program.wait_for(MOVED);
    let at_second = Steady::start(cproxy.listen);
    newcomers.finish();
    for _ in 0..3 {
        cproxy.program.kill_worker();
        [&steady, &through, &at_second].into_iter().for_each(Steady::goes_on);
    }
    let status = nodes.status(&cproxy);
    assert_eq!(status["tunnels"][0]["server"]["node"], "node-2.test", "{status}");
    assert_eq!(status["tunnels"][1]["server"]["node"], "node-1.test", "{status}");
    // The node continues to leave, too: it takes the sessions that it has, and no new client.
    nodes.nodes[0].program.kill_worker();
    steady.goes_on();
    nodes.nodes[0].program.wait_for_count("those that are here are asked to move", 2);
    let said = operate(
        &nodes.site,
        &["upgrade", "--control", &control(&nodes.site, "cproxy", &cproxy.program)],
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    [&steady, &through, &at_second].into_iter().for_each(Steady::goes_on);
    Steady::start(cproxy.listen).finish();
    steady.finish();
    let first = &mut nodes.nodes[0].program;
    assert_eq!(first.end().0, Some(0), "{}", first.log());
    [&through, &at_second].into_iter().for_each(Steady::goes_on);
    through.finish();
    at_second.finish();
    assert_eq!(cproxy.program.count("cannot be resumed"), 0, "{}", cproxy.program.log());
}

#[test]
fn a_worker_that_dies_while_its_client_finds_no_other_server_tries_again() {
    let mut nodes = TwoNodes::start();
    let mut cproxy = nodes.client(&[]);
    let steady = Steady::start(cproxy.listen);
    nodes.leave(1);
    let second = &mut nodes.nodes[1].program;
    assert_eq!(second.end().0, Some(0), "nobody is there: {}", second.log());
    nodes.leave(0);
    cproxy.program.wait_for("asks its clients to move");
    cproxy.program.wait_for("no other server takes the client yet");
    Steady::start(cproxy.listen).finish();
    cproxy.program.kill_worker();
    steady.goes_on();
    Steady::start(cproxy.listen).finish();
    // There is another one now, at the same address.
    let address = nodes.nodes[1].address.to_string();
    let args = ["--listen", &address, "--node", "node-3.test"];
    nodes.nodes[1] = LoopbackSproxy::with(&nodes.site, nodes.echo.address, &args, None);
    cproxy.program.wait_for(MOVED);
    Steady::start(cproxy.listen).finish();
    steady.goes_on();
    steady.finish();
    let first = &mut nodes.nodes[0].program;
    assert_eq!(first.end().0, Some(0), "{}", first.log());
    let told = cproxy.program.count("no other server takes the client yet");
    assert!(told <= 2, "once for each process: {}", cproxy.program.log());
}

#[test]
fn a_client_moves_to_a_node_with_another_key_of_the_same_name() {
    let site = LoopbackSite::new();
    let other = site.key("other-server");
    site.know(&format!("127.0.0.1 {}\n127.0.0.1 {}", site.server_line(), other.line));
    let target = Echo::start().address;
    let node = |name: &str, key: &std::path::Path| {
        let file = site.path().join(format!("{name}.toml"));
        let text = format!(
            "listen = '127.0.0.1:0'\ntarget = '{target}'\nnode = '{name}'\nidentity = '{}'\nauthorized-keys = '{}'\n",
            key.display(),
            site.authorized_keys().display()
        );
        std::fs::write(&file, text).expect("the folder is ours");
        LoopbackSproxy::of_file(&site, file.to_str().expect("test paths are text"))
    };
    let (mut one, two) =
        (node("node-1.test", &site.server_key()), node("node-2.test", &other.path));
    let address = two.address.to_string();
    let args = ["--server", &address];
    let mut cproxy = Cproxy::with(&site, one.address, "cproxy", &site.client, &args).attached();
    let steady = Steady::start(cproxy.listen);
    let server = control(&site, "sproxy", &one.program);
    assert_eq!(operate(&site, &["drain", "--move", "--control", &server]).code, Some(0));
    cproxy.program.wait_for(MOVED);
    Steady::start(cproxy.listen).finish();
    steady.goes_on();
    steady.finish();
    assert_eq!(one.program.end().0, Some(0), "{}", one.program.log());
    let keys = status(&site, "cproxy", &cproxy.program);
    let key = keys["tunnels"][0]["server"]["key"].as_str();
    assert_eq!(key, Some(other.identity.public_key().fingerprint().as_str()), "{keys}");
    Steady::start(cproxy.listen).finish();
}

#[test]
fn only_a_server_that_is_not_drained_otherwise_can_ask_its_clients_to_move() {
    let nodes = TwoNodes::start();
    let cproxy = nodes.client(&[]);
    let client = control(&nodes.site, "cproxy", &cproxy.program);
    let said = operate(&nodes.site, &["drain", "--move", "--control", &client]);
    assert!(said.code == Some(1) && said.err.contains("drain the sproxy"), "{said:?}");
    let steady = Steady::start(cproxy.listen);
    assert_eq!(operate(&nodes.site, &["drain", "--control", &nodes.control(0)]).code, Some(0));
    let said = operate(&nodes.site, &["drain", "--move", "--control", &nodes.control(0)]);
    assert!(said.code == Some(1) && said.err.contains("is being drained already"), "{said:?}");
    steady.finish();
}
