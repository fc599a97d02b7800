//! Faults spread over a file transfer.

use super::fault::NetworkFault;
use super::wait::{PATIENCE, until};
use super::world::TestWorld;

/// The size of the copied files.
pub const FILE_LENGTH: u64 = 200 * 1024 * 1024;

/// Causes each fault at its share of the transfer, and waits until the file grows again.
///
/// `arrived` returns how much has arrived; it must not be everything before the last fault, or the
/// copy proved nothing.
#[track_caller]
pub fn strike_on_the_way(world: &TestWorld, faults: &[NetworkFault], arrived: impl FnMut() -> u64) {
    strike_on_the_way_of(FILE_LENGTH, world, faults, arrived);
}

/// Causes each fault at its share of a transfer of files with a `total` size, as
/// [`strike_on_the_way`] does.
#[track_caller]
pub fn strike_on_the_way_of(
    total: u64,
    world: &TestWorld,
    faults: &[NetworkFault],
    mut arrived: impl FnMut() -> u64,
) {
    let step = total / (faults.len() as u64 + 2);
    for (fault, mark) in faults.iter().zip((1..).map(|n| n * step)) {
        until(&format!("{mark} bytes to arrive"), PATIENCE, || arrived() >= mark);
        fault.survive(world);
        let then = arrived();
        assert!(then < total, "the file was through before {fault:?} was over: slow it down");
        until(&format!("the file to grow after {fault:?}"), PATIENCE, || arrived() > then);
    }
}
