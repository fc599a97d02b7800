//! Remote forwards: the server listens, and this side connects the target.

use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{Backoff, Cause, Reset};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, Span, info, warn};

use super::dialing::random;
use super::event::ClientEvent;
use super::listening::{AttendedListener, RemoteForward, RemoteListener};
use super::monitor::ClientMonitor;
use super::succession::{PresentTunnel, Succession};
use crate::address::{Forward, Listen};
use crate::net::stream::Stream;
#[cfg(target_os = "linux")]
use crate::store::SocketMark;
use crate::target::read_address;

/// Pause between two requests for an address that the server refuses.
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Lifetime after which a listener counts as successful: the pauses start again.
const SETTLED: Duration = Duration::from_secs(10);

/// The longest line in which the server reports its addresses.
const MAX_LINE: usize = 512;

/// Time after the end of a listener within which its reason arrives, if there is one.
const REASON: Duration = Duration::from_secs(1);

/// The result of one request to listen.
struct ListenOutcome {
    /// The address on which the server listened.
    address: Option<Listen>,
    /// Its lifetime.
    lived: Duration,
    /// The reason of its end, if the server sent one.
    reset: Option<Reset>,
    /// The listener itself, which has not ended, but another tunnel is the present one.
    left: Option<AttendedListener>,
}

impl ListenOutcome {
    /// Returns the outcome of a request that could not be made.
    fn failed(reset: Reset) -> Self {
        Self { address: None, lived: Duration::ZERO, reset: Some(reset), left: None }
    }
}

/// Starts forwards whose listeners are at the server, while a client runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct RemoteForwarder {
    pub(super) succession: Arc<Succession>,
    pub(super) monitor: ClientMonitor,
    pub(super) span: Span,
}

/// A forward whose listener is at the server. When this is dropped, the server stops listening;
/// connections that it accepted continue.
#[derive(Debug)]
pub struct RunningRemoteForward(Option<AbortHandle>);

impl Drop for RunningRemoteForward {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl RunningRemoteForward {
    /// Lets the forward run for as long as the client.
    pub(super) fn detach(mut self) {
        self.0 = None;
    }
}

impl RemoteForwarder {
    /// Asks the server to listen, as [`super::Client::forward_remotely`] does, until the returned
    /// forward is dropped. If the server refuses, the request is repeated, and the client runs on.
    ///
    /// # Panics
    /// There is no tokio runtime.
    pub fn start(&self, forward: RemoteForward) -> (RunningRemoteForward, FirstAnswer) {
        let ((place, shown), (told, refused)) = (watch::channel(None), oneshot::channel());
        let running =
            self.spawn(keep(Arc::clone(&self.succession), forward, None, place, Some(told)));
        (running, FirstAnswer { shown, refused })
    }

    /// Runs the task of a forward until the client is drained.
    pub(super) fn spawn(
        &self,
        kept: impl Future<Output = ()> + Send + 'static,
    ) -> RunningRemoteForward {
        let draining = self.monitor.draining();
        let forward = async move {
            tokio::select! {
                biased;
                // The forward's listener ends with the task.
                () = draining => {}
                () = kept => {}
            }
        };
        let task = tokio::spawn(forward.instrument(self.span.clone()));
        RunningRemoteForward(Some(task.abort_handle()))
    }
}

/// The first answer of the server to a request to listen.
#[derive(Debug)]
pub struct FirstAnswer {
    shown: watch::Receiver<Option<Listen>>,
    refused: oneshot::Receiver<String>,
}

impl FirstAnswer {
    /// Waits until the server listens, and returns the address there. While the server cannot be
    /// reached, there is no answer.
    ///
    /// # Errors
    /// The server refuses, for this reason.
    pub async fn address(mut self) -> Result<Listen, String> {
        let shown = async {
            let shown = self.shown.wait_for(Option::is_some).await.ok()?;
            shown.clone()
        };
        tokio::select! {
            biased;
            Ok(text) = self.refused => Err(text),
            address = shown => address.ok_or_else(|| "the client has ended".to_owned()),
        }
    }

