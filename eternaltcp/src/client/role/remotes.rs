//! The client's listeners at its server, and their connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{Cause, Reset, SessionId};
use tokio::sync::Semaphore;

use crate::address::Target;
use crate::client::event::ClientHandle;
use crate::client::listening::RemoteListener;
use crate::driver::Offer;
use crate::log_limit::{LogLimit, limited};
use crate::net::lookup::Lookups;
use crate::net::origin::proxy_header;
use crate::net::reach::{AttemptSlots, Reach, reach};
use crate::net::slots::Slots;
use crate::net::stream::Stream;
use crate::target::{OpenRequest, Requested, decode_open};

/// The maximum number of targets that are being connected at the same time; further ones wait.
const CONNECTING: usize = 256;

/// The maximum number of concurrent look-ups of target names; further ones wait.
const LOOKUPS: usize = 64;

/// Time for a target to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listeners, by their session ids.
#[derive(Debug)]
pub(super) struct Remotes {
    listening: BTreeMap<SessionId, RemoteListener>,
    connecting: Arc<Semaphore>,
    lookups: Lookups,
    /// Places for the sockets of their sessions; `None` for those of the process.
    slots: Option<Slots>,
}

impl Remotes {
    pub(super) fn new(slots: Option<Slots>) -> Self {
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        Self { listening: BTreeMap::new(), connecting, lookups: Lookups::new(LOOKUPS), slots }
    }

    pub(super) fn insert(&mut self, id: SessionId, listening: RemoteListener) {
        self.listening.insert(id, listening);
    }

    pub(super) fn count(&self) -> usize {
        self.listening.len()
    }

    pub(super) fn has(&self, id: SessionId) -> bool {
        self.listening.contains_key(&id)
    }

    /// Handles the reset of a session. Returns whether the session was a listener.
    pub(super) fn end(&mut self, id: SessionId, reset: &Reset) -> bool {
        let listening = self.listening.remove(&id);
        listening.map(|listening| listening.end(reset.clone())).is_some()
    }

    /// Drops those that ended without a reset. Until the server has ended the session too, connections
    /// that it accepted before may arrive.
    pub(super) fn tick(&mut self, has_session: impl Fn(SessionId) -> bool) {
        self.listening.retain(|id, listening| !listening.is_forgotten() || has_session(*id));
    }

    /// Answers a session that the server opened: a connection to a listener.
    pub(super) fn offered(
        &self,
        handle: ClientHandle,
        log: &Arc<LogLimit>,
        id: SessionId,
        payload: &[u8],
    ) -> Offer {
        let log = Arc::clone(log);
        let call = self.call(payload);
        let places = Arc::clone(&self.connecting);
        Offer::answer(handle, id, async move {
            // The permit is held while the target is dialled; the semaphore is never closed.
            let _place = places.acquire().await;
            let result = match call {
                Ok(call) => call.connect().await,
                Err(reset) => Err(reset),
            };
            if let Err(reset) = &result {
                limited!(&*log, info, session = id.get(), "{reset}");
            }
            result
        })
    }

    /// Returns the target of a session that the server opened.
    fn call(&self, payload: &[u8]) -> Result<RemoteConnection, Reset> {
        let unsupported = |why| Reset::with_detail(Cause::Unsupported, why);
        let Some(OpenRequest { wanted: Requested::Accepted(listener), origin }) =
            decode_open(payload)
        else {
            return Err(unsupported("this client has no forward for it"));
        };
        let listening = self
            .listening
            .get(&listener)
            .ok_or_else(|| unsupported("this client has no such listener"))?;
        Ok(RemoteConnection {
            target: listening.remote.forward.target.clone(),
            header: listening.remote.send_proxy.then(|| proxy_header(origin.as_ref())),
            slots: self.slots.clone(),
            lookups: self.lookups.clone(),
        })
    }
}

/// A connection to a listener, to be forwarded to its target.
struct RemoteConnection {
    target: Target,
    header: Option<Vec<u8>>,
    slots: Option<Slots>,
    lookups: Lookups,
}

impl RemoteConnection {
    async fn connect(self) -> Result<Stream, Reset> {
        let none = || Reset::with_detail(Cause::LimitReached, "the client has no descriptors left");
        let slots = self.slots.map_or_else(Slots::of_process, Ok).map_err(|_| none())?;
        let slot = slots.try_take().ok_or_else(none)?;
        let header = self.header.as_deref().unwrap_or_default();
        let (target, lookups) = (&self.target, &self.lookups);
        let places = AttemptSlots::new(slot, slots);
        let wanted = Reach { target, header, patience: PATIENCE, lookups, user: &None, places };
        reach(wanted, Ok).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::client::RemoteForward;
    use crate::client::listening::AttendedListener;
    use crate::target::{encode_accepted, encode_target};

    fn listener() -> (RemoteListener, AttendedListener) {
        let (own, _) = UnixStream::pair().unwrap();
        let remote = RemoteForward::new("127.0.0.1:80:db:5432".parse().unwrap());
        RemoteListener::new("127.0.0.1:80".parse().unwrap(), remote, own)
    }

    /// [LISTEN-4]
    #[tokio::test]
    async fn a_session_of_the_server_goes_to_the_target_of_its_listener_and_to_nothing_else() {
        let mut remotes = Remotes::new(None);
        let (id, other) = (SessionId::new(1).unwrap(), SessionId::new(3).unwrap());
        let (listening, mut attended) = listener();
        remotes.insert(id, listening);
        let call = |remotes: &Remotes, payload: &[u8]| {
            let call = remotes.call(payload);
            call.map(|call| call.target.to_string()).map_err(|reset| reset.cause)
        };
        assert_eq!(call(&remotes, &encode_accepted(id, None)), Ok("db:5432".to_owned()));
        let db = "db:5432".parse().unwrap();
        for payload in [
            encode_accepted(other, None),
            encode_target(None, None),
            encode_target(Some(&db), None),
            "".into(),
        ] {
            assert_eq!(call(&remotes, &payload), Err(Cause::Unsupported), "{payload:?}");
        }
        assert!(remotes.end(id, &Reset::new(Cause::TunnelOver)));
        assert_eq!(attended.reason.try_recv(), Ok(Reset::new(Cause::TunnelOver)));
        assert_eq!(call(&remotes, &encode_accepted(id, None)), Err(Cause::Unsupported));
    }

    #[tokio::test]
    async fn a_listener_that_nobody_waits_for_is_dropped() {
        let mut remotes = Remotes::new(None);
        let id = SessionId::new(1).unwrap();
        let (listening, attended) = listener();
        remotes.insert(id, listening);
        remotes.tick(|_| false);
        assert!(remotes.has(id));
        drop(attended);
        remotes.tick(|known| known == id);
        assert!(remotes.has(id), "its connections may still arrive");
        remotes.tick(|_| false);
        assert!(!remotes.has(id));
    }
}
