//! Three nodes with one host key behind the load balancers of `examples/fleet`.

mod addresses;
mod crowd;
mod failures;
mod stay;