    /// Waits until the server listens or refuses, and returns the reason if it refuses. While the
    /// server cannot be reached, there is no answer.
    pub async fn refusal(mut self) -> Option<String> {
        tokio::select! {
            biased;
            text = self.refused => text.ok(),
            _ = self.shown.wait_for(Option::is_some) => None,
        }
    }
}

/// Keeps the server listening for as long as the client runs, over changes of tunnels. When another
/// tunnel replaces the present one, the listener is requested there before this one is given up. `place`
/// receives the address on which the server listens, and `refused` the first answer if it is a
/// refusal; without `refused`, the client ends if that is final. `found` is the listener that an
/// earlier process has left.
pub(super) async fn keep(
    succession: Arc<Succession>,
    remote: RemoteForward,
    mut found: Option<AttendedListener>,
    place: watch::Sender<Option<Listen>>,
    mut refused: Option<oneshot::Sender<String>>,
) {
    let is_needed = refused.is_none();
    let mut pace = Backoff::new(MIN_PAUSE, MAX_PAUSE).unwrap_or_default();
    let mut at = remote.forward.listen.clone();
    let (mut was_there, mut logged) = (false, None);
    let mut tunnels = succession.follow();
    // The listener in the tunnel before, which has connections until this one listens.
    let mut before = None;
    loop {
        let present = tunnels.borrow_and_update().clone();
        let listener = match found.take() {
            Some(found) => Ok(found),
            None => match request(present, at.clone(), &remote).await {
                Some(requested) => requested,
                None => return,
            },
        };
        let outcome = match listener {
            Ok(listener) => attend(listener, &place, before.take(), &mut tunnels).await,
            Err(reset) => ListenOutcome::failed(reset),
        };
        if let Some(left) = outcome.left {
            (at, was_there, before) = (outcome.address.unwrap_or(at), true, Some(left));
            continue;
        }
        place.send_replace(None);
        if outcome.lived >= SETTLED {
            pace.reset();
        }
        if let Some(address) = outcome.address {
            // The same port again, if the system chose it.
            (at, was_there, logged) = (address, true, None);
        }
        let Some(reset) = outcome.reset else {
            sleep(pace.next_delay(random())).await;
            continue;
        };
        let text = explain(&remote.forward, &reset);
        match reset.cause {
            // A new tunnel is being created, which the next request waits for.
            Cause::TunnelOver | Cause::Unresumable => continue,
            Cause::NotPermitted | Cause::Unsupported if is_needed && !was_there => {
                let present = succession.present();
                present.handle().tell(ClientEvent::Refused(text)).await;
                return;
            }
            _ => {}
        }
        at.clone_from(&remote.forward.listen);
        tell_refusal(text, refused.take(), &mut logged);
        sleep(pace.next_delay(random())).await;
    }
}

/// Passes the reason of a refusal on, or logs it if it differs from the last one.
fn tell_refusal(text: String, to: Option<oneshot::Sender<String>>, logged: &mut Option<String>) {
    let is_told = to.is_some_and(|to| to.send(text.clone()).is_ok());
    if !is_told && logged.as_ref() != Some(&text) {
        warn!("{text}; trying again");
        *logged = Some(text);
    }
}

fn explain(forward: &Forward, reset: &Reset) -> String {
    match reset.cause {
        Cause::Unsupported => {
            format!("-R {forward}: this server cannot listen for clients: upgrade sproxy")
        }
        _ if reset.detail.is_empty() => format!("-R {forward}: {}", reset.cause),
        _ => format!("-R {forward}: {}", reset.detail),
    }
}

/// Asks the server of the present tunnel to listen. Returns `None` when the client has ended.
async fn request(
    present: PresentTunnel,
    at: Listen,
    remote: &RemoteForward,
) -> Option<Result<AttendedListener, Reset>> {
    let (ours, theirs) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => {
            return Some(Err(Reset::with_detail(Cause::LimitReached, error.to_string())));
        }
    };
    let (listening, attended) = RemoteListener::new(at, remote.clone(), ours);
    let (stream, listening) = (Stream::unix(theirs), Box::new(listening));
    let is_there = present.handle().tell(ClientEvent::Listen { stream, listening }).await;
    is_there.then_some(Ok(attended))
}

/// Waits for the addresses of a listener, gives up the listener before it, and waits for the end of this
/// one, or for another tunnel that becomes the present one.
async fn attend(
    mut listener: AttendedListener,
    place: &watch::Sender<Option<Listen>>,
    before: Option<AttendedListener>,
    tunnels: &mut watch::Receiver<PresentTunnel>,
) -> ListenOutcome {
    let address = address_of(&mut listener).await;
    // This also happens if the server refuses, because the previous server is about to end.
    drop(before);
    let start = Instant::now();
    if let Some(address) = &address {
        place.send_replace(Some(address.clone()));
        tokio::select! {
            biased;
            () = end_of(&mut listener.own) => {}
            // An error means that the client is gone, and so is the listener.
            Ok(()) = tunnels.changed() => {
                let (lived, left) = (start.elapsed(), Some(listener));
                return ListenOutcome { address: Some(address.clone()), lived, reset: None, left };
            }
        }
    }
    let lived = start.elapsed();
    let reset = timeout(REASON, listener.reason).await.ok().and_then(Result::ok);
    ListenOutcome { address, lived, reset, left: None }
}

/// Waits for the addresses of a listener, and returns the first one; `None` if the server refuses.
async fn address_of(listener: &mut AttendedListener) -> Option<Listen> {
    let AttendedListener { at, remote, own, .. } = listener;
    if let Some(port) = known_port(own) {
        return Some(at.clone().with_port(port));
    }
    let addresses = read_addresses(own).await;
    let port = addresses.first().and_then(Listen::port).unwrap_or_default();
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    if !texts.is_empty() {
        let target = &remote.forward.target;
        info!("the server listens on {} for {target}", texts.join(" and "));
        note_port(own, port);
    }
    addresses.first().map(|_| at.clone().with_port(port))
}

/// Records for the next process that the addresses were read. Only their port can be new.
fn note_port(own: &UnixStream, port: u16) {
    #[cfg(target_os = "linux")]
    if crate::store::is_kept() {
        SocketMark::Redirected(port.into()).set(own);
    }
    let _ = (own, port);
}

/// Returns the port of the addresses that an earlier process has read.
fn known_port(own: &UnixStream) -> Option<u16> {
    #[cfg(target_os = "linux")]
    if crate::store::is_kept()
        && let SocketMark::Redirected(port) = SocketMark::of(own)
    {
        return u16::try_from(port).ok();
    }
    let _ = own;
    None
}

/// Reads the first line of a listener: the addresses on which the server listens. Returns `None` if
/// the session ends before it, or the line has another form.
async fn read_addresses(session: &mut UnixStream) -> Vec<Listen> {
    let mut line = Vec::new();
    loop {
        match session.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) if line.len() < MAX_LINE => line.push(byte),
            _ => return Vec::new(),
        }
    }
    // The path of a Unix socket may contain spaces.
    if line.starts_with(b"unix:") {
        return read_address(&line).into_iter().collect();
    }
    line.split(|byte| *byte == b' ').map(read_address).collect::<Option<_>>().unwrap_or_default()
}

/// Waits for the session's end. Data after its first line have no meaning.
async fn end_of(session: &mut UnixStream) {
    let mut sink = [0; 256];
    while let Ok(1..) = session.read(&mut sink).await {}
}
