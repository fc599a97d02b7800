//! The kinds of programs that have a control socket.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of programs that have a control socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProxyKind {
    /// A client for applications on its machine.
    Cproxy,
    /// A client for its stdin and stdout.
    Connect,
    /// A client for one ssh.
    Ssh,
    /// A client for one command.
    Run,
    /// A server.
    Sproxy,
    /// A server for one ssh.
    OneUser,
}

impl ProxyKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Cproxy, Self::Connect, Self::Ssh, Self::Run, Self::Sproxy, Self::OneUser];

    /// Returns whether the program serves any number of sessions until it is ended. The other kinds
    /// end with their one task.
    #[must_use]
    pub fn is_proxy(self) -> bool {
        matches!(self, Self::Cproxy | Self::Sproxy)
    }

    /// Returns the kind of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cproxy => "cproxy",
            Self::Connect => "connect",
            Self::Ssh => "ssh",
            Self::Run => "run",
            Self::Sproxy => "sproxy",
            Self::OneUser => "one-user",
        }
    }

    /// Returns whether it is the client's end of its tunnels.
    #[must_use]
    pub fn is_client(self) -> bool {
        !matches!(self, Self::Sproxy | Self::OneUser)
    }
}

impl fmt::Display for ProxyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
