//! Linux: rtnetlink, timerfd, `TCP_INFO` and a few socket options.

mod closed;
mod heap;
mod memory;
mod namespace;
mod network;
mod route;
mod sleep;
mod socket;
mod start;
mod tcp_info;
mod terminal;
mod writer;

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use closed::is_stdout_closed;
pub use heap::release_memory;
pub use memory::memory_limit;
pub use namespace::unshare;
pub use network::NetworkWatch;
pub use route::has_route;
pub use sleep::SleepWatch;
pub use socket::{
    bind_to_device, free_receive_buffer, interface_index, mptcp_available, set_pacing,
    set_transparent, unsent,
};
pub use start::{give_back, hide_memory, wait_for_children, was_ignored};
pub use tcp_info::{TcpInfo, carrier_info};
pub use terminal::write_from_background;
pub use writer::has_writer;

/// Registers a descriptor with tokio for reading.
///
/// # Errors
/// The runtime takes no further descriptor.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, and so stays open and unchanged as long as the value lives.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
