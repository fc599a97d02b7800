//! Several servers of one name: a carrier that reaches the wrong one ends nothing.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::client::Client;
use support::{EchoingFleet, echoes, told};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Leads connections to one of several servers. A change cuts those that exist.
struct TestBalancer {
    address: SocketAddr,
    destination: watch::Sender<SocketAddr>,
}

impl TestBalancer {
    async fn start(first: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (destination, leads) = watch::channel(first);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut leads = leads.clone();
                tokio::spawn(async move {
                    let to = *leads.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = leads.changed() => {}
                    }
                });
            }
        });
        Self { address, destination }
    }
}

/// Starts a client that waits this long for its node, and waits until it is attached.
async fn attached(fleet: &EchoingFleet, server: SocketAddr, node_wait: Duration) -> Client {
    fleet.client(&[server], |config| config.node_wait = node_wait).await
}

const LONG: Duration = Duration::from_secs(60);

/// [ROUTE-2] [ROUTE-3] [ROUTE-4]
#[tokio::test]
async fn a_carrier_that_reaches_another_server_ends_no_session() {
    for other in [Some("node-2.test"), None] {
        let fleet = EchoingFleet::new();
        let (own, other) = (fleet.serve(Some("node-1.test"), &[]), fleet.serve(other, &[]));
        let balancer = TestBalancer::start(own.address).await;
        let client = attached(&fleet, balancer.address, LONG).await;
        let mut session = client.open_default().await.unwrap();
        assert!(echoes(&mut session, 1).await.unwrap());
        told(&client, "node-1.test").await;
        balancer.destination.send_replace(other.address);
        let waits = |status: eternaltcp::status::TunnelStatus| {
            status.why.is_some_and(|why| why.contains("than the node node-1.test"))
        };
        while !waits(client.status().await.unwrap()) {
            tokio::task::yield_now().await;
        }
        balancer.destination.send_replace(own.address);
        assert!(echoes(&mut session, 2).await.unwrap());
    }
}

/// [ROUTE-1]
#[tokio::test]
async fn a_carrier_reaches_the_node_at_the_address_that_it_has_told() {
    let fleet = EchoingFleet::new();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (own, other) = (fleet.serve(Some("node-1.test"), &[free]), fleet.serve(Some("n2"), &[]));
    let balancer = TestBalancer::start(own.address).await;
    let client = attached(&fleet, balancer.address, LONG).await;
    let mut session = client.open_default().await.unwrap();
    told(&client, "node-1.test").await;
    balancer.destination.send_replace(other.address);
    assert!(echoes(&mut session, 1).await.unwrap());
}

/// [ROUTE-5]
#[tokio::test]
async fn a_node_that_is_gone_is_given_up() {
    let fleet = EchoingFleet::new();
    let (own, other) = (fleet.serve(Some("node-1.test"), &[]), fleet.serve(Some("n2"), &[]));
    let balancer = TestBalancer::start(own.address).await;
    let client = attached(&fleet, balancer.address, Duration::ZERO).await;
    let mut session = client.open_default().await.unwrap();
    assert!(echoes(&mut session, 1).await.unwrap());
    told(&client, "node-1.test").await;
    balancer.destination.send_replace(other.address);
    own.task.abort();
    assert!(echoes(&mut session, 2).await.is_err(), "it is reset");
    told(&client, "n2").await;
    let mut session = client.open_default().await.unwrap();
    assert!(echoes(&mut session, 3).await.unwrap());
}
