//! A server that leaves: its clients move to another one, and lose nothing.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::Session;
use eternaltcp::client::{Client, ClientConfig, RemoteForward};
use support::{EchoingFleet, EchoingNode, echoes, shown, told, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Lets a client move without delay.
fn at_once(config: &mut ClientConfig) {
    config.move_within = Some(Duration::ZERO);
}

/// Opens a session and uses it.
async fn used(client: &Client, number: u64) -> Session {
    let mut session = client.open_default().await.unwrap();
    assert!(echoes(&mut session, number).await.unwrap(), "session {number}");
    session
}

/// Opens sessions until new ones are at this node.
async fn opened_until_at(client: &Client, name: &str) {
    let mut number = 0;
    while shown(&client.monitor()).await.0.as_deref() != Some(name) {
        number += 1;
        drop(used(client, number).await);
    }
}

fn nodes<const N: usize>(fleet: &EchoingFleet) -> ([EchoingNode; N], Vec<SocketAddr>) {
    let nodes = std::array::from_fn(|at| fleet.serve(Some(&format!("n{}", at + 1)), &[]));
    let addresses = nodes.iter().map(|node| node.address).collect();
    (nodes, addresses)
}

/// [ROUTE-6]
#[tokio::test]
async fn a_client_moves_and_its_sessions_end_where_they_are() {
    let fleet = EchoingFleet::new();
    let ([one, _two], servers) = nodes(&fleet);
    let client = fleet.client(&servers, at_once).await;
    let mut session = used(&client, 1).await;
    told(&client, "n1").await;
    assert_eq!(one.monitor.leave(None), Some(1));
    opened_until_at(&client, "n2").await;
    assert!(echoes(&mut session, 2).await.unwrap());
    let tunnels = client.monitor().each_tunnel();
    assert_eq!(tunnels.len(), 2);
    assert_eq!(shown(&tunnels[0]).await, (Some("n2".to_owned()), false));
    assert_eq!(shown(&tunnels[1]).await, (Some("n1".to_owned()), true));
    assert_eq!(tunnels[1].status().await.unwrap().sessions.len(), 1);
    let mut other = used(&client, 3).await;
    assert_eq!(client.monitor().levels().attached, 2);
    assert!(!one.task.is_finished(), "it has a session");
    drop(session);
    one.task.await.unwrap();
    until(|| client.monitor().each_tunnel().len() == 1).await;
    assert!(echoes(&mut other, 4).await.unwrap());
}

/// [ROUTE-6]
#[tokio::test]
async fn a_client_moves_again_and_again() {
    let fleet = EchoingFleet::new();
    let ([one, two, _three], servers) = nodes(&fleet);
    let client = fleet.client(&servers, at_once).await;
    let mut first = used(&client, 1).await;
    assert_eq!(one.monitor.leave(None), Some(1));
    opened_until_at(&client, "n2").await;
    let mut second = used(&client, 2).await;
    assert!(two.monitor.leave(None).is_some());
    opened_until_at(&client, "n3").await;
    assert_eq!(client.monitor().each_tunnel().len(), 3);
    for session in [&mut first, &mut second] {
        assert!(echoes(session, 3).await.unwrap());
    }
    drop((first, second));
    one.task.await.unwrap();
    two.task.await.unwrap();
    used(&client, 4).await;
    let mut client = client;
    client.close().await;
    client.ended().await;
}

#[tokio::test]
async fn a_client_without_another_server_stays_until_there_is_one() {
    let fleet = EchoingFleet::new();
    let later = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let one = fleet.serve(Some("n1"), &[]);
    let client = fleet.client(&[one.address, later], at_once).await;
    let mut session = used(&client, 1).await;
    told(&client, "n1").await;
    assert!(one.monitor.leave(None).is_some());
    while !shown(&client.monitor()).await.1 {
        drop(used(&client, 2).await);
    }
    drop(used(&client, 3).await);
    let _two = fleet.serve(Some("n2"), &[later]);
    opened_until_at(&client, "n2").await;
    assert!(echoes(&mut session, 4).await.unwrap());
}

#[tokio::test]
async fn a_client_that_stays_is_served_until_its_last_session_ends() {
    let fleet = EchoingFleet::new();
    let ([one, _two], servers) = nodes(&fleet);
    let client = fleet.client(&servers, |_| {}).await;
    let mut session = used(&client, 1).await;
    assert!(one.monitor.leave(None).is_some());
    while !shown(&client.monitor()).await.1 {
        drop(used(&client, 2).await);
    }
    let other = used(&client, 3).await;
    assert!(echoes(&mut session, 4).await.unwrap());
    assert_eq!(client.monitor().each_tunnel().len(), 1);
    drop((session, other));
}

#[tokio::test]
async fn a_server_that_dies_while_it_leaves_takes_only_its_sessions_along() {
    let fleet = EchoingFleet::new();
    let ([one, _two], servers) = nodes(&fleet);
    let change = |config: &mut ClientConfig| {
        at_once(config);
        config.node_wait = Duration::ZERO;
    };
    let client = fleet.client(&servers, change).await;
    let mut session = used(&client, 1).await;
    told(&client, "n1").await;
    assert!(one.monitor.leave(None).is_some());
    opened_until_at(&client, "n2").await;
    let mut other = used(&client, 2).await;
    one.task.abort();
    assert!(echoes(&mut session, 3).await.is_err(), "it is reset");
    until(|| client.monitor().each_tunnel().len() == 1).await;
    assert!(echoes(&mut other, 4).await.unwrap());
    used(&client, 5).await;
}

/// Connects to a listener at a server, and returns what the target says.
async fn greeting(at: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

#[tokio::test]
async fn a_listener_is_requested_at_the_other_server_before_it_is_given_up() {
    let fleet = EchoingFleet::new();
    let ([one, _two], servers) = nodes(&fleet);
    let client = fleet.client(&servers, at_once).await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = target.accept().await {
            stream.write_all(b"hello").await.unwrap();
        }
    });
    // On this one machine the port is not free at the other server, which then chooses another one.
    let forward = RemoteForward::new(format!("127.0.0.1:0:{address}").parse().unwrap());
    let mut place = client.forward_remotely(forward);
    let first = place.wait_for(Option::is_some).await.unwrap().clone().unwrap().to_string();
    assert_eq!(greeting(&first).await.unwrap(), "hello");
    assert!(one.monitor.leave(None).is_some());
    told(&client, "n2").await;
    let moved = |at: &Option<_>| {
        at.as_ref().is_some_and(|at: &eternaltcp::address::Listen| at.to_string() != first)
    };
    let second = place.wait_for(moved).await.unwrap().clone().unwrap().to_string();
    assert_eq!(greeting(&second).await.unwrap(), "hello");
    one.task.await.unwrap();
    assert!(greeting(&first).await.is_err(), "it was given up");
    assert_eq!(greeting(&second).await.unwrap(), "hello");
}
