//! Listeners for local applications, and for carriers.

mod file_watch;
mod monitoring;
mod pause;
#[cfg(target_os = "linux")]
mod recovered;
mod several;
mod socket_file;
mod tcp;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, SockRef};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tracing::{info, warn};

use crate::address::{Listen, ListenHost};
use crate::net::slots::{SlotGuard, Slots};
use crate::net::socket::{Mptcp, carrier_socket};
use crate::net::stream::{Stream, prepare};
use crate::recovery::{KeptListeners, Recovery};
#[cfg(target_os = "linux")]
use crate::store::{ListenerPurpose, ListenerRule};
use eternaltcp_sys::{accept, readable, set_transparent};
use several::{addresses_of, any_ready};
use tcp::{bind_tcp, hold_back, listen_on, or_on_v4};

pub(crate) use file_watch::FileWatch;
pub use monitoring::{MonitoringListener, MonitoringStream};
pub(crate) use pause::AcceptPause;
pub(crate) use several::{Bound, bind_each, is_no_address};
pub use several::{Missing, listen_addresses};
pub(crate) use socket_file::{SocketFile, SocketPlace, bind_unix};
pub(crate) use tcp::bind_carriers;

/// A listener for local connections.
#[derive(Debug)]
pub struct Listener {
    /// Its records in the store, which are cleared before a socket is closed.
    _kept: KeptListeners,
    /// The address, with the port that the system chose.
    at: Listen,
    /// The file of a Unix socket; `None` for TCP. It is dropped before the socket: a successor
    /// replaces a file at which nothing listens.
    file: Option<SocketFile>,
    watch: FileWatch,
    /// The rule of its records, with which its next socket is kept.
    #[cfg(target_os = "linux")]
    rule: Option<ListenerRule>,
    /// One or more listening sockets. Each reports when a connection waits, so that no descriptor's
    /// place is taken before.
    sockets: Vec<AsyncFd<OwnedFd>>,
    /// The socket that is checked first next time.
    turn: usize,
    /// The addresses of TCP sockets.
    addresses: Vec<SocketAddr>,
    /// Requested addresses that have no listener, and the reasons.
    missing: Vec<Missing>,
    /// Connections that an earlier process had accepted.
    accepted: Vec<Stream>,
    slots: Slots,
    pause: AcceptPause,
}

