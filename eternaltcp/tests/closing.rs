//! A client that is closed tells the server, and both are done with the tunnel.

mod support;

use std::io::ErrorKind;

use std::process::{Command, Stdio};
use std::time::Duration;

use eternaltcp::address;
use eternaltcp::client::{Client, ClientConfig, ClientEnd};
use eternaltcp::policy::{AuthorizedKeys, known_hosts_line};
use eternaltcp::server::{KeySource, Server, ServerConfig};
use eternaltcp::tls::Identity;
use support::{LibraryPair, TestTarget, echo, read_all, run, session};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::time::timeout;

/// The variable that names the server to the client process of a test.
const SERVER: &str = "ETERNALTCP_TEST_SERVER";

#[test]
fn a_closed_client_ends_its_sessions_at_the_server_at_once() {
    run(async {
        let target = TestTarget::start().await;
        let mut pair = LibraryPair::start(target.address()).await;
        let (mut application, mut target) = session(&pair, &target).await;
        pair.client.close().await;
        assert_eq!(pair.client.ended().await, ClientEnd::Done);
        assert_eq!(read_all(&mut application).await.1, Some(ErrorKind::ConnectionReset));
        // The tunnel is over, and not detached: a detached one would be kept for days.
        assert_eq!(read_all(&mut target).await.1, Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_client_without_a_carrier_closes_too() {
    run(async {
        let target = TestTarget::start().await;
        let mut pair = LibraryPair::start(target.address()).await;
        target.echo();
        let mut application = pair.connect().await;
        echo(&mut application, b"hello").await;
        pair.path.close();
        pair.client.close().await;
        assert_eq!(pair.client.ended().await, ClientEnd::Done);
        assert_eq!(read_all(&mut application).await.1, Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_client_that_is_closed_while_it_attaches_leaves_no_ghost() {
    run(async {
        let target = TestTarget::start().await;
        let mut pair = LibraryPair::start(target.address()).await;
        let (_application, mut target) = session(&pair, &target).await;
        let mut carrier = pair.path.cut_and_take().await;
        let answer = carrier.hold_answer().await;
        let pass = async {
            carrier.client.write_all(&answer).await.unwrap();
            copy_bidirectional(&mut carrier.client, &mut carrier.server).await
        };
        // It is asked to close before the answer arrives.
        let (end, _) = tokio::join!(
            async {
                pair.client.close().await;
                pair.client.ended().await
            },
            pass
        );
        assert_eq!(end, ClientEnd::Done);
        assert_eq!(read_all(&mut target).await.1, Some(ErrorKind::ConnectionReset));
    });
}

/// Runs the client at the start of the library's documentation.
async fn documented(server: &str) -> Result<String, Box<dyn std::error::Error>> {
    let client = Client::connect(ClientConfig::for_server(server)?).await?;
    let mut session = client.open("localhost:80").await?;
    session.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    session.shutdown().await?;
    let mut page = String::new();
    session.read_to_string(&mut page).await?;
    client.close().await;
    Ok(page)
}

#[test]
fn a_program_that_ends_right_after_it_closed_its_client_leaves_no_tunnel_behind() {
    if let Ok(server) = std::env::var(SERVER) {
        return run(async move { assert_eq!(documented(&server).await.unwrap(), "a page") });
    }
    run(async {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str| home.path().join(".ssh").join(name);
        let user = Identity::load_or_create(&file("id_ed25519")).unwrap();
        let keys = KeySource::Fixed(AuthorizedKeys::parse(&user.public_key().to_string()));
        let host = Identity::generate().unwrap();
        let key = host.public_key();
        let any = "127.0.0.1:0".parse().unwrap();
        let mut config = ServerConfig::new(any, host, keys);
        config.permits = vec!["localhost:80".parse().unwrap()];
        let server = Server::bind(config).unwrap();
        let mut server = server.start().unwrap();
        let name: address::ServerAddress = server.local_addr().to_string().parse().unwrap();
        std::fs::write(file("known_hosts"), known_hosts_line(&name, &key)).unwrap();
        let monitor = server.monitor();
        tokio::spawn(async move {
            while let Some(incoming) = server.accept().await {
                let mut session = incoming.accept().unwrap();
                session.read_to_string(&mut String::new()).await.unwrap();
                session.write_all(b"a page").await.unwrap();
                session.shutdown().await.unwrap();
            }
        });
        let test = "a_program_that_ends_right_after_it_closed_its_client_leaves_no_tunnel_behind";
        for _ in 0..3 {
            let mut program = Command::new(std::env::current_exe().unwrap());
            program.args(["--exact", test, "--nocapture"]).stdin(Stdio::null());
            program.env(SERVER, name.to_string()).env("HOME", home.path());
            let status = tokio::task::spawn_blocking(move || program.status().unwrap());
            assert!(status.await.unwrap().success());
        }
        // A ghost would be kept for days.
        let unused = monitor.unused(Duration::from_secs(3600), Duration::from_millis(10));
        timeout(Duration::from_secs(20), unused).await.expect("a ghost");
    });
}
