//! The relay: both ends of its tunnels, from what the process before it has left.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use eternaltcp::store::{StoreMemory, TunnelStore};
use eternaltcp_proto::kept::{Call, Kept, Recovered, SocketId, Store};
use eternaltcp_proto::{
    Acceptor, Config, Delivery, Event, Instance, Intent, Progress, READ_SIZE, SendPhase, SessionId,
    Side, Time, Transmit, Tunnel, TunnelId,
};
use eternaltcp_sys::{Words, cookie};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv};

use super::applications::SESSIONS;

/// The maximum number of bytes that are passed on at once.
const BATCH: usize = 128 * 1024;

/// The positions of the counters, which outlive the processes.
pub(crate) struct CounterPlaces;

impl CounterPlaces {
    pub(crate) const LENGTH: usize = 64;
    pub(crate) const READS: usize = 0;
    pub(crate) const WRITES: usize = 8;
    pub(crate) const COMMITS: usize = 16;
    /// Commits under way, by thread.
    const COMMITTING: usize = 24;
}

/// Runs until it is killed. Returns only if something is wrong.
pub(crate) fn relay(
    memory: &StoreMemory,
    sockets: &[OwnedFd],
    threads: usize,
    is_control: bool,
    tally: &Words,
) -> i32 {
    let interrupted = tally.word(CounterPlaces::COMMITTING).swap(0, Ordering::Relaxed);
    tally.word(CounterPlaces::COMMITS).fetch_add(interrupted, Ordering::Relaxed);
    let mut found: Vec<Vec<TunnelStore>> = (0..threads).map(|_| Vec::new()).collect();
    for mut store in memory.recover(drop) {
        let contents = store.contents();
        if let Some(slot) = contents.slot.as_ref().filter(|slot| slot.count.is_some()) {
            let counts = contents.counts.get(&slot.session).copied().unwrap_or_default();
            let at = match slot.call {
                Call::Read(before) if before == counts.consumed => Some(CounterPlaces::READS),
                Call::Write(before) if before == counts.written => Some(CounterPlaces::WRITES),
                _ => None,
            };
            at.map(|at| tally.word(at).fetch_add(1, Ordering::Relaxed));
        }
        let thread = contents.tunnel.and_then(|tunnel| tunnel.id).map_or(0, |id| id.0[0]);
        found[usize::from(thread)].push(store);
    }
    let results = std::thread::scope(|scope| {
        let run = |(thread, stores)| {
            let mine = (0..SESSIONS).filter(|it| it % threads == thread).collect();
            let relay = RelayWorker::new(memory, sockets, thread, mine, stores, is_control, tally);
            move || relay.and_then(RelayWorker::run)
        };
        if threads == 1 {
            let stores = found.remove(0);
            return vec![run((0, stores))()];
        }
        let all = found.into_iter().enumerate().map(|it| scope.spawn(run(it)));
        let all: Vec<_> = all.collect();
        all.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    for error in results.into_iter().filter_map(Result::err) {
        report(&error);
    }
    3
}

fn report(error: &io::Error) {
    eprintln!("the relay: {error}");
}

/// One end of a tunnel, and its local sockets.
struct RelayEndpoint<'a> {
    tunnel: Tunnel,
    kept: Kept<TunnelStore>,
    /// The sockets, and whether they were read to their end.
    sockets: BTreeMap<SessionId, (BorrowedFd<'a>, bool)>,
    is_control: bool,
    tally: &'a Words,
}

struct RelayWorker<'a> {
    client: RelayEndpoint<'a>,
    server: RelayEndpoint<'a>,
    sockets: &'a [OwnedFd],
    began: Instant,
}

fn other(message: impl Into<String>) -> io::Error {
    io::Error::other(message.into())
}

/// Finds the sockets of the sessions that a store has.
fn recovered_sockets<'a>(
    kept: &mut Kept<TunnelStore>,
    recovered: &Recovered,
    sockets: &'a [OwnedFd],
) -> io::Result<BTreeMap<SessionId, (BorrowedFd<'a>, bool)>> {
    let mut all = BTreeMap::new();
    for session in &recovered.sessions {
        if session.is_damaged {
            return Err(other(format!("a session is damaged: {session:?}")));
        }
        let state = &session.detached.state;
        if session.is_suspect {
            kept.judge(state.id, false);
        }
        let Some(id) = session.socket else { continue };
        let socket = sockets.iter().find(|it| it.as_raw_fd() == id.descriptor);
        let socket = socket.ok_or_else(|| other("a socket is missing"))?.as_fd();
        if cookie(socket)? != id.cookie {
            return Err(other("it is another socket"));
        }
        all.insert(state.id, (socket, state.send.phase != SendPhase::Open));
    }
    Ok(all)
}

