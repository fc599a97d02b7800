use std::future::poll_fn;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::task::Poll;

use eternaltcp_proto::kept::{Kept, SocketId};
use eternaltcp_proto::{Config, Side};
use eternaltcp_sys::read_progress;
use eternaltcp_sys::testport::until_blocking;
use socket2::SockRef;

use super::*;
use crate::net::slots::Slots;
use crate::recovery::RecoveredTunnel;
use crate::store::{Size, StoreMemory};

/// The call on a session's socket in which a process dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastCall {
    Read,
    Write,
}

/// The last action of the other end of the connection before the process dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastAction {
    None,
    End,
    Reset,
}

/// Leaves a session in a store as a process does that dies in a call on the session's socket.
/// Returns the socket, and its other end if it is open.
fn leave(
    memory: &StoreMemory,
    call: LastCall,
    action: LastAction,
) -> (TcpStream, Option<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (here, _) = listener.accept().unwrap();
    here.set_nonblocking(true).unwrap();
    let mut kept = Kept::new(memory.new_tunnel().unwrap());
    let mut tunnel = Tunnel::new(Side::Client, Config::default());
    let id = tunnel.open(Bytes::from_static(b"target:1")).unwrap();
    let metadata = Metadata::offered(Bytes::from_static(b"target:1"));
    kept.store_mut().set_session_note(id, |writer| metadata.encode(writer, None));
    kept.adopt(id, SocketId { descriptor: 3, cookie: 4 });
    let _ = kept.commit(&mut tunnel);
    let there = match action {
        LastAction::None => Some(there),
        LastAction::End => {
            there.shutdown(Shutdown::Write).unwrap();
            Some(there)
        }
        LastAction::Reset => {
            SockRef::from(&there).set_linger(Some(Duration::ZERO)).unwrap();
            drop(there);
            let is_closed = || read_progress(here.as_fd()).unwrap().unwrap().is_closed;
            until_blocking("the reset", is_closed);
            None
        }
    };
    // The process dies before it records the result of the call.
    match call {
        LastCall::Read => drop(kept.begin_read(id)),
        LastCall::Write => drop(kept.begin_write(id)),
    }
    if action == LastAction::Reset {
        // The kernel returns the error once.
        assert!(here.take_error().unwrap().is_some());
    }
    (here, there)
}

/// Returns how the next process serves the socket, once it is ready if it will be.
async fn serve_again(memory: &StoreMemory, socket: TcpStream, will_be_ready: bool) -> Served {
    let [tables, payload] = memory.files().map(|file| file.try_clone_to_owned().unwrap());
    let next = StoreMemory::open(tables, payload).unwrap();
    let (kept, recovered) = Kept::recover(next.recover(drop).remove(0)).unwrap();
    let id = recovered.sessions[0].detached.state.id;
    let mut found = RecoveredTunnel {
        kept: Box::new(kept),
        recovered,
        sockets: BTreeMap::from([(id, socket.into())]),
        note: Bytes::new(),
        detached_for: Duration::ZERO,
    };
    found.judge_suspects();
    let (mut tunnel, mut sockets) = found.restore(Config::default(), &Slots::new(1, 0)).unwrap();
    let Sockets { locals, mirror, ready, .. } = &mut sockets;
    let local = locals.get_mut(&id).unwrap();
    let mut serve = || loop {
        match local.serve(Time::ZERO, &mut tunnel, mirror) {
            Served::More => {}
            served => return served,
        }
    };
    let served = serve();
    if !will_be_ready {
        return served;
    }
    let next =
        |cx: &mut Context<'_>| ready.poll_next(cx.waker()).map_or(Poll::Pending, Poll::Ready);
    assert_eq!(poll_fn(next).await, id);
    serve()
}

#[tokio::test]
async fn a_reset_whose_error_the_dead_process_has_taken_is_no_end_of_stream() {
    for call in [LastCall::Read, LastCall::Write] {
        for action in [LastAction::None, LastAction::End, LastAction::Reset] {
            let size = Size {
                tunnels: 1,
                sessions: 1,
                pieces: 8,
                packets: 8,
                payload: 1 << 20,
                listeners: 1,
            };
            let memory = StoreMemory::create(&size).unwrap();
            let (socket, _there) = leave(&memory, call, action);
            let served = serve_again(&memory, socket, action != LastAction::None).await;
            let is_reset = matches!(served, Served::Broken(_));
            assert_eq!(is_reset, action == LastAction::Reset, "{call:?}, {action:?}");
        }
    }
}
