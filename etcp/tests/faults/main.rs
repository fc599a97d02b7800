//! Faults of the network, of names, of time and of the system, in network namespaces: streams
//! continue with every byte in its place.

mod carrier;
mod errno;
mod hole;
mod joined;
mod names;
mod path;
mod relay;
mod slow;
mod soak;
mod soak_parts;
mod spare;
mod time;
