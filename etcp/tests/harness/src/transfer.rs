//! Faults spread over a file transfer.

use super::fault::NetworkFault;
use super::tell;
use super::wait::{PATIENCE, until};
use super::world::TestWorld;

/// The size of the copied files.
pub const FILE_LENGTH: u64 = 200 * 1024 * 1024;

/// Causes one fault after the other during the transfer, and waits each time until the file grows
/// again.
///
/// `look` returns whether a program still copies, and then how much has arrived. A part of the file
/// must be left at each fault, or the copy proved nothing. On a busy machine the copy may be
/// whole when the fault is over.
#[track_caller]
pub fn strike_on_the_way(
    world: &TestWorld,
    faults: &[NetworkFault],
    look: impl FnMut() -> (bool, u64),
) {
    strike_on_the_way_of(FILE_LENGTH, world, faults, look);
}

/// Causes faults during a transfer of files with a `total` size, as [`strike_on_the_way`] does.
///
/// On a busy machine a fault may take so long that the rest of the copy is nearly through after it.
/// Then the last faults are left out, but never most of them.
#[track_caller]
pub fn strike_on_the_way_of(
    total: u64,
    world: &TestWorld,
    faults: &[NetworkFault],
    mut look: impl FnMut() -> (bool, u64),
) {
    // After the last fault a busy machine may see the copy only when it is whole.
    let mut arrived = || {
        let (is_running, arrived) = look();
        assert!(is_running || arrived >= total, "the copy ended early, with {arrived} of {total}");
        arrived
    };
    // The faults fall into the first half: on a busy machine they are late.
    let share = total / (faults.len() as u64 + 2);
    for (number, fault) in faults.iter().enumerate() {
        let mark = (number as u64 + 1) * share / 2;
        until(&format!("{mark} bytes to arrive"), PATIENCE, || arrived() >= mark);
        let before = arrived();
        // What is left then is more than all buffers on the way hold.
        if before > total - share {
            let told = format!("the file is nearly through before {fault:?}");
            assert!(2 * number >= faults.len(), "{told}: slow it down");
            return tell(&format!("{told}, which is left out"));
        }
        fault.survive_unless(world, || arrived() >= total);
        let then = arrived();
        let goes_on = || arrived() > then.min(total - 1);
        until(&format!("the file to grow after {fault:?}"), PATIENCE, goes_on);
    }
}