impl Listener {
    /// Listens on the given address. Its connections take descriptors from those that all of this
    /// process share ([`Slots::of_process`]). Of several addresses, such as those of `localhost`,
    /// one is enough; [`missing`](Self::missing) returns the others. A name is looked up, which may
    /// take a while.
    ///
    /// # Errors
    /// Every address is in use, none belongs to this machine, or the process has no descriptors for
    /// sessions.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn bind(listen: &Listen) -> io::Result<Self> {
        Self::recover_or_bind(&mut Recovery::none(), listen)
    }

    /// Listens with the sockets of an earlier process, and returns its accepted connections first.
    /// If it had no listener with this address, it [binds](Self::bind) one.
    ///
    /// # Errors
    /// As [`Self::bind`].
    ///
    /// # Panics
    /// As [`Self::bind`].
    pub fn recover_or_bind(recovery: &mut Recovery, listen: &Listen) -> io::Result<Self> {
        let slots = Slots::of_process()?;
        #[cfg(target_os = "linux")]
        {
            let purpose = ListenerPurpose::Applications;
            Self::recover_or(recovery, purpose, listen, slots, |slots| {
                Self::bind_parts(listen, &listen.parts(), slots)
            })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = recovery;
            Self::bind_parts(listen, &listen.parts(), slots)
        }
    }

    /// Listens on some of the [parts](Listen::parts) of an address.
    pub(crate) fn bind_parts(listen: &Listen, parts: &[Listen], slots: Slots) -> io::Result<Self> {
        if let Listen::Unix(path) = listen {
            let (listener, file) = bind_unix(path)?;
            let mut unix = Self::new(listen.clone(), slots);
            unix.sockets.push(readable(listener.into_std()?.into())?);
            unix.file = Some(file);
            return Ok(unix);
        }
        // If both families are requested, each has its own socket.
        let takes_v4 = matches!(listen, Listen::Tcp(_));
        let bind = |address| hold_back(bind_tcp(address, takes_v4)?);
        Self::tcp(listen, bind_each(&addresses_of(parts)?, bind)?, slots)
    }

    /// Listens for connections that a firewall redirects here, and, with `CAP_NET_ADMIN`, for those
    /// that TPROXY redirects.
    ///
    /// # Errors
    /// The address is in use or does not belong to this machine, or the process has no descriptors
    /// for sessions.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn bind_transparent(listen: &Listen) -> io::Result<Self> {
        Self::recover_or_bind_transparent(&mut Recovery::none(), listen)
    }

    /// Listens with the sockets of an earlier process, and returns its accepted connections first.
    /// If it had no such listener with this address, it [binds](Self::bind_transparent) one.
    ///
    /// # Errors
    /// As [`Self::bind_transparent`].
    ///
    /// # Panics
    /// As [`Self::bind_transparent`].
    pub fn recover_or_bind_transparent(
        recovery: &mut Recovery,
        listen: &Listen,
    ) -> io::Result<Self> {
        let slots = Slots::of_process()?;
        #[cfg(target_os = "linux")]
        {
            let purpose = ListenerPurpose::Transparent;
            Self::recover_or(recovery, purpose, listen, slots, |slots| {
                Self::bind_redirected(listen, slots)
            })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = recovery;
            Self::bind_redirected(listen, slots)
        }
    }

    fn bind_redirected(listen: &Listen, slots: Slots) -> io::Result<Self> {
        let lacks_privilege = Cell::new(false);
        let takes_v4 = matches!(listen, Listen::Tcp(_));
        let bind = |address| {
            let domain = Domain::for_address(address);
            let socket = carrier_socket(domain, Mptcp::Off)?;
            match set_transparent(&socket, domain) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    lacks_privilege.set(true);
                }
                result => result?,
            }
            listen_on(socket, address, takes_v4)
        };
        let bind = |address| or_on_v4(address, takes_v4, bind);
        let bound = bind_each(&addresses_of(&listen.parts())?, bind)?;
        if lacks_privilege.get() {
            info!("without CAP_NET_ADMIN: TPROXY does not work, redirect does");
        }
        Self::tcp(listen, bound, slots)
    }

    /// Creates a TCP listener, whose options accepted connections inherit.
    fn tcp(listen: &Listen, bound: Bound, slots: Slots) -> io::Result<Self> {
        let mut listener = Self::new(listen.clone(), slots);
        listener.missing = bound.missing;
        for socket in bound.sockets {
            prepare(&SockRef::from(&socket))?;
            let address = socket.local_addr()?;
            listener.at = listener.at.with_port(address.port());
            listener.addresses.push(address);
            listener.sockets.push(readable(socket.into_std()?.into())?);
        }
        Ok(listener)
    }

    /// Creates a listener without sockets.
    fn new(at: Listen, slots: Slots) -> Self {
        Self {
            _kept: KeptListeners::default(),
            at,
            sockets: Vec::new(),
            turn: 0,
            addresses: Vec::new(),
            missing: Vec::new(),
            file: None,
            watch: FileWatch::default(),
            #[cfg(target_os = "linux")]
            rule: None,
            accepted: Vec::new(),
            slots,
            pause: AcceptPause::default(),
        }
    }

    /// Takes over a bound TCP listener, for example from another network namespace.
    ///
    /// # Errors
    /// The system refuses an option, or the process has no descriptors for sessions.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn from_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let at = Listen::Tcp(listener.local_addr()?);
        let sockets = vec![hold_back(TcpListener::from_std(listener)?)?];
        Self::tcp(&at, Bound { sockets, missing: Vec::new() }, Slots::of_process()?)
    }

    /// Takes over bound TCP listeners, if there are any.
    fn take(
        at: &Listen,
        given: Vec<std::net::TcpListener>,
        slots: Slots,
    ) -> io::Result<Option<Self>> {
        let take = |socket: std::net::TcpListener| {
            socket.set_nonblocking(true)?;
            hold_back(TcpListener::from_std(socket)?)
        };
        let sockets = given.into_iter().map(take).collect::<io::Result<Vec<_>>>()?;
        if sockets.is_empty() {
            return Ok(None);
        }
        Self::tcp(at, Bound { sockets, missing: Vec::new() }, slots).map(Some)
    }

    /// Takes the descriptors of its connections from these slots, instead of those that all of this
    /// process share.
    #[must_use]
    pub fn with_slots(self, slots: Slots) -> Self {
        Self { slots, ..self }
    }

    /// Returns the address as a user would write it.
    #[must_use]
    pub fn name(&self) -> String {
        self.parts().iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    }

    /// Returns the requested address, with the port that the system chose.
    #[must_use]
    pub fn at(&self) -> &Listen {
        &self.at
    }

    /// Returns each of its addresses.
    #[must_use]
    pub fn parts(&self) -> Vec<Listen> {
        match &self.at {
            Listen::Tcp(_) | Listen::Host(ListenHost::Zoned(..), _) | Listen::Unix(_) => {
                vec![self.at.clone()]
            }
            Listen::Host(..) => self.addresses.iter().copied().map(Listen::Tcp).collect(),
        }
    }

    /// Returns the addresses of its TCP sockets.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the requested addresses on which it does not listen, and the reasons. A family that
    /// this machine does not have is not included.
    pub fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.missing.iter().filter(|missing| !is_no_address(&missing.error))
    }

    /// Returns the next local connection. Pauses while descriptors are used up. Cancel-safe.
    pub async fn accept(&mut self) -> Stream {
        loop {
            match self.accept_waiting().await {
                Ok(Some(stream)) => return stream,
                // The connection has gone again.
                Ok(None) => {}
                Err(error) => self.pause.after(&error).await,
            }
        }
    }

    /// Waits for a connection, and then for a free descriptor.
    async fn accept_waiting(&mut self) -> io::Result<Option<Stream>> {
        if !self.accepted.is_empty() {
            let slot = take_slot(&self.slots, &mut self.pause).await;
            return Ok(self.accepted.pop().map(|stream| stream.with_slot(slot)));
        }
        let found = tokio::select! {
            biased;
            found = any_ready(&self.sockets, self.turn) => Some(found?),
            () = self.watch.lost(|| self.file.as_ref().map(SocketFile::place)),
                if self.file.is_some() => None,
        };
        let Some((index, mut ready)) = found else {
            self.listen_again();
            return Ok(None);
        };
        self.turn = index + 1;
        let slot = take_slot(&self.slots, &mut self.pause).await;
        let accepted = ready.try_io(|socket| accept(socket.as_fd()));
        let Ok(accepted) = accepted else { return Ok(None) };
        let (socket, peer) = accepted?;
        let stream = match &self.file {
            Some(_) => Stream::unix(UnixStream::from_std(socket.into())?),
            None => {
                let stream = TcpStream::from_std(socket.into())?;
                match peer {
                    Some(peer) => Stream::accepted(stream, peer),
                    None => Stream::prepared(stream),
                }
            }
        };
        Ok(Some(stream.with_slot(slot)))
    }
}

