//! Carriers through HTTP and SOCKS proxies, and through the paths that ssh's configuration names.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcp_testkit::loopback::forward_proxy::{ForwardProxy, Manner};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{
    ATTACHED, Cproxy, Echo, LoopbackSite, LoopbackSproxy, RunningProgram, Steady, etcp,
};

/// The encoding of "me:open sesame" in a header.
const LOGIN: &str = "Basic bWU6b3BlbiBzZXNhbWU=";

fn served() -> (LoopbackSite, LoopbackSproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    (site, sproxy)
}

/// Returns a cproxy that reads this configuration of ssh; it is not started.
fn client(site: &LoopbackSite, sproxy: &LoopbackSproxy, config: &str, args: &[&str]) -> Command {
    let path = site.path().join("ssh_config");
    std::fs::write(&path, format!("{config}\nHost *\n IdentitiesOnly yes\n")).expect("ours");
    let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0", "--server"]);
    command.arg(sproxy.address.to_string()).arg("--known-hosts").arg(site.known_hosts());
    command.arg("-i").arg(&site.client.path).arg("-F").arg(path).args(args);
    // Several clients of one test may run at once.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    command.args(["--name", &format!("client {number}")]);
    command
}

#[test]
fn carriers_go_through_every_kind_of_proxy_and_again_when_they_are_cut() {
    let (site, sproxy) = served();
    for (number, (scheme, manner)) in [
        ("http://", Manner::Http(None)),
        ("http://me:open%20sesame@", Manner::Http(Some(LOGIN))),
        ("socks5h://", Manner::Socks5),
        ("socks5://", Manner::Socks5),
    ]
    .into_iter()
    .enumerate()
    {
        let proxy = ForwardProxy::start(manner);
        let url = format!("{scheme}{}", proxy.address);
        let args = ["--proxy", &url, "--carriers", "2"];
        let name = format!("client{number}");
        let cproxy = Cproxy::with(&site, sproxy.address, &name, &site.client, &args).attached();
        let session = Steady::start(cproxy.listen);
        let before = proxy.asked().len();
        proxy.cut();
        wait("another carrier", || cproxy.attached_again() > 0);
        session.goes_on();
        session.finish();
        let asked = proxy.asked();
        assert!(asked.len() > before, "{asked:?}");
        assert!(asked.iter().all(|target| *target == sproxy.address.to_string()), "{asked:?}");
    }
}

#[test]
fn a_flag_goes_before_the_environment_and_no_proxy_before_its_proxy() {
    let (site, sproxy) = served();
    let proxy = ForwardProxy::start(Manner::Http(None));
    let refusing = ForwardProxy::start(Manner::Answers(b"HTTP/1.1 403 Forbidden\r\n\r\n"));
    let url = |proxy: &ForwardProxy| format!("http://{}", proxy.address);
    let start = |name: &str, variables: &[(&str, &str)], args: &[&str]| {
        let mut command = client(&site, &sproxy, "", args);
        command.envs(variables.iter().copied());
        RunningProgram::start(name, site.path(), command)
    };
    let (good, bad) = (url(&proxy), url(&refusing));
    // A client whose carrier takes its time may ask for another one meanwhile.
    let mut asked = 0;
    for variable in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "ETCP_PROXY"] {
        start(variable, &[(variable, &good)], &[]).wait_for(ATTACHED);
        assert!(proxy.asked().len() > asked, "{variable}");
        asked = proxy.asked().len();
    }
    start("refused", &[("https_proxy", &bad)], &[]).wait_for("does not permit connections to");
    start("flag", &[("https_proxy", &bad)], &["--proxy", &good]).wait_for(ATTACHED);
    assert!(proxy.asked().len() > asked);
    // These servers know only a proxy that would let none of them attach.
    start("none", &[("https_proxy", &bad)], &["--proxy", "none"]).wait_for(ATTACHED);
    for (number, list) in ["127.0.0.0/8", "x.test, 127.0.0.1", "*"].iter().enumerate() {
        let variables = [("HTTPS_PROXY", bad.as_str()), ("no_proxy", list)];
        start(&format!("no_proxy{number}"), &variables, &[]).wait_for(ATTACHED);
    }
    let mut passed_over = start("https", &[("https_proxy", "https://a.test:1")], &[]);
    passed_over.wait_for("$https_proxy is ignored");
    passed_over.wait_for(ATTACHED);
}

#[test]
fn a_proxy_that_makes_no_connection_is_named_with_what_to_do() {
    let (site, sproxy) = served();
    for (number, (scheme, answer, expected)) in [
        (
            "http",
            &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
            "wants a login: write",
        ),
        ("http", b"HTTP/1.1 403 Forbidden\r\n\r\n", "does not permit connections to"),
        ("http", b"HTTP/1.1 502 \xe2\x80\xaeBad\r\n\r\n", "cannot reach"),
        ("http", b"\x05\xff", "write socks5h://"),
        ("http", b"", "without an answer"),
        ("socks5h", b"\x05\xff", "wants a login: write"),
        ("socks5h", b"\x05\0\x05\x05\0\x01\0\0\0\0\0\0", "is sproxy running there?"),
        ("socks5h", b"HTTP/1.1 400 Bad Request\r\n\r\n", "write http://"),
        ("socks4a", b"\0\x5b\0\0\0\0\0\0", "SOCKS4 code 91"),
    ]
    .into_iter()
    .enumerate()
    {
        let proxy = ForwardProxy::start(Manner::Answers(answer));
        let url = format!("{scheme}://{}", proxy.address);
        let command = client(&site, &sproxy, "", &["--proxy", &url]);
        let mut program = RunningProgram::start(&format!("refused{number}"), site.path(), command);
        let line = program.wait_for(expected);
        assert!(line.contains(&format!("the proxy {url}")), "{line}");
        assert!(!line.contains('\u{202e}'), "{line}");
    }
    for url in ["https://a:1", "ftp://me:sesame@a:1", "http://me:sesame@"] {
        let command = client(&site, &sproxy, "", &["--proxy", url]);
        let (code, line) = RunningProgram::start("wrong", site.path(), command).end();
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains("not a proxy") && !line.contains("sesame"), "{line}");
    }
}

