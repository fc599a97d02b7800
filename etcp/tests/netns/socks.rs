//! `etcp cproxy -D` with real programs: curl in every protocol that it knows, HTTP/2, and ssh,
//! while the client moves; only the server resolves names.

use std::path::Path;
use std::process::Command;

use etcp_testkit::folder::{length, sha256};
use etcp_testkit::nginx::start_nginx;
use etcp_testkit::sshd::{ssh_config, start_sshd};
use etcp_testkit::transfer::strike_on_the_way_of;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{
    Direction, IpFamily, Launch, NetworkFault, Process, ProxyPair, RunAs, Sproxy, TestFolder,
    TestWorld, skip,
};

const DYNAMIC: &str = "127.0.0.1:1080";

/// A name that only the server can resolve: it is its own loopback.
const NAME: &str = "web.test";

const MIB: u64 = 1024 * 1024;

/// A file that takes longer than all faults in sequence.
const LONG: u64 = 48 * MIB;

/// Starts both proxies, cproxy with `-D`.
fn start(world: &TestWorld, folder: &TestFolder) -> ProxyPair {
    let hosts = folder.readable_file("hosts", &format!("127.0.0.1 localhost {NAME}\n"));
    let sproxy = Sproxy::start_with(world, folder, IpFamily::V4, "127.0.0.1:9", |launch| {
        let launch = launch.file(&hosts, "/etc/hosts");
        launch.args(["--permit", &format!("{NAME}:*"), "--permit", "127.0.0.1:*"])
    });
    ProxyPair::start_with(world, folder, sproxy, |launch| launch.args(["-D", "1080"]))
}

/// Starts curl. Also returns its output file.
fn curl(world: &TestWorld, folder: &TestFolder, name: &str, args: &[&str]) -> Process {
    Launch::new(name, "curl")
        .args(["-sS", "--fail", "--no-buffer", "-o"])
        .arg(folder.join(name))
        .args(args)
        .start(&world.client, folder)
}

#[test]
fn curl_by_every_language_arrives_whole_while_the_client_moves() {
    if !skip::can_run("netns::socks", &["nginx", "curl", "sha256sum"]) {
        return;
    }
    // The link is slow enough for the faults to fall inside the copies.
    let (world, folder) = (TestWorld::over(&["delay=2ms", "rate=40mbit"]), TestFolder::new());
    let original = folder.random_file("original", LONG, RunAs::Nobody);
    let server = "127.0.0.1:8080";
    let _nginx = start_nginx(&world.server, &folder, &format!("listen {server};"), server);
    let _pair = start(&world, &folder);

    let by_address = format!("http://{server}/original");
    let by_name = format!("http://{NAME}:8080/original");
    let proxy = format!("http://{DYNAMIC}");
    let languages: [(&str, &[&str]); 5] = [
        ("socks4", &["--socks4", DYNAMIC, &by_address]),
        ("socks4a", &["--socks4a", DYNAMIC, &by_name]),
        ("socks5", &["--socks5", DYNAMIC, &by_address]),
        ("socks5-hostname", &["--socks5-hostname", DYNAMIC, &by_name]),
        ("connect", &["--proxytunnel", "-x", &proxy, &by_name]),
    ];
    let mut curls = languages.map(|(name, args)| (name, curl(&world, &folder, name, args)));
    strike_on_the_way_of(5 * LONG, &world, &NetworkFault::CYCLE, || {
        let is_running = curls.iter_mut().any(|(_, curl)| curl.is_running());
        (is_running, languages.iter().map(|(name, _)| length(&folder.join(name))).sum())
    });
    let digest = sha256(&original);
    for (name, curl) in &mut curls {
        assert!(curl.wait(2 * PATIENCE).success(), "{name} is content");
        assert_eq!(sha256(&folder.join(name)), digest, "every byte by {name} is right");
    }
}

#[test]
fn streams_of_http2_arrive_whole_while_the_client_moves() {
    if !skip::can_run("netns::socks", &["nginx", "curl", "openssl", "sha256sum"]) {
        return;
    }
    // The link is slow enough for the faults to fall inside the copies.
    let (world, folder) = (TestWorld::over(&["delay=2ms", "rate=16mbit"]), TestFolder::new());
    let original = folder.random_file("original", 24 * MIB, RunAs::Nobody);
    let certificate = certify(&folder);
    let server = "127.0.0.1:8443";
    let lines = format!(
        "listen {server} ssl http2; ssl_certificate {}; ssl_certificate_key {};",
        certificate.display(),
        folder.join("tls.key").display(),
    );
    let _nginx = start_nginx(&world.server, &folder, &lines, server);
    let _pair = start(&world, &folder);

    let url = format!("https://{NAME}:8443/original");
    let (first, second) = (folder.join("first"), folder.join("second"));
    // Two streams of one connection.
    let mut curl = Launch::new("curl", "curl")
        .args(["-sS", "--fail", "--no-buffer", "--http2", "-Z"])
        .args(["--socks5-hostname", DYNAMIC, "-w", "HTTP/%{http_version} by %{num_connects}\\n"])
        .arg("--cacert")
        .arg(certificate)
        .arg("-o")
        .arg(&first)
        .arg(&url)
        .arg("-o")
        .arg(&second)
        .arg(&url)
        .start(&world.client, &folder);
    let faults = [NetworkFault::BlackholeThenMove, NetworkFault::ResetAndMove, NetworkFault::Move];
    strike_on_the_way_of(2 * 24 * MIB, &world, &faults, || {
        (curl.is_running(), length(&first) + length(&second))
    });
    assert!(curl.wait(2 * PATIENCE).success(), "curl is content");
    assert_eq!(curl.count("HTTP/2 by"), 2, "{}", curl.log());
    assert_eq!(curl.count("HTTP/2 by 0"), 1, "one connection has both: {}", curl.log());
    for copy in [first, second] {
        assert_eq!(sha256(&copy), sha256(&original), "every byte is right");
    }
}

