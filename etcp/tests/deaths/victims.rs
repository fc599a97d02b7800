//! The choice of the proxies whose workers die.

use etcp_testkit::loopback::program::RunningProgram;

/// The proxies whose workers die.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Victims {
    Client,
    Server,
    Both,
}

impl Victims {
    /// Each choice.
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::Server, Self::Both];

    /// Selects them among a client and a server.
    pub(crate) fn among(self, [client, server]: [&RunningProgram; 2]) -> Vec<&RunningProgram> {
        match self {
            Self::Client => vec![client],
            Self::Server => vec![server],
            Self::Both => vec![client, server],
        }
    }

    /// Kills their workers. Returns the programs, each with the process that it has lost.
    pub(crate) fn kill(self, programs: [&RunningProgram; 2]) -> Vec<(&RunningProgram, u32)> {
        self.among(programs).into_iter().map(|it| (it, it.kill_worker())).collect()
    }
}
