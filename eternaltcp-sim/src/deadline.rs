//! The time limit of a world after its faults have stopped.

use std::time::Duration;

use eternaltcp_proto::Time;

use crate::world::World;

/// Time for everything except the bytes themselves.
const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    /// Returns the time at which everything must be over.
    pub(crate) fn deadline(&self) -> Time {
        let configs = &self.scenario.configs;
        let window = configs.client.session_limit.min(configs.server.session_limit) / 2;
        let needed = self.env.slowest.time_for(self.remainder.at_calm(), window);
        Time::ZERO + self.scenario.trouble + PATIENCE + needed
    }

    /// Describes whether a world that is not over in time is stuck or slow.
    pub(crate) fn pace(&self) -> String {
        let env = &self.env;
        self.remainder.describe(env.now, &env.model, env.slowest)
    }
}
