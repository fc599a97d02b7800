//! Sockets: those of carriers, of local applications and of targets.
//!
//! - `socket`, `congestion`: options of a carrier's socket;
//! - `listener`, `stream`: local connections, accepted or made;
//! - `slots`: the descriptors for them;
//! - `lookup`, `race`, `reach`: from the name of a target to a connection;
//! - `last_answer`: the end of a connection that gets an answer first;
//! - `origin`: the origin of a connection, and the PROXY protocol for it.

pub(crate) mod congestion;
pub(crate) mod last_answer;
pub(crate) mod listener;
pub(crate) mod lookup;
pub(crate) mod origin;
pub(crate) mod prologue;
pub(crate) mod proxy_header;
pub(crate) mod race;
pub(crate) mod reach;
pub(crate) mod slots;
pub(crate) mod socket;
pub(crate) mod stream;
