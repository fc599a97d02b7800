//! Linux: rtnetlink, timerfd, `TCP_INFO` and a few socket options.

mod blocks;
mod clone;
mod closed;
mod heap;
mod memfd;
mod memory;
mod mmsg;
mod namespace;
mod network;
mod route;
mod signals;
mod sleep;
mod socket;
mod start;
mod successor;
mod tcp_info;
mod title;
mod words;
mod writer;

pub use blocks::{Block, Blocks, Part};
pub use clone::{Ended, Holding, Inherited, PANICKED, Worker, reap_any, spawn_worker};
pub use closed::is_stdout_closed;
pub use heap::release_memory;
pub use memory::memory_limit;
pub use mmsg::NotedCall;
pub use namespace::unshare;
pub use network::NetworkWatch;
pub use route::has_route;
pub use signals::{BlockedSignals, ReceivedSignal, stop_process};
pub use sleep::SleepWatch;
pub use socket::{
    accept, bind_to_device, cookie, free_receive_buffer, interface_index, is_mptcp_socket,
    limit_silence, limit_unsent, mptcp_available, mptcp_socket, original_destination, send_quietly,
    set_congestion, set_pacing, set_transparent, unsent,
};
pub use start::{
    give_back, hide_memory, restore_blocked, survive_file_size_limit, wait_for_children,
    was_ignored,
};
pub use successor::{
    Executable, NewProgram, Successor, end_with, end_with_parent, spawn_successor,
};
pub use tcp_info::{carrier_info, moved_bytes, read_progress};
pub use title::set_title;
pub use words::Words;
pub use writer::has_writer;
