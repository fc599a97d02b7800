//! The server of the crate's documentation, which answers sessions itself. It listens on port 6200.
//!
//! ```sh
//! cargo run -p eternaltcp --example late     # ~/.ssh/authorized_keys says who is admitted
//! etcp connect --server example.org time:37
//! ```

#![allow(clippy::print_stdout, reason = "it is a program to look at")]

use eternaltcp::paths;
use eternaltcp::server::{Server, ServerConfig};
use eternaltcp::tls::Identity;
use tokio::io::AsyncWriteExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Identity::load_or_create(&paths::server_identity()?)?;
    let mut config = ServerConfig::new("[::]:6200".parse()?, host, paths::ssh("authorized_keys")?);
    config.permits = vec!["time:37".parse()?];
    let mut server = Server::bind(config)?.start()?;
    while let Some(incoming) = server.accept().await {
        println!("{} asks for {}", incoming.key().fingerprint(), incoming.target());
        tokio::spawn(async move {
            let mut session = incoming.accept()?;
            session.write_all(b"late\n").await?;
            session.shutdown().await
        });
    }
    Ok(())
}
