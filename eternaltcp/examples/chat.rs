//! A chat: everybody reads what everybody writes, and a change of network ends nothing.
//!
//! ```sh
//! cargo run -p eternaltcp --example chat -- serve [::]:6201      # ~/.ssh/authorized_keys says who is admitted
//! cargo run -p eternaltcp --example chat -- join example.org:6201
//! ```
//!
//! The first line that `serve` prints belongs in `~/.ssh/known_hosts` of the clients.

#![allow(clippy::print_stdout, reason = "it is a program to look at")]

use std::error::Error;
use std::net::SocketAddr;

use eternaltcp::client::{Client, ClientConfig};
use eternaltcp::server::{Server, ServerConfig};
use eternaltcp::tls::Identity;
use eternaltcp::{Session, paths};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy, split, stdin, stdout};
use tokio::sync::broadcast;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The target name that clients ask for; it is not an address.
const ROOM: &str = "chat:1";

/// Lines that a slow reader may lag behind; beyond that it misses some.
const BEHIND: usize = 256;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address.parse()?).await,
        ["join", server] => join(server).await,
        _ => Err("usage: chat serve ADDRESS:PORT | chat join HOST[:PORT]".into()),
    }
}

async fn serve(address: SocketAddr) -> Result {
    let host = Identity::load_or_create(&paths::server_identity()?)?;
    println!("[HOST]:{} {}", address.port(), host.public_key());
    let mut config = ServerConfig::new(address, host, paths::ssh("authorized_keys")?);
    config.permits = vec![ROOM.parse()?];
    let mut server = Server::bind(config)?.start()?;
    let (lines, _) = broadcast::channel(BEHIND);
    while let Some(incoming) = server.accept().await {
        let name = incoming.key().fingerprint().to_string();
        if let Ok(session) = incoming.accept() {
            tokio::spawn(talk(session, name, lines.clone()));
        }
    }
    Ok(())
}

/// Serves one participant: passes its lines to all, and all lines to it.
async fn talk(session: Session, name: String, lines: broadcast::Sender<String>) {
    let mut others = lines.subscribe();
    let (from, mut to) = split(session);
    let reading = async {
        let mut own = BufReader::new(from).lines();
        while let Ok(Some(line)) = own.next_line().await {
            // There is at least one listener: the participant itself.
            let _ = lines.send(format!("{name}: {line}\n"));
        }
    };
    let writing = async {
        loop {
            match others.recv().await {
                Ok(line) if to.write_all(line.as_bytes()).await.is_err() => return,
                Err(broadcast::error::RecvError::Closed) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

async fn join(server: &str) -> Result {
    let client = Client::connect(ClientConfig::for_server(server)?).await?;
    let (mut from, mut to) = split(client.open(ROOM).await?);
    let sending = async {
        copy(&mut stdin(), &mut to).await?;
        to.shutdown().await?;
        // The server ends the session when it has read everything.
        std::future::pending().await
    };
    let received = tokio::select! {
        received = async { copy(&mut from, &mut stdout()).await } => received,
        sent = sending => sent,
    };
    client.close().await;
    received?;
    // The program does not wait for a line that is still being typed.
    std::process::exit(0)
}
