//! Events of a tunnel's carriers, published as they happen.

use std::fmt;
use std::time::Duration;

use tokio::sync::broadcast;

/// The maximum number of events that wait for a slow listener; older ones are dropped.
const EVENTS: usize = 64;

/// The kind of event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A tunnel has its first carrier.
    Attached,
    /// The carrier is doubted, and another is dialled.
    Doubted,
    /// There is no carrier any more.
    Lost,
    /// The connection works again; exactly one follows each doubt or loss.
    Back,
    /// Another carrier replaced one that worked.
    Moved,
    /// The worker died, and another one continues. The event concerns all tunnels.
    Restarted,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attached => "attached",
            Self::Doubted => "doubted",
            Self::Lost => "lost",
            Self::Back => "back",
            Self::Moved => "moved",
            Self::Restarted => "restarted",
        })
    }
}

/// One event of a tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelEvent {
    /// The kind of event.
    pub kind: EventKind,
    /// The first digits of the tunnel's id, once it has one.
    pub tunnel: Option<String>,
    /// The name of the server, at a client of several servers.
    pub server_name: Option<String>,
    /// The server's addresses; at a server, the fingerprint of the client's key.
    pub peer: String,
    /// The carrier's path: `192.0.2.7 via wlan0`; at a server, the client's address.
    pub path: Option<String>,
    /// The reason, in words.
    pub why: String,
    /// The time for which the carrier was unusable, if that is over.
    pub outage: Option<Duration>,
    /// Payload bytes that are sent again.
    pub replayed: u64,
    /// Sessions of the tunnel.
    pub sessions: usize,
}

/// The publisher of events; cheap to clone. Sending never waits.
#[derive(Clone, Debug)]
pub(crate) struct Events(broadcast::Sender<TunnelEvent>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS))
    }
}

impl Events {
    /// Returns all events from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<TunnelEvent> {
        self.0.subscribe()
    }

    fn send(&self, event: TunnelEvent) {
        // Usually there is no listener.
        let _ = self.0.send(event);
    }
}

/// The last published event of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum LastEvent {
    /// No event yet: it was never attached.
    #[default]
    Nothing,
    Well,
    Doubted,
    Lost,
}

/// Publishes the events of one tunnel, each change once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publisher {
    events: Events,
    told: LastEvent,
}

impl Publisher {
    pub(crate) fn new(events: Events) -> Self {
        Self { events, told: LastEvent::default() }
    }

    /// Publishes that the carrier is doubted.
    pub(crate) fn doubted(&mut self, event: impl FnOnce() -> TunnelEvent) {
        if self.told == LastEvent::Well {
            self.tell(LastEvent::Doubted, EventKind::Doubted, event);
        }
    }

    /// Publishes that there is no carrier.
    pub(crate) fn lost(&mut self, event: impl FnOnce() -> TunnelEvent) {
        if matches!(self.told, LastEvent::Well | LastEvent::Doubted) {
            self.tell(LastEvent::Lost, EventKind::Lost, event);
        }
    }

    /// Publishes that the doubt was a false alarm.
    pub(crate) fn relieved(&mut self, event: impl FnOnce() -> TunnelEvent) {
        if self.told == LastEvent::Doubted {
            self.tell(LastEvent::Well, EventKind::Back, event);
        }
    }

    /// Publishes that a carrier is attached.
    pub(crate) fn attached(&mut self, event: impl FnOnce() -> TunnelEvent) {
        let kind = match self.told {
            LastEvent::Nothing => EventKind::Attached,
            LastEvent::Well => EventKind::Moved,
            LastEvent::Doubted | LastEvent::Lost => EventKind::Back,
        };
        self.tell(LastEvent::Well, kind, event);
    }

    fn tell(&mut self, told: LastEvent, kind: EventKind, event: impl FnOnce() -> TunnelEvent) {
        self.told = told;
        self.events.send(TunnelEvent { kind, ..event() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> TunnelEvent {
        TunnelEvent {
            kind: EventKind::Lost,
            tunnel: None,
            server_name: None,
            peer: String::new(),
            path: None,
            why: String::new(),
            outage: None,
            replayed: 0,
            sessions: 0,
        }
    }

    #[test]
    fn every_doubt_or_loss_is_followed_by_one_back() {
        let events = Events::default();
        let (mut publisher, mut heard) = (Publisher::new(events.clone()), events.listen());
        let mut kinds =
            || std::iter::from_fn(|| heard.try_recv().ok()).map(|it| it.kind).collect::<Vec<_>>();
        publisher.lost(event);
        publisher.doubted(event);
        publisher.relieved(event);
        assert_eq!(kinds(), [], "there was no carrier yet");
        publisher.attached(event);
        publisher.attached(event);
        assert_eq!(kinds(), [EventKind::Attached, EventKind::Moved]);
        publisher.doubted(event);
        publisher.doubted(event);
        publisher.relieved(event);
        publisher.relieved(event);
        assert_eq!(kinds(), [EventKind::Doubted, EventKind::Back]);
        publisher.doubted(event);
        publisher.lost(event);
        publisher.lost(event);
        publisher.attached(event);
        assert_eq!(kinds(), [EventKind::Doubted, EventKind::Lost, EventKind::Back]);
    }
}
