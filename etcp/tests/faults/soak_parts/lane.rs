//! The ways in which a soak's sessions reach their target.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcp_testkit::netns::Namespace;
use etcp_testkit::workload::{WorkloadEnding, WorkloadPlan};
use etcp_testkit::{Launch, TestFolder};

/// Time without progress of a session: on a busy machine with frequent faults, a tunnel may be
/// attached only for moments, and has many sessions to serve in them.
pub(crate) const STEADFAST: Duration = Duration::from_secs(240);

/// Time for a whole session, including all faults that strike meanwhile.
const SESSION: Duration = Duration::from_secs(600);

/// One direction of a session.
#[derive(Clone, Debug)]
pub(crate) enum SoakLane {
    /// A connection to a listener of cproxy or sproxy with a fixed target.
    Listener(SocketAddr),
    /// A connection to a SOCKS listener, and the target to request.
    Socks(SocketAddr, SocketAddr),
    /// A program for each session: a command line, and its target.
    Connect(Vec<String>, SocketAddr),
}

impl SoakLane {
    /// Runs one session by this lane, and panics if anything about it is wrong.
    pub(crate) fn run(&self, plan: WorkloadPlan, namespace: &Namespace, folder: &TestFolder) {
        match self {
            Self::Listener(listener) => {
                plan.run_application_on(connect(namespace, *listener), STEADFAST);
            }
            Self::Socks(listener, target) => {
                let stream = connect(namespace, *listener);
                ask(&stream, *target);
                plan.run_application_on(stream, STEADFAST);
            }
            Self::Connect(command, target) => {
                run_connect(command, *target, plan, namespace, folder)
            }
        }
    }

    /// Returns the plan in a form that can be run here.
    pub(crate) fn adapt(&self, plan: WorkloadPlan) -> WorkloadPlan {
        match self {
            Self::Connect(..) => plan.without_reset_by_application(),
            _ => plan,
        }
    }
}

fn connect(namespace: &Namespace, listener: SocketAddr) -> TcpStream {
    namespace.run(|| TcpStream::connect(listener)).expect("the proxy accepts")
}

/// Asks for a target (RFC 1928).
fn ask(mut stream: &TcpStream, target: SocketAddr) {
    stream.set_read_timeout(Some(STEADFAST)).expect("a time-out is set");
    let SocketAddr::V4(target) = target else { panic!("targets have IPv4 addresses") };
    stream.write_all(&[5, 1, 0]).expect("a greeting is taken");
    let mut method = [0; 2];
    stream.read_exact(&mut method).expect("a method is chosen");
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0, 1];
    request.extend(Ipv4Addr::octets(target.ip()));
    request.extend(target.port().to_be_bytes());
    stream.write_all(&request).expect("a request is taken");
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).expect("the request is answered");
    assert_eq!(answer[..2], [5, 0], "the target is connected");
}

/// Runs a session whose application is a program with pipes.
fn run_connect(
    command: &[String],
    target: SocketAddr,
    plan: WorkloadPlan,
    namespace: &Namespace,
    folder: &TestFolder,
) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("connect-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let launch = Launch::new(&name, &command[0])
        .args(&command[1..])
        .arg(target.to_string())
        .env("HOME", folder.path());
    let mut process = launch.start_with(namespace, folder, Stdio::piped(), Some(Stdio::piped()));
    let (input, output) = process.pipes();
    let is_whole = plan.run_pipes(input, output);
    let code = process.wait(SESSION).code();
    match plan.ending() {
        WorkloadEnding::InOrder => {
            assert_eq!((code, is_whole), (Some(0), true), "{}", process.log())
        }
        _ => assert_ne!(code, Some(0), "a reset must show in the exit code: {}", process.log()),
    }
    process.remove_log();
}
