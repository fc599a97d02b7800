//! A client and a server in one process. The server sends back what it receives, and the client
//! checks it while the connection between the two is broken again and again.
//!
//! `cargo run -p eternaltcp --example echo`

#![allow(clippy::print_stdout, reason = "it is a program to look at")]

use std::error::Error;
use std::path::Path;

use eternaltcp::client::{Client, ClientConfig};
use eternaltcp::policy::{AuthorizedKeys, known_hosts_line};
use eternaltcp::server::{KeySource, RunningServer, Server, ServerConfig};
use eternaltcp::tls::Identity;
use eternaltcp::{Session, address};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The number of bytes, and the part after which the connection is broken.
const LENGTH: usize = 32 << 20;
const CUT_EVERY: usize = 4 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let folder = tempfile::tempdir()?;
    let (cut, cuts) = broadcast::channel(1);
    let mut server = start_server(folder.path())?;
    let relay = start_relay(server.local_addr(), cuts).await?;
    let client = connect(folder.path(), relay, &server).await?;
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            println!("{} opens {}", incoming.key().fingerprint(), incoming.target());
            if let Ok(session) = incoming.accept() {
                tokio::spawn(give_back(session));
            }
        }
    });
    check(client.open("echo:7").await?, &cut).await?;
    let statistics = client.statistics();
    println!("{LENGTH} bytes are right, over {} carriers", statistics.attaches);
    client.close().await;
    Ok(())
}

/// Starts a server with a new key, which admits one new user.
fn start_server(folder: &Path) -> Result<RunningServer> {
    let user = Identity::load_or_create(&folder.join("id_ed25519"))?;
    let keys = KeySource::Fixed(AuthorizedKeys::parse(&user.public_key().to_string()));
    let host = Identity::load_or_create(&folder.join("server_key"))?;
    let mut config = ServerConfig::new("127.0.0.1:0".parse()?, host, keys);
    config.permits = vec!["echo:7".parse()?];
    Ok(Server::bind(config)?.start()?)
}

/// Starts a client that knows the server by the relay's address.
async fn connect(
    folder: &Path,
    relay: std::net::SocketAddr,
    server: &RunningServer,
) -> Result<Client> {
    let host = Identity::load(&folder.join("server_key"))?.public_key();
    let name: address::ServerAddress = relay.to_string().parse()?;
    let known_hosts = folder.join("known_hosts");
    std::fs::write(&known_hosts, format!("{}\n", known_hosts_line(&name, &host)))?;
    println!("through {relay} to {}", server.local_addr());
    let identity = folder.join("id_ed25519");
    let config = ClientConfig::with_files(&name.to_string(), &identity, &known_hosts)?;
    Ok(Client::connect(config).await?)
}

async fn give_back(session: Session) {
    let (mut from, mut to) = split(session);
    if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
        println!("a session ended: {error}");
        return;
    }
    // The client may be finished with it.
    let _ = to.shutdown().await;
}

/// Sends numbers, and checks those that come back.
async fn check(session: Session, cut: &broadcast::Sender<()>) -> Result {
    let (mut from, mut to) = split(session);
    let sending = async {
        for number in 0..LENGTH as u64 / 8 {
            to.write_all(&number.to_le_bytes()).await?;
        }
        to.shutdown().await
    };
    let receiving = async {
        let mut word = [0; 8];
        for number in 0..LENGTH as u64 / 8 {
            from.read_exact(&mut word).await?;
            assert_eq!(word, number.to_le_bytes(), "number {number} is wrong");
            if (number + 1) % (CUT_EVERY as u64 / 8) == 0 {
                // There may be no connection just now.
                let _ = cut.send(());
            }
        }
        match from.read(&mut word).await? {
            0 => Ok(()),
            more => Err(std::io::Error::other(format!("{more} bytes too many"))),
        }
    };
    tokio::try_join!(sending, receiving)?;
    Ok(())
}

/// Starts the network between the two: a relay that drops its connections on request.
async fn start_relay(
    server: std::net::SocketAddr,
    cuts: broadcast::Receiver<()>,
) -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cut = cuts.resubscribe();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                tokio::select! {
                    // The connection has ended by itself: the client makes another one.
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = cut.recv() => println!("the connection is cut"),
                }
            });
        }
    });
    Ok(address)
}
