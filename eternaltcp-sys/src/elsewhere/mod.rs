//! Unix systems other than Linux: nothing that only Linux has. Changes of networks are found by
//! looking now and then, the kernel gives no figures of a connection, and options that do not
//! exist are errors that the callers can live with.

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

/// Returns the error for something that this system does not offer.
fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("this system has no {what}"))
}
