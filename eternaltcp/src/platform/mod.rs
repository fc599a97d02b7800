//! What the operating system tells about networks, sleep and carriers, and the
//! few socket calls that no library wraps.
//!
//! A platform is one module that gives what is listed in the `use` below, with
//! these meanings; nothing else in the crate asks the system in its own words:
//!
//! - `NetworkWatch`: says that links, addresses or routes changed, never which;
//! - `SleepWatch`: says that the machine slept, soon after it woke;
//! - `carrier_info`: how the kernel sees a carrier: round trip, what is not
//!   acknowledged, when it last heard of the peer;
//! - `bind_to_device`: makes a socket use one interface whatever the routes say;
//! - `free_receive_buffer`: lets the kernel enlarge a socket's receive buffer;
//! - `give_back`: has a program start with the limits and signals that this process was started
//!   with;
//! - `has_route`: whether a route leads to an address over one interface;
//! - `has_writer`: whether somebody has a file open for writing;
//! - `readable`: has tokio say when there is something to read, or to accept;
//! - `release_memory`: gives what the allocator keeps for later back to the system;
//! - `hide_memory`: keeps this process's memory from core dumps and other processes;
//! - `memory_limit`: the memory that this process may use;
//! - `mptcp_available`: whether this system makes MPTCP sockets now;
//! - `set_pacing`: has the kernel send over a connection at a rate at most;
//! - `set_transparent`: lets a listener take connections to addresses of others;
//! - `unsent`: what of a socket's data the other end's kernel has not taken;
//! - `wait_for_children`: undoes that SIGCHLD was ignored at the start;
//! - `was_ignored`: whether a signal was ignored at the start;
//! - `write_from_background`: keeps a terminal from stopping a thread that writes to it.
//!
//! There is Linux; another system is one more module here.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(test)]
#[cfg(target_os = "linux")]
pub(crate) mod testnet;

#[cfg(target_os = "linux")]
pub(crate) use linux::{
    NetworkWatch, SleepWatch, bind_to_device, carrier_info, free_receive_buffer, give_back,
    has_route, has_writer, hide_memory, interface_index, memory_limit, mptcp_available, readable,
    release_memory, set_pacing, set_transparent, unsent, wait_for_children, was_ignored,
    write_from_background,
};
