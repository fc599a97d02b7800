//! The network between cproxy and sproxy, with faults on request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::link::RelayLink;

/// A TCP relay on loopback that every carrier goes through.
#[derive(Debug)]
pub(super) struct DemoRelay {
    address: SocketAddr,
    links: watch::Receiver<Vec<Arc<RelayLink>>>,
    task: JoinHandle<()>,
}

impl DemoRelay {
    /// Starts a relay to sproxy.
    pub(super) async fn start(sproxy: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, links) = watch::channel(Vec::new());
        let task = tokio::spawn(serve(listener, sproxy, sender));
        Ok(Self { address, links, task })
    }

    /// Returns the address at which cproxy reaches sproxy.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the newest link that is open, or the newest one. A client whose connection takes long
    /// makes a second one, and closes one of the two: the link of its carrier may be the older one.
    pub(super) fn newest(&self) -> Option<Arc<RelayLink>> {
        let links = self.links.borrow();
        links.iter().rfind(|link| link.is_open()).or(links.last()).cloned()
    }
}

/// Closes the sockets of silent links, which stay open until here.
impl Drop for DemoRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    sproxy: SocketAddr,
    links: watch::Sender<Vec<Arc<RelayLink>>>,
) {
    let mut tasks = JoinSet::new();
    for number in 1.. {
        // A connection that cannot be linked is dropped, and cproxy tries again.
        let Ok((cproxy, sproxy)) = connect(&listener, sproxy).await else { continue };
        let link = Arc::new(RelayLink::new(number));
        links.send_modify(|links| {
            links.retain(|link| link.is_open());
            links.push(Arc::clone(&link));
        });
        tasks.spawn(async move { link.carry(cproxy, sproxy).await });
    }
}

async fn connect(listener: &TcpListener, sproxy: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
    let (cproxy, _) = listener.accept().await?;
    let sproxy = TcpStream::connect(sproxy).await?;
    cproxy.set_nodelay(true)?;
    sproxy.set_nodelay(true)?;
    Ok((cproxy, sproxy))
}