#[test]
fn the_password_of_a_proxy_is_in_no_log_and_no_list_of_processes() {
    let (site, sproxy) = served();
    let proxy = ForwardProxy::start(Manner::Http(Some(LOGIN)));
    let url = format!("http://me:open%20sesame@{}", proxy.address);
    for (number, args) in [vec!["--proxy".into(), url.clone()], vec![format!("--proxy={url}")]]
        .into_iter()
        .enumerate()
    {
        let args: Vec<&str> = ["-vv"].into_iter().chain(args.iter().map(String::as_str)).collect();
        let command = client(&site, &sproxy, "", &args);
        let mut program = RunningProgram::start(&format!("secret{number}"), site.path(), command);
        program.wait_for(ATTACHED);
        let line = std::fs::read(format!("/proc/{}/cmdline", program.id())).expect("it runs");
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(line.contains("cproxy") && !line.contains("sesame"), "{line}");
        proxy.cut();
        program.wait_for("attached again");
        let log = program.log();
        assert!(!log.contains("sesame") && !log.contains("bWU6b3Blbi"), "{log}");
    }
}

/// Returns a command that connects to its two arguments, like `nc`.
fn wire(site: &LoopbackSite) -> PathBuf {
    let path = site.path().join("wire.sh");
    let text =
        "exec 3<>/dev/tcp/$1/$2; echo \"$1 $2\" >>\"$(dirname \"$0\")/wired\"; cat <&3 & cat >&3";
    std::fs::write(&path, text).expect("ours");
    path
}

#[test]
fn the_proxy_command_of_ssh_s_configuration_leads_to_the_server() {
    let (site, sproxy) = served();
    let config = format!("Host 127.0.0.1\n ProxyCommand bash {} %h %p\n", wire(&site).display());
    let start = |name: &str, config: &str, args: &[&str]| {
        RunningProgram::start(name, site.path(), client(&site, &sproxy, config, args))
    };
    let wired = || std::fs::read_to_string(site.path().join("wired")).unwrap_or_default();
    let mut program = start("wired", &config, &[]);
    program.wait_for("connecting to 127.0.0.1 by its ProxyCommand");
    program.wait_for(ATTACHED);
    // The port is that of sproxy, not of sshd. A carrier that takes its time is made again.
    let line = format!("127.0.0.1 {}", sproxy.address.port());
    assert!(wired().lines().count() > 0 && wired().lines().all(|it| it == line), "{}", wired());
    drop(program);
    let before = wired();
    start("none", &config, &["--proxy", "none"]).wait_for(ATTACHED);
    assert_eq!(wired(), before);
    let failing = "Host *\n ProxyCommand echo no way there >&2; exit 3\n";
    start("failing", failing, &[]).wait_for("ProxyCommand: no way there");
    for odd in ["ProxyCommand nc %Z", "ProxyCommand nc %h %p\n ProxyUseFdpass yes"] {
        let mut program = start("odd", &format!("Host *\n {odd}\n"), &[]);
        program.wait_for("in ssh's configuration is ignored");
        program.wait_for(ATTACHED);
    }
}

#[test]
fn a_proxy_command_that_runs_etcp_is_not_a_loop() {
    let (site, sproxy) = served();
    let this = env!("CARGO_BIN_EXE_etcp");
    // This is the configuration in the manual for ssh: etcp finds its own path.
    let ours = format!("Host *\n ProxyCommand {this} connect --server %h localhost:%p\n");
    let command = client(&site, &sproxy, &ours, &[]);
    RunningProgram::start("ours", site.path(), command).wait_for(ATTACHED);
    let script = site.path().join("script.sh");
    let config = site.path().join("ssh_config");
    let text = format!("exec {this} connect -F {} --server $1:$2", config.display());
    std::fs::write(&script, text).expect("ours");
    let hidden = format!("Host *\n ProxyCommand sh {} %h %p\n", script.display());
    let command = client(&site, &sproxy, &hidden, &[]);
    RunningProgram::start("hidden", site.path(), command).wait_for("leads back to etcp");
}

#[test]
fn a_proxy_that_wants_tls_is_an_error_of_the_flag_and_passed_over_where_it_was_not_meant_for_us() {
    let (site, sproxy) = served();
    let url = "https://me:sesame@proxy.test:443";
    let (code, line) =
        RunningProgram::start("flag", site.path(), client(&site, &sproxy, "", &["--proxy", url]))
            .end();
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("write http:// if it takes that too"), "{line}");
    let mut command = client(&site, &sproxy, "", &[]);
    command.env("HTTPS_PROXY", url);
    let mut program = RunningProgram::start("variable", site.path(), command);
    program.wait_for(ATTACHED);
    assert_eq!(program.count("$HTTPS_PROXY is ignored"), 1, "{}", program.log());
    assert!(!line.contains("sesame") && program.count("sesame") == 0, "{}", program.log());
}
