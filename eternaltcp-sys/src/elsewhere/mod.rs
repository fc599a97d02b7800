//! The calls on Unix systems other than Linux. Changes of the network are found by polling, the
//! kernel's figures of a connection are missing, and options that do not exist return errors, which
//! the callers tolerate.

mod network;
mod process;
mod sleep;
mod socket;

pub use network::NetworkWatch;
pub use process::{
    give_back, hide_memory, is_stdout_closed, memory_limit, release_memory,
    survive_file_size_limit, wait_for_children, was_ignored,
};
pub use sleep::SleepWatch;
pub use socket::{
    accept, bind_to_device, carrier_info, free_receive_buffer, has_route, has_writer,
    interface_index, is_mptcp_socket, limit_silence, limit_unsent, mptcp_available, mptcp_socket,
    original_destination, send_quietly, set_congestion, set_pacing, set_transparent, unsent,
};

use std::io;

/// Returns the error for a feature that this system does not have.
fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("this system has no {what}"))
}
