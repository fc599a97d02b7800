//! Linux: rtnetlink, timerfd, `TCP_INFO` and a few socket options.

mod heap;
mod memory;
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

pub(crate) use heap::release_memory;
pub(crate) use memory::memory_limit;
pub(crate) use network::NetworkWatch;
pub(crate) use route::has_route;
pub(crate) use sleep::SleepWatch;
pub(crate) use socket::{
    bind_to_device, free_receive_buffer, interface_index, mptcp_available, set_pacing,
    set_transparent, unsent,
};
pub(crate) use start::{give_back, hide_memory, wait_for_children, was_ignored};
pub(crate) use tcp_info::carrier_info;
pub(crate) use terminal::write_from_background;
pub(crate) use writer::has_writer;

/// Lets tokio say when there is something to read.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, and so stays open and the same as long as the value lives.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
