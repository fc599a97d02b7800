//! The limits with which a server can work, and the available memory.

use super::ServerLimits;

/// The minimum memory with which a server can work, in bytes: several clients of several keys find
/// room in it.
pub const MIN_MEMORY: u64 = 4 << 20;

/// The minimum memory of a tunnel in each direction with which a client can work.
const MIN_TUNNEL_MEMORY: u64 = super::grants::MIN_GRANT;

/// The reason why limits are invalid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// A limit is too low to serve anybody.
    #[error("{name} is {value}: at least {least} is needed")]
    TooLow {
        /// The limit, as in [`ServerLimits`].
        name: &'static str,
        /// Its value.
        value: u64,
        /// The minimum.
        least: u64,
    },
}

impl ServerLimits {
    /// Checks that clients can be served within these limits.
    ///
    /// # Errors
    /// The first limit with which nobody can be served.
    pub fn check(&self) -> Result<(), LimitsError> {
        let count = |count: usize| count as u64;
        let least = [
            ("memory", self.memory, MIN_MEMORY),
            ("tunnel_memory_at_first", self.tunnel_memory_at_first, MIN_TUNNEL_MEMORY),
            ("tunnel_memory", self.tunnel_memory, MIN_TUNNEL_MEMORY),
            ("startups_per_source", count(self.startups_per_source), 1),
            ("tunnels_per_key", count(self.tunnels_per_key), 1),
            ("connecting_per_tunnel", count(self.connecting_per_tunnel), 1),
        ];
        for (name, value, least) in least {
            if value < least {
                return Err(LimitsError::TooLow { name, value, least });
            }
        }
        Ok(())
    }
}

/// Returns the memory that this process may use, in bytes: that of the machine, or of the smallest
/// control group that contains the process, or the process's own limit.
#[must_use]
pub fn available_memory() -> u64 {
    eternaltcp_sys::memory_limit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_with_which_nobody_is_served_are_named() {
        assert_eq!(ServerLimits::default().check(), Ok(()));
        let memory = MIN_MEMORY - 1;
        let error = ServerLimits { memory, ..ServerLimits::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "memory is 4194303: at least 4194304 is needed");
        let smallest = ServerLimits { memory: MIN_MEMORY, ..ServerLimits::default() };
        assert_eq!(smallest.check(), Ok(()));
        let none = ServerLimits { tunnels_per_key: 0, ..ServerLimits::default() };
        assert!(matches!(none.check(), Err(LimitsError::TooLow { least: 1, .. })));
    }
}
