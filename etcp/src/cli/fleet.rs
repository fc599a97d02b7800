//! The place of a server among several that serve one name.

use clap::Args;
use eternaltcp::address::ServerAddress;
use eternaltcp::policy::Network;
use eternaltcp::server::{MAX_NODE_ADDRESSES, Node};
use eternaltcp::tls::NodeName;

use crate::exit::ExitError;

/// Flags of a server that is a node of a fleet.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct NodeArgs {
    /// The name of this server among several that serve one name, in the form of a DNS name.
    /// Clients send it in TLS, so that their next connections reach this server again
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// An address that leads to this server alone, which clients try first; may be given four times
    #[arg(long, value_name = "HOST:PORT", requires = "node")]
    node_address: Vec<ServerAddress>,
    /// Take the client's address from the PROXY header (v1 or v2) with which each connection from
    /// this network must begin: an address or a CIDR of load balancers; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub(crate) proxy_from: Vec<Network>,
}

impl NodeArgs {
    /// Returns the node, if the server is one.
    pub(crate) fn node(&self) -> Result<Option<Node>, ExitError> {
        let count = self.node_address.len();
        if count > MAX_NODE_ADDRESSES {
            return Err(ExitError::Usage(format!(
                "--node-address is given {count} times: clients are told of {MAX_NODE_ADDRESSES} \
                 addresses at most"
            )));
        }
        Ok(self.node.clone().map(|name| {
            let mut node = Node::new(name);
            node.addresses.clone_from(&self.node_address);
            node
        }))
    }
}