impl<'a> RelayWorker<'a> {
    fn new(
        memory: &StoreMemory,
        sockets: &'a [OwnedFd],
        thread: usize,
        mine: Vec<usize>,
        stores: Vec<TunnelStore>,
        is_control: bool,
        tally: &'a Words,
    ) -> io::Result<Self> {
        let mut ends = BTreeMap::new();
        for store in stores {
            let (mut kept, recovered) = Kept::recover(store).ok_or_else(|| other("no tunnel"))?;
            let all = recovered_sockets(&mut kept, &recovered, sockets)?;
            let tunnel = kept.restore(Config::default(), &recovered).map_err(io::Error::other)?;
            let end = RelayEndpoint { tunnel, kept, sockets: all, is_control, tally };
            ends.insert(recovered.tunnel.side == Side::Server, end);
        }
        let is_new = ends.is_empty();
        let mut end = |side| {
            let found = ends.remove(&(side == Side::Server)).map(Ok);
            found.unwrap_or_else(|| {
                let store = memory.new_tunnel().ok_or_else(|| other("the store is full"))?;
                let (tunnel, kept) = (Tunnel::new(side, Config::default()), Kept::new(store));
                Ok(RelayEndpoint { tunnel, kept, sockets: BTreeMap::new(), is_control, tally })
            })
        };
        let (client, server): (io::Result<_>, io::Result<_>) =
            (end(Side::Client), end(Side::Server));
        let mut relay = Self { client: client?, server: server?, sockets, began: Instant::now() };
        relay.attach(thread)?;
        if is_new {
            for index in mine {
                let target = Bytes::copy_from_slice(&(index as u64).to_le_bytes());
                let id = relay.client.tunnel.open(target).map_err(io::Error::other)?;
                relay.client.adopt(id, sockets[2 * index].as_fd())?;
            }
        }
        Ok(relay)
    }

    fn now(&self) -> Time {
        Time::new(self.began.elapsed())
    }

    fn attach(&mut self, thread: usize) -> io::Result<()> {
        let (now, enrol) = (self.now(), Bytes::from_static(b"key"));
        self.client.tunnel.attach(now, || Intent::New { enrol, instance: Instance::default() });
        let mut acceptor = Acceptor::new(2 * SESSIONS);
        acceptor.handle_input(self.client.transmit(now));
        while acceptor.poll().map_err(io::Error::other)? != Progress::Complete {}
        let request = acceptor.into_request().ok_or_else(|| other("no whole request"))?;
        let id = TunnelId([thread as u8; 16]);
        self.server.tunnel.handle_attach(now, id, request).map(drop).map_err(io::Error::other)
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let now = self.now();
            let mut is_busy = false;
            for end in [&mut self.client, &mut self.server] {
                is_busy |= end.serve(now)?;
                if end.tunnel.poll_timeout().is_some_and(|(at, _)| at <= now) {
                    end.tunnel.handle_timeout(now);
                }
            }
            let there = self.client.transmit(now);
            let back = self.server.transmit(now);
            is_busy |= !there.is_empty() || !back.is_empty();
            self.server.receive(now, there)?;
            self.client.receive(now, back)?;
            self.handle_events(now)?;
            if !is_busy {
                self.client.wait(&self.server);
            }
        }
    }

    fn handle_events(&mut self, now: Time) -> io::Result<()> {
        while let Some(event) = self.client.tunnel.poll_event() {
            if let Event::CarrierDead(_) | Event::Closed(_) | Event::Refused(_) = event {
                return Err(other(format!("{event:?}")));
            }
        }
        while let Some(event) = self.server.tunnel.poll_event() {
            let Event::Opened(id) = event else { continue };
            let target = self.server.tunnel.offered_target(id);
            let index = target.and_then(|it| Some(u64::from_le_bytes(it[..].try_into().ok()?)));
            let Some(index) = index else { continue };
            let socket = &self.sockets[2 * index as usize + 1];
            self.server.adopt(id, socket.as_fd())?;
            self.server.tunnel.accept(now, id);
        }
        Ok(())
    }
}

