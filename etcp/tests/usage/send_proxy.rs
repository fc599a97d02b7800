//! `--send-proxy`: nginx sees who connects, through forwards of either kind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::{connect_from, patient};
use etcp_testkit::loopback::{Cproxy, LoopbackSite, LoopbackSproxy, connect};
use etcp_testkit::wait::end_of;
use etcp_testkit::{HeldPort, skip};

/// A server that answers with the origin that it was told.
struct Nginx {
    _program: RunningProgram,
    _port: HeldPort,
    address: SocketAddr,
}

impl Nginx {
    /// Returns `None`, and prints a message, if the program is not installed.
    fn start(site: &LoopbackSite, test: &str) -> Option<Self> {
        if !skip::can_run(test, &["nginx"]) {
            return None;
        }
        let port = HeldPort::take();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let folder = site.path().display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
            .collect();
        let config = format!(
            "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
{paths}  access_log off;
  server {{
    listen {address} proxy_protocol;
    return 200 '[$proxy_protocol_addr]:$proxy_protocol_port to $proxy_protocol_server_port';
  }}
}}
"
        );
        let path = site.path().join("nginx.conf");
        std::fs::write(&path, config).expect("the folder is ours");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(skip::find("nginx").expect("was asked for"));
        command.args(["-e", "stderr", "-c"]).arg(path);
        let mut program = RunningProgram::start("nginx", site.path(), command);
        wait("nginx to accept", || {
            assert!(program.is_running(), "nginx ended");
            TcpStream::connect(address).is_ok()
        });
        Some(Self { _program: program, _port: port, address })
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// Returns the fields of a connection that nginx reports.
fn ask(stream: TcpStream) -> String {
    let mut stream = patient(stream);
    stream.write_all(REQUEST).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    body(&answer)
}

fn body(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

/// Asks from an address of its own, and compares with the address that nginx was given.
#[track_caller]
fn check(source: &str, listen: SocketAddr) {
    let stream = connect_from(source.parse().expect("an address"), listen).expect("it listens");
    let port = stream.local_addr().expect("it is connected").port();
    assert_eq!(ask(stream), format!("[{source}]:{port} to {}", listen.port()));
}

fn sproxy(site: &LoopbackSite, target: SocketAddr) -> LoopbackSproxy {
    let args = ["--listen", "127.0.0.1:0", "--permit", "*:*", "--send-proxy"];
    LoopbackSproxy::with(site, target, &args, None)
}

#[test]
fn nginx_at_the_server_sees_who_connected_to_cproxy() {
    let site = LoopbackSite::new();
    let Some(nginx) = Nginx::start(&site, "usage::send_proxy (-L)") else { return };
    let sproxy = sproxy(&site, nginx.address);
    let forwards = ["127.0.0.1", "[::1]"].map(|bind| format!("{bind}:0:{}", nginx.address));
    let args = ["-L", &forwards[0], "-L", &forwards[1]];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    check("127.0.0.7", cproxy.listen);
    for (number, source) in ["127.0.0.8", "::1"].into_iter().enumerate() {
        let line = cproxy.program.wait_for_count("listening on", 2 + number);
        let listen = line.rsplit_once(' ').expect("an address").1.parse().expect("an address");
        check(source, listen);
    }
}

#[test]
fn a_connection_of_unknown_origin_is_declared_as_the_proxys_own() {
    let site = LoopbackSite::new();
    let Some(nginx) = Nginx::start(&site, "usage::send_proxy (connect)") else {
        return;
    };
    let sproxy = sproxy(&site, nginx.address);
    let mut child = connect(&site, sproxy.address, &site.client, &[]).spawn().expect("etcp runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(REQUEST).expect("it reads");
    drop(stdin);
    let output = end_of(child);
    assert_eq!(body(&String::from_utf8_lossy(&output.stdout)), "[]: to ");
}

#[test]
fn nginx_beside_the_client_sees_who_connected_to_the_server() {
    let site = LoopbackSite::new();
    let Some(nginx) = Nginx::start(&site, "usage::send_proxy (-R)") else { return };
    let sproxy = LoopbackSproxy::start(&site, nginx.address);
    let forward = format!("0:{}", nginx.address);
    let args = ["-R", &forward, "--send-proxy"];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let line = cproxy.program.wait_for("the server listens on ");
    let text = line.split("listens on ").nth(1).and_then(|rest| rest.split(' ').next());
    check("127.0.0.9", text.expect("an address").parse().expect("an address"));
}

#[test]
fn a_target_gets_no_header_unless_it_is_requested() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = target.local_addr().expect("it listens");
    let sproxy = LoopbackSproxy::start(&site, address);
    let forward = format!("0:{address}");
    let args = ["-R", &forward];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let line = cproxy.program.wait_for("the server listens on ");
    let text = line.split("listens on ").nth(1).and_then(|rest| rest.split(' ').next());
    for listen in [cproxy.listen, text.expect("an address").parse().expect("an address")] {
        let mut stream = TcpStream::connect(listen).expect("it listens");
        stream.write_all(b"first").expect("it is taken");
        let mut bytes = [0; 5];
        patient(target.accept().expect("a connection").0).read_exact(&mut bytes).expect("it comes");
        assert_eq!(&bytes, b"first");
    }
}
