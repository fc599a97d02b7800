//! One stream each way at once, checked byte by byte, while every kind of fault happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::checked::{Pattern, accept, connect, receive_all, send_until};
use super::pair::DEFAULT_LISTEN;
use super::wait::{PATIENCE, until};
use super::{Direction, IpFamily, NetworkFault, ProxyPair, Sproxy, TestFolder, TestWorld};

const FAULTS: [NetworkFault; 8] = [
    NetworkFault::Move,
    NetworkFault::ResetAndMove,
    NetworkFault::Reset,
    NetworkFault::BlackholeThenMove,
    NetworkFault::Forget,
    NetworkFault::ForgetOneWay(Direction::ToServer),
    NetworkFault::ForgetOneWay(Direction::ToClient),
    NetworkFault::SoftMove,
];

/// The bytes that must pass after a fault before the next one.
const PROGRESS: u64 = 256 * 1024;

/// Runs the stream over carriers of `family`.
pub fn roam(family: IpFamily) {
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let (sproxy, listener) = Sproxy::with_listener(&world, &folder, family);
    let mut pair = ProxyPair::start(&world, &folder, sproxy, &[]);
    let client = connect(&world.client, DEFAULT_LISTEN);
    let server = accept(&listener);

    let (up, down) = (Pattern(1), Pattern(2));
    let (at_server, at_client) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sent_up = scope.spawn(|| send_until(&client, up, &stop));
        let sent_down = scope.spawn(|| send_until(&server, down, &stop));
        let received_up = scope.spawn(|| receive_all(&server, up, &at_server));
        let received_down = scope.spawn(|| receive_all(&client, down, &at_client));
        {
            let _stop = StopOnDrop(&stop);
            let both = [&at_server, &at_client];
            await_progress("the first fault", &both);
            for fault in FAULTS {
                pair.survive(fault, &world);
                await_progress(&format!("{fault:?}"), &both);
            }
        }
        let lengths = [sent_up, received_up, sent_down, received_down]
            .map(|thread| thread.join().expect("every byte was right"));
        assert_eq!(lengths[0], lengths[1], "all that the client sent arrived");
        assert_eq!(lengths[2], lengths[3], "all that the server sent arrived");
    });
}

fn await_progress(after: &str, counters: &[&AtomicU64]) {
    let goals: Vec<_> =
        counters.iter().map(|counter| counter.load(Ordering::Relaxed) + PROGRESS).collect();
    until(&format!("the streams to go on (fault: {after})"), PATIENCE, || {
        counters.iter().zip(&goals).all(|(counter, goal)| counter.load(Ordering::Relaxed) >= *goal)
    });
}

/// Ends the senders even if a fault was not survived, so that the test fails and does not hang.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
