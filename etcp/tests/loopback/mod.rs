//! Both proxies on loopback, for the tests of who is let in.
//!
//! A [`Site`] is a server's and its users' files; [`Sproxy`] and [`Cproxy`] are the real programs
//! on them, on ports of the kernel's choice, each in a session of its own without a terminal.
//! Everything a test made is gone when its values are dropped.

#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(unused_imports, reason = "each test file uses its own part of this module")]

pub(crate) mod agent;
pub(crate) mod echo;
pub(crate) mod forward_proxy;
pub(crate) mod hostile;
pub(crate) mod operator;
pub(crate) mod program;
pub(crate) mod proxies;
pub(crate) mod refusing;
pub(crate) mod relay;
pub(crate) mod site;
pub(crate) mod socket;

pub(crate) use echo::{Echo, Steady};
pub(crate) use program::{Program, etcp};
pub(crate) use proxies::{ATTACHED, Cproxy, Sproxy, connect};
pub(crate) use relay::Relay;
pub(crate) use site::{Key, Site};

use std::time::Duration;

/// Longest time anything that works may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
