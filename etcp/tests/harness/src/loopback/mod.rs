//! Both proxies on loopback, for the tests of admission.
//!
//! A [`LoopbackSite`] is a server's and its users' files; [`LoopbackSproxy`] and [`Cproxy`] are the real programs
//! on them, on ports of the kernel's choice, each in a session of its own without a terminal.
//! Everything a test made is gone when its values are dropped.

pub mod agent;
pub mod echo;
pub mod forward_proxy;
pub mod hostile;
pub mod operator;
pub mod program;
pub mod proxies;
pub mod refusing;
pub mod relay;
pub mod several;
pub mod site;
pub mod socket;

pub use echo::{Echo, Steady};
pub use program::{RunningProgram, etcp};
pub use proxies::{ATTACHED, Cproxy, LoopbackSproxy, carriers_taken, connect};
pub use relay::LoopbackRelay;
pub use several::SeveralServers;
pub use site::{Key, LoopbackSite};

use std::time::Duration;

/// The longest time that a successful step may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
