//! Three nodes with one host key, the load balancers of `examples/fleet` in front of them, and many
//! clients.

mod balancer;
mod carriers;
mod client;
mod site;
mod world;

pub use balancer::{FleetBalancer, FleetNames};
pub use carriers::FleetCarrier;
pub use client::{FleetCproxy, FleetSession};
pub use site::FleetSite;
pub use world::{FleetWorld, NODES};
