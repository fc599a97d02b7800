//! One cproxy with several servers.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use etcp_testkit::loopback::operator::operate;
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::several::table;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{LoopbackSite, SeveralServers, Steady};
use etcp_testkit::refused;

/// Returns the number of the only session of the tunnel to a server.
fn session(all: &SeveralServers, server: &str) -> u64 {
    let status = all.status();
    let tunnels = status["tunnels"].as_array().expect("a list");
    let is_it = |tunnel: &&serde_json::Value| tunnel["server"]["name"] == server;
    let tunnel = tunnels.iter().find(is_it).unwrap_or_else(|| panic!("{server}: {status}"));
    tunnel["sessions"][0]["session"].as_u64().unwrap_or_else(|| panic!("{server}: {status}"))
}

#[test]
fn each_server_has_its_own_tunnel_and_commands_name_it() {
    let events = tempfile::NamedTempFile::new().expect("a file");
    let hook = r#"on-event = 'echo "$ETCP_EVENT $ETCP_SERVER_NAME" >> FILE'"#;
    let hook = hook.replace("FILE", events.path().to_str().expect("test paths are text"));
    let all = SeveralServers::new(&format!("{hook}\n"));
    let mut one = Steady::start(all.listening("one", 1));
    let two = Steady::start(all.listening("two", 1));
    assert_eq!(all.one.program.count("tunnel made"), 1);
    assert_eq!(all.two.program.count("tunnel made"), 1);
    let shown = all.operate(&["status"]);
    assert!(shown.out.contains(&format!(" to two ({}): attached", all.two.address)), "{shown:?}");
    wait("the events of both", || {
        let told = fs::read_to_string(events.path()).unwrap_or_default();
        told.contains("attached one\n") && told.contains("attached two\n")
    });
    // A session has a number in each tunnel.
    let number = session(&all, "one").to_string();
    let said = all.operate(&["sessions", "kill", &number]);
    assert!(said.code == Some(1) && said.err.contains("name one with --server"), "{said:?}");
    assert!(said.err.contains(", server one)") && said.err.contains(", server two)"), "{said:?}");
    let said = all.operate(&["sessions", "kill", "--server", "three", &number]);
    assert!(said.code == Some(1) && said.err.contains("there is no server three"), "{said:?}");
    let said = all.operate(&["sessions", "kill", "--server", "one", &number]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(one.ended(), Some(ErrorKind::ConnectionReset));
    let said = all.operate(&["reconnect", "--server", "two"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    all.wait_for("two", "connecting again, as asked", 1);
    assert!(!all.lines("one").iter().any(|line| line.contains("as asked")), "{}", all.cproxy.log());
    two.goes_on();
    two.finish();
}

#[test]
fn a_server_that_is_down_or_refuses_delays_no_other_and_ends_alone() {
    let mut all = SeveralServers::new("");
    let stranger = all.site.key("stranger");
    let steady = Steady::start(all.listening("one", 1));
    // Nothing listens where `down` leads to, and `strange` is refused for good.
    let down = refused();
    let key = format!("identity = '{}'\n", stranger.path.display());
    let more = table("down", down, "") + &table("strange", all.two.address, &key);
    let said = all.reload(&(all.both() + &more));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("server.down: applied\n"), "{said:?}");
    assert!(said.out.contains("server.strange: applied\n"), "{said:?}");
    all.wait_for("strange", "has ended for good, and the others continue", 1);
    steady.goes_on();
    Steady::start(all.listening("two", 1)).finish();
    let closed = all.listening("strange", 1);
    wait("its listener to be closed", || TcpStream::connect(closed).is_err());
    let shown = all.operate(&["status"]);
    assert!(shown.out.contains("no tunnel to strange: ended for good"), "{shown:?}");
    assert!(shown.out.contains(&format!("to down ({down}): waiting for the server")), "{shown:?}");
    // With another key, a reload starts it again: it has no sessions to lose.
    let more = table("down", down, "") + &table("strange", all.two.address, "name = 'again'\n");
    let said = all.reload(&(all.both() + &more));
    assert!(said.out.contains("server.strange: applied\n"), "{said:?}");
    all.wait_until_attached("strange", 1);
    Steady::start(all.listening("strange", 2)).finish();
    assert!(all.status()["ended"].is_null(), "{}", all.status());
    steady.finish();
    all.cproxy.signal(rustix::process::Signal::TERM);
    assert_eq!(all.cproxy.end().0, Some(0), "{}", all.cproxy.log());
}

#[test]
fn a_cproxy_whose_servers_all_refuse_it_ends_as_with_one() {
    let all = SeveralServers::new("");
    let key = all.site.key("stranger");
    let file = all.site.path().join("refused.toml");
    let head = format!(
        "identity = '{}'\nknown-hosts = '{}'\nno-ssh-config = true\n",
        key.path.display(),
        all.site.known_hosts().display()
    );
    fs::write(&file, head + &all.both()).expect("the folder is ours");
    let command = etcp(all.site.path(), ["cproxy", "--config", file.to_str().expect("text")]);
    let mut program = RunningProgram::start("refused", all.site.path(), command);
    let (code, last) = program.end();
    assert_eq!(code, Some(3), "{last}");
    assert!(last.contains("does not know the key"), "{last}");
    assert_eq!(program.count("has ended for good, and the others continue"), 1);
}

/// The number of sessions of the test of reloads under load.
const MANY: usize = 500;

#[test]
fn five_hundred_sessions_of_one_server_outlive_reloads_that_change_the_others() {
    let all = SeveralServers::new("");
    let (one, two) = (all.listening("one", 1), all.listening("two", 1));
    let mut crowd: Vec<_> = (0..MANY).map(|_| dial(one)).collect();
    let echo = |crowd: &mut Vec<TcpStream>, after: &str| {
        for stream in crowd.iter_mut() {
            stream.write_all(b"x").expect(after);
        }
        for stream in crowd.iter_mut() {
            stream.read_exact(&mut [0]).expect(after);
        }
    };
    echo(&mut crowd, "at the start");
    let mut of_two = Steady::start(two);
    // Another forward of `two`: its sessions continue.
    let wide = "local-forward = '127.0.0.1:0:127.0.0.1:9'\n";
    let tables = table("one", all.one.address, "") + &table("two", all.two.address, wide);
    let said = all.reload(&tables);
    assert!(said.out.ends_with("\n  server.two.local-forward: applied\n"), "{said:?}");
    echo(&mut crowd, "after a change of a forward");
    of_two.goes_on();
    // Another address takes an upgrade, and is not applied by halves.
    let moved = table("one", all.one.address, "") + &table("two", all.one.address, wide);
    let said = all.reload(&moved);
    assert!(said.out.contains("  server.two.server: not applied: run etcp upgrade"), "{said:?}");
    of_two.goes_on();
    // A removed server ends, and an added one starts.
    let three = table("one", all.one.address, "") + &table("three", all.two.address, "");
    let said = all.reload(&three);
    assert!(said.out.contains("  server.three: applied\n  server.two: applied\n"), "{said:?}");
    assert_eq!(of_two.ended(), Some(ErrorKind::ConnectionReset));
    all.wait_for("two", "the server was removed: its tunnel is closed, with 1 session", 1);
    all.wait_until_attached("three", 1);
    Steady::start(all.listening("three", 1)).finish();
    echo(&mut crowd, "after all reloads");
    // An address that is not available changes nothing at any server.
    let elsewhere =
        |name: &str, server, at: &str| table(name, server, "").replace("127.0.0.1:0", at);
    let bad = elsewhere("one", all.one.address, "127.0.0.2:0")
        + &elsewhere("four", all.two.address, "192.0.2.1:1");
    let said = all.reload(&bad);
    assert!(said.code == Some(1) && said.err.contains("server four: "), "{said:?}");
    Steady::start(all.listening("three", 1)).finish();
    echo(&mut crowd, "after a reload that was refused");
    drop(Steady::start(one));
    let lost = all.lines("one").iter().filter(|line| line.contains("carrier lost")).count();
    assert_eq!(lost, 0, "{}", all.cproxy.log());
}

#[test]
fn faults_of_servers_name_the_file_the_line_the_column_and_the_table() {
    let site = LoopbackSite::new();
    let file = site.path().join("c.toml");
    let check = |text: &str| {
        fs::write(&file, text).expect("the folder is ours");
        operate(&site, &["check", file.to_str().expect("text")])
    };
    for (text, fault) in [
        (
            "[server.a]\ndynamic-forward = 1080\n",
            "c.toml:2:1: server a has no address: write server = ",
        ),
        (
            "[server.a]\nserver = 'h'\ndead_after = '5s'\n",
            "c.toml:3:1: server a: there is no key dead_after: did you mean dead-after?",
        ),
        (
            "[server.a]\nserver = 'h'\nwait = 'soon'\n",
            "c.toml:3:8: server a: invalid value \"soon\" for wait",
        ),
        (
            "[server.a]\nserver = 'h'\nverbose = 1\n",
            "c.toml:3:1: server a: verbose applies to the whole program: write it above all tables",
        ),
        ("[server.'a b']\nserver = 'h'\n", "c.toml:1:9: \"a b\" is no name for a server"),
        ("[server.a]\n", "c.toml:1:9: server a is empty"),
        ("[server]\na = 'h'\n", "c.toml:2:1: write a table for each server: [server.NAME]"),
        (
            "[server.a]\nserver = 'h'\ndynamic-forward = 1080\n[server.b]\nserver = 'h'\ndynamic-forward = 1080\n",
            "c.toml:6:1: server b: --dynamic-forward localhost:1080: server a listens there already",
        ),
        (
            "[server.a]\nserver = 'h'\nheartbeat = '4s'\n",
            "server a: --dead-after 3s leaves no time",
        ),
    ] {
        let said = check(text);
        assert!(said.code == Some(1) && said.err.contains(fault), "{text}: {said:?}");
    }
    let said = check(
        "wait = '5s'\n[server.a]\nserver = 'h'\ndynamic-forward = 1080\n[server.b]\nserver = 'i'\n",
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in ["  server a:\n    connects to h:6200\n", "  server b:\n    connects to i:6200\n"] {
        assert!(said.out.contains(line), "{said:?}");
    }
    let args = ["cproxy", "--config", file.to_str().expect("text"), "--server", "j"];
    let said = operate(&site, &args);
    let fault = "write server into one of them, instead of --server on the command line";
    assert!(said.code == Some(2) && said.err.contains(fault), "{said:?}");
}
