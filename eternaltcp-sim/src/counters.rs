//! Event counters of a run, so that a test can require enough of each.

use std::fmt;
use std::ops::AddAssign;

/// Declares the counters: name, the floor for a thousand seeds, and meaning.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident >= $floor:literal;)*) => {
        /// The number of times each event happened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Returns every counter: its name, its value, and the floor for a thousand seeds.
            #[must_use]
            pub fn table(&self) -> Vec<(&'static str, u64, u64)> {
                vec![$((stringify!($name), self.$name, $floor),)*]
            }
        }

        impl AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Events of the world.
    steps >= 0;
    /// Sessions opened.
    sessions >= 2_500;
    /// Sessions in which each end received its end of stream.
    ended_in_order >= 2_500;
    /// Resets that reached an application.
    resets >= 300;
    /// Bytes delivered to applications.
    delivered_bytes >= 100_000_000;
    /// Carriers whose attach was sent.
    carriers >= 2_500;
    /// Carriers that have joined the attached one.
    joined >= 500;
    /// Attaches of a carrier that the tunnel already had.
    takeovers >= 100;
    /// Data packets on joined carriers.
    joined_packets >= 10_000;
    /// Data packets on joined carriers where all carriers are slow.
    joined_packets_slow >= 400;
    /// Carriers that began to stand by as the client's spare.
    spares >= 500;
    /// Spares that were attached in place of a carrier that was lost or doubted.
    spares_taken >= 200;
    /// Spares that were requested and then not needed.
    spares_not_needed >= 5;
    /// Spares that were refused or not answered.
    spares_lost >= 20;
    /// Worlds in which large packets vanish.
    holes >= 40;
    /// Carriers with small segments.
    small_carriers >= 100;
    /// Tunnels' limits that were raised.
    raised_limits >= 450;
    /// Limits that were raised while an attach was in flight.
    raised_while_attaching >= 100;
    /// Tunnels that were compacted while they held received data.
    compactions >= 20_000;
    /// Worlds with dozens of sessions.
    crowds >= 1;
    /// Packets that arrived out of order.
    reordered >= 3_000;
    /// Joined carriers that were cut.
    cuts_of_joined >= 40;
    /// Dials.
    dials >= 5_000;
    /// Dials that failed by themselves, or were refused.
    dials_failed >= 1_000;
    /// Dials that were abandoned.
    dials_abandoned >= 350;
    /// Doubts about the client's carrier.
    doubts >= 600;
    /// Doubts about a carrier that lived.
    false_alarms >= 25;
    /// Carriers that recovered before the next one was ready.
    races_won_by_old >= 15;
    /// Carriers attached in place of a doubted one.
    races_won_by_new >= 500;
    /// Attaches completed, seen from either end.
    attaches >= 4_000;
    /// Announcements that reached the client.
    announcements >= 400;
    /// Attaches after which something was sent again.
    replays >= 1_000;
    /// Packets that were sent along with an attach.
    early_packets >= 5_000;
    /// Packets sent along with an attach that the server lacked.
    early_packets_taken >= 1_500;
    /// Carriers cut at a byte of any packet.
    cuts >= 700;
    /// Cuts inside a header.
    cuts_in_header >= 200;
    /// Cuts inside a payload.
    cuts_in_payload >= 300;
    /// Cuts inside an attach request.
    cuts_in_attach >= 120;
    /// Cuts inside an attach answer, which is lost.
    lost_answers >= 100;
    /// Cuts of an acknowledgement that is sent alone.
    cuts_in_ack >= 40;
    /// Cuts inside or behind a packet that is sent again.
    cuts_in_replay >= 50;
    /// Carriers that one end considered alive when the other end was gone.
    half_open >= 1_000;
    /// Carriers that fell silent one way or both ways.
    silences >= 300;
    /// Carriers that stalled for a while.
    stalls >= 300;
    /// Moves to another path, on which the old one may still work.
    races >= 800;
    /// Attaches that arrived after a newer one.
    epoch_races >= 25;
    /// Requests that arrived again after they had been granted.
    replayed_requests >= 300;
    /// Bytes of an old carrier that arrived when a newer one was attached.
    late_chunks >= 800;
    /// Programs that died.
    deaths >= 400;
    /// Deaths in the middle of a commit.
    deaths_in_commit >= 120;
    /// Deaths between a read from a local socket and its record.
    deaths_after_read >= 50;
    /// Deaths between a write to a local socket and its record.
    deaths_after_write >= 15;
    /// Deaths while no carrier was attached.
    deaths_detached >= 130;
    /// Deaths while the attached carrier had sent something again.
    deaths_after_replay >= 70;
    /// Deaths of programs that had not read all data that their predecessors left.
    deaths_in_recovery >= 20;
    /// Deaths while the program of the other end was dead.
    deaths_of_both >= 15;
    /// Sessions whose local socket had taken a part of packets that were replayed.
    surpluses >= 350;
    /// Connections of which a program that died had reported nothing.
    connections_found >= 5;
    /// Targets that were dialled once more.
    dialled_again >= 35;
    /// Commits that adopted or released several local sockets.
    joint_commits >= 5;
    /// Wrong bytes that were delivered and not recorded when a program died.
    forgiven >= 0;
    /// Programs that were replaced.
    exports >= 1_000;
    /// Replacements while a session was offered and not answered.
    exports_offered >= 20;
    /// Replacements while a local socket had taken a part of a packet.
    exports_partial >= 150;
    /// Replacements by a program with lower limits.
    exports_lower >= 200;
    /// Packets that a local socket took only in part.
    partial_deliveries >= 50_000;
    /// Applications that were not read because a queue was full.
    full_queues >= 3_000;
    /// Local resets while no carrier was attached.
    resets_in_outage >= 30;
    /// Ends of stream while no carrier was attached.
    ends_in_outage >= 200;
    /// Resets that did not wait for an application that had stopped reading.
    impatient_resets >= 1;
    /// Targets that refused.
    refused_targets >= 80;
    /// Sessions that the peer had no room for.
    refused_sessions >= 80;
    /// Applications that reset while data waited, just before their proxy was stopped.
    stopped_resets >= 20;
    /// Resets that were passed on, and whose sender could not be informed.
    unconfirmed_resets >= 30;
    /// Worlds in which sessions wait for their turn longer than a reset waits for its data.
    queues_of_resets >= 20;
    /// Sessions ended by the operator.
    kills >= 25;
    /// Servers that lost their state.
    server_losses >= 12;
    /// Tunnels that the client recreated.
    restarts >= 10;
    /// Ends that were stopped for a while.
    stops >= 300;
    /// Ends whose carrier became quiet.
    quiets >= 300;
    /// Carriers that were struck while both ends were quiet.
    strikes_in_quiet >= 8;
    /// Ends that were stopped while both were quiet.
    stops_in_quiet >= 5;
    /// Programs that died while both ends were quiet.
    deaths_in_quiet >= 1;
    /// Payload bytes changed in transit.
    corruptions >= 100;
    /// Sessions reset because of that.
    corrupt_resets >= 40;
}

/// With fewer seeds than this, the floors have no meaning.
const ENOUGH: u64 = 1000;

impl Counters {
    /// Describes each counter that is below its floor for this many seeds. Floors below `least` are
    /// skipped: fresh worlds may miss rare events.
    #[must_use]
    pub fn shortfalls(&self, seeds: u64, least: u64) -> Vec<String> {
        if seeds < ENOUGH {
            return Vec::new();
        }
        let floors = self
            .table()
            .into_iter()
            .map(|(name, value, floor)| (name, value, floor * seeds / 1000));
        floors
            .filter(|(_, value, floor)| *floor >= least && value < floor)
            .map(|(name, value, floor)| format!("{name}: {value}, and the floor is {floor}"))
            .collect()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value, _) in self.table() {
            writeln!(f, "{name:>20} {value}")?;
        }
        Ok(())
    }
}