#[test]
fn scp_by_socat_arrives_whole_while_the_client_moves() {
    if !skip::can_run("netns::socks", &["sshd", "scp", "socat", "sha256sum"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let original = folder.random_file("original", 48 * MIB, RunAs::Nobody);
    let _sshd = start_sshd(&world.server, &folder);
    let _pair = start(&world, &folder);

    let ways = [
        ("socks4a", "socat - SOCKS4A:127.0.0.1:%h:%p,socksport=1080"),
        ("connect", "socat - PROXY:127.0.0.1:%h:%p,proxyport=1080"),
    ];
    let mut copies = ways.map(|(name, proxy_command)| {
        let config = ssh_config(&folder, &format!("{name}.config"), NAME, proxy_command);
        // 6 MB/s each.
        Launch::new(name, "scp")
            .args(["-q", "-l", "48000", "-F"])
            .arg(config)
            .arg(&original)
            .arg(format!("server:{}", folder.join(name).display()))
            .env("HOME", folder.path())
            .start(&world.client, &folder)
    });
    let faults = [NetworkFault::Move, NetworkFault::ResetAndMove, NetworkFault::Forget];
    strike_on_the_way_of(2 * 48 * MIB, &world, &faults, || {
        let is_running = copies.iter_mut().any(Process::is_running);
        (is_running, ways.iter().map(|(name, _)| length(&folder.join(name))).sum())
    });
    for ((name, _), scp) in ways.iter().zip(&mut copies) {
        assert!(scp.wait(2 * PATIENCE).success(), "scp by {name} is content");
        assert_eq!(sha256(&folder.join(name)), sha256(&original), "every byte is right");
    }
}

#[test]
fn a_request_that_is_made_in_an_outage_waits_and_is_answered_after_it() {
    if !skip::can_run("netns::socks", &["nginx", "curl"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    folder.readable_file("small", "arrived\n");
    let server = "127.0.0.1:8080";
    let _nginx = start_nginx(&world.server, &folder, &format!("listen {server};"), server);
    let mut pair = start(&world, &folder);

    world.router.blackhole(Direction::Both);
    pair.cproxy.wait_for("carrier lost", PATIENCE);
    let url = format!("http://{NAME}:8080/small");
    let ways: [(&str, &[&str], &str); 2] = [
        ("socks5", &["-v", "--socks5-hostname", DYNAMIC, &url], "SOCKS5 connect to"),
        ("connect", &["-v", "--proxytunnel", "-x", DYNAMIC, &url], "CONNECT web.test:8080"),
    ];
    let mut curls = ways.map(|(name, args, asked)| {
        let mut curl = curl(&world, &folder, name, args);
        curl.wait_for(asked, PATIENCE);
        curl
    });
    assert!(curls.iter_mut().all(Process::is_running), "they wait");
    assert_eq!(curls.iter().map(|curl| curl.count("granted")).sum::<usize>(), 0, "nothing is said");
    world.router.lift_blackhole();
    for ((name, ..), curl) in ways.iter().zip(&mut curls) {
        assert!(curl.wait(PATIENCE).success(), "curl by {name} is content: {}", curl.log());
        let got = std::fs::read_to_string(folder.join(name)).expect("a file has arrived");
        assert_eq!(got, "arrived\n");
    }
}

/// Makes a certificate of [`NAME`], signed by itself; its key is beside it.
fn certify(folder: &TestFolder) -> std::path::PathBuf {
    let run = |program: &str, args: &[&str], files: &[&Path]| {
        let mut command = Command::new(program);
        command.args(args);
        let output = command.args(files).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {text}");
    };
    let (key, certificate) = (folder.join("tls.key"), folder.join("tls.pem"));
    let subject = format!("/CN={NAME}");
    let name = format!("subjectAltName=DNS:{NAME}");
    let key_args = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let args =
        [&["req", "-x509", "-days", "2", "-subj", &subject, "-addext", &name], &key_args[..]];
    let out = [Path::new("-keyout"), &key, Path::new("-out"), &certificate];
    run("openssl", &args.concat(), &out);
    run("chown", &["65534:65534"], &[&key, &certificate]);
    certificate
}
