//! Other programs in place of sproxy.

use std::net::TcpListener;

use etcp_testkit::nginx::start_nginx;
use etcp_testkit::ssh_site::{PROGRAMS, SshSite};
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{Launch, TestFolder, skip};

use super::clinic::Clinic;

#[test]
fn an_ssh_server_on_the_port_is_recognized() {
    if !skip::can_run("doctor::answers", &PROGRAMS) {
        return;
    }
    let site = SshSite::without_etcp(CARRIER_PORT);
    let doctor = Launch::new("doctor", site.program())
        .args(["doctor", "--no-ssh-config", &site.world.server_v4().to_string(), "-i"])
        .arg(site.folder.join("ssh-user-key"))
        .env("HOME", site.folder.path());
    let ran = site.finish("doctor", doctor);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let words =
        ["an ssh server answers (SSH-2.0-OpenSSH", "use etcp ssh", "10.71.9.10:6200 accepts"];
    for word in words {
        assert!(ran.output.contains(word), "no {word:?} in {}", ran.output);
    }
}

#[test]
fn a_web_server_and_the_login_page_of_a_network_are_recognized() {
    if !skip::can_run("doctor::answers", &["nginx"]) {
        return;
    }
    let clinic = Clinic::empty();
    let web = "listen 0.0.0.0:6200; location / { return 200 hello; }";
    let nginx = start_nginx(&clinic.world.server, &clinic.folder, web, "127.0.0.1:6200");
    let diagnosis = clinic.examine(&[]);
    diagnosis.fails("answer", &["a web server or the login page", "check host and port"]);
    assert!(!diagnosis.report.contains("portal"), "{diagnosis:#?}");
    drop(nginx);

    // The router sends all web traffic and all unknown ports to its own page.
    let page = "listen 0.0.0.0:8080; location / { return 302 http://login.hotel.test/welcome; }";
    let router = &clinic.world.router;
    let folder = TestFolder::new();
    let _portal = start_nginx(&router.namespace, &folder, page, "127.0.0.1:8080");
    router.redirect_carriers(8080);
    let rule = "tcp dport 80 redirect to :8080";
    router.namespace.nft(&format!("add rule inet world redirected iifname {{ c1, c2 }} {rule}"));
    let diagnosis = clinic.examine(&[]);
    diagnosis.fails("answer", &["it redirects to http://login.hotel.test/welcome", "log in to"]);
    diagnosis.says("note", "portal", &["port 80 redirects to http://login.hotel.test/", "log in"]);
}

#[test]
fn a_service_that_closes_or_is_silent_or_speaks_first_is_told() {
    if !skip::can_run("doctor::answers", &[]) {
        return;
    }
    let clinic = Clinic::empty();
    let address = format!("0.0.0.0:{CARRIER_PORT}");
    let listener = clinic.world.server.run(|| TcpListener::bind(&address).expect("it is free"));
    let speaking = listener.try_clone().expect("a descriptor");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in speaking.incoming().flatten() {
            // The first doctor's connections are closed at once.
            match stopped.try_recv() {
                Err(std::sync::mpsc::TryRecvError::Empty) => drop(stream),
                _ if kept.len() < 64 => {
                    use std::io::Write;
                    let _ = (&stream).write_all(b"220 mail.test ESMTP\r\n");
                    kept.push(stream);
                }
                _ => return,
            }
        }
    });
    clinic.examine(&[]).fails("answer", &["accepts the connection and closes it", "ten minutes"]);
    drop(stop);
    clinic.examine(&[]).fails("answer", &["another service answers: 220 mail.test ESMTP"]);
    // The thread ends with the process: it waits for connections.
    drop(server);
}
