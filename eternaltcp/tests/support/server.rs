//! A server of many users, whose program echoes every session.

use std::path::Path;

use eternaltcp::process::raise_descriptor_limit;
use eternaltcp::server::{RunningServer, Server, ServerConfig, ServerLimits};
use eternaltcp::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Starts a server that admits all users to every target; `folder` keeps their keys.
pub(crate) fn serve(folder: &Path, users: &[Identity], limits: ServerLimits) -> RunningServer {
    let keys = folder.join("authorized_keys");
    let lines: String = users.iter().map(|user| format!("{}\n", user.public_key())).collect();
    std::fs::write(&keys, lines).unwrap();
    let host = Identity::generate().unwrap();
    let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), host, keys);
    config.permits = vec!["*:*".parse().unwrap()];
    config.limits = limits;
    // The folder is inside one that everybody may write to.
    config.strict_modes = None;
    raise_descriptor_limit();
    Server::bind(config).unwrap().start().unwrap()
}

/// Echoes every session, eight bytes at a time.
pub(crate) fn echo_all(mut server: RunningServer) {
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            let mut session = incoming.accept().unwrap();
            tokio::spawn(async move {
                while let Ok(number) = session.read_u64().await {
                    session.write_u64(number).await.unwrap();
                }
            });
        }
    });
}