impl Listener {
    /// Binds the Unix socket whose file is gone again. The connections in the queue of the old one are
    /// served.
    fn listen_again(&mut self) {
        let Listen::Unix(path) = &self.at else { return };
        let bound = bind_unix(path).and_then(|(listener, file)| {
            let socket = readable(listener.into_std()?.into())?;
            Ok((socket, file))
        });
        match bound {
            Ok((socket, file)) => {
                self.take_queue();
                #[cfg(target_os = "linux")]
                self.keep_again(&socket, &file);
                (self.sockets, self.file) = (vec![socket], Some(file));
                warn!("the file of the socket {} was gone: it is there again", self.at);
            }
            Err(error) => {
                self.pause.warn(&format!("the file of the socket {} is gone: {error}", self.at));
            }
        }
    }

    /// Accepts the connections that wait at its sockets.
    fn take_queue(&mut self) {
        for socket in &self.sockets {
            while let Ok((socket, _)) = accept(socket.get_ref().as_fd()) {
                let stream = UnixStream::from_std(socket.into());
                self.accepted.extend(stream.ok().map(Stream::unix));
            }
        }
    }
}

/// Waits for a free descriptor.
async fn take_slot(slots: &Slots, pause: &mut AcceptPause) -> SlotGuard {
    match slots.try_take() {
        Some(slot) => slot,
        None => {
            pause.warn("all descriptors for sessions are in use");
            slots.take().await
        }
    }
}

#[cfg(test)]
mod tests;