impl<'a> RelayEndpoint<'a> {
    fn adopt(&mut self, id: SessionId, socket: BorrowedFd<'a>) -> io::Result<()> {
        let named = SocketId { descriptor: socket.as_raw_fd(), cookie: cookie(socket)? };
        self.kept.adopt(id, named);
        let _ = self.kept.commit(&mut self.tunnel);
        self.sockets.insert(id, (socket, false));
        Ok(())
    }

    /// Reads what the other end has sent.
    fn receive(&mut self, now: Time, bytes: Bytes) -> io::Result<()> {
        let Some(id) = self.tunnel.lead() else { return Ok(()) };
        self.tunnel.handle_input(now, id, bytes).map_err(io::Error::other)
    }

    /// Returns the bytes to send, which the store has by then.
    fn transmit(&mut self, now: Time) -> Bytes {
        let mut bytes = Vec::new();
        while bytes.len() < BATCH
            && let Some(id) = self.tunnel.lead()
            && let Some(Transmit { header, payload, .. }) = self.tunnel.poll_transmit(now, id)
        {
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(&payload);
        }
        if !bytes.is_empty() {
            self.tally.word(CounterPlaces::COMMITTING).fetch_add(1, Ordering::Relaxed);
            let _ = self.kept.commit(&mut self.tunnel);
            self.tally.word(CounterPlaces::COMMITTING).fetch_sub(1, Ordering::Relaxed);
        }
        bytes.into()
    }

    /// Moves what is ready between the sockets and the tunnel. Returns whether anything moved.
    fn serve(&mut self, now: Time) -> io::Result<bool> {
        let ids: Vec<_> = self.sockets.keys().copied().collect();
        let mut is_busy = false;
        for id in ids {
            is_busy |= self.write(now, id)?;
            is_busy |= self.read(now, id)?;
            if !self.tunnel.has_session(id) {
                self.sockets.remove(&id);
            }
        }
        Ok(is_busy)
    }

    fn write(&mut self, now: Time, id: SessionId) -> io::Result<bool> {
        let Some((socket, _)) = self.sockets.get(&id).copied() else { return Ok(false) };
        match self.tunnel.delivery(id) {
            Delivery::Nothing => return Ok(false),
            Delivery::Data(_) => {}
            Delivery::End => {
                rustix::net::shutdown(socket, rustix::net::Shutdown::Write)?;
                self.tunnel.delivered_ending(now, id);
                return Ok(true);
            }
            Delivery::Reset(reset) => return Err(other(format!("{id:?}: {reset}"))),
        }
        let parts: Vec<_> = self.tunnel.deliverable(id).take(32).map(IoSlice::new).collect();
        let writing = self.kept.begin_write(id);
        let taken = if self.is_control {
            send(socket, &parts)
        } else {
            self.kept.store_mut().send(socket, &parts)
        };
        let taken = match taken {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            taken => taken?,
        };
        self.kept.end_write(writing, taken);
        self.tunnel.delivered(now, id, taken);
        Ok(taken > 0)
    }

    fn read(&mut self, now: Time, id: SessionId) -> io::Result<bool> {
        let Some((socket, is_read_out)) = self.sockets.get(&id).copied() else { return Ok(false) };
        let room = self.tunnel.capacity(id).min(READ_SIZE);
        if is_read_out || room == 0 {
            return Ok(false);
        }
        let reading = self.kept.begin_read(id);
        let read = if self.is_control {
            receive(socket, room)
        } else {
            let store = self.kept.store_mut();
            store.receive(socket, room).map(|count| store.landed(count))
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.kept.end_read(reading, &Bytes::new());
                Ok(false)
            }
            read => {
                let bytes = read?;
                self.kept.end_read(reading, &bytes);
                if bytes.is_empty() {
                    self.tunnel.finish(now, id);
                    self.sockets.insert(id, (socket, true));
                } else {
                    self.tunnel.write(now, id, bytes);
                }
                Ok(true)
            }
        }
    }

    /// Waits for a moment, or until a socket has something.
    fn wait(&self, other: &Self) {
        let all = self.sockets.values().chain(other.sockets.values());
        let all = all.filter(|(_, is_read_out)| !is_read_out);
        let mut all: Vec<_> =
            all.map(|(it, _)| PollFd::from_borrowed_fd(*it, PollFlags::IN)).collect();
        let _ = poll(&mut all, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000 }));
    }
}

/// Sends without a slot.
fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let first = parts.first().map_or(&[][..], |part| part);
    Ok(rustix::net::send(socket, first, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// Receives without a slot.
fn receive(socket: BorrowedFd<'_>, room: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; room];
    let count = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT)?.0;
    buffer.truncate(count);
    Ok(buffer.into())
}
