//! A proxy as a service: readiness, and a terminal.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::program::{RunningProgram, etcp};
use etcp_testkit::loopback::{Echo, LoopbackSite};
use rustix::net::sockopt::{set_socket_passcred, set_socket_timeout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Receives a message: its text, and the process that sent it.
fn receive(socket: &UnixDatagram) -> (String, u32) {
    let mut text = [0; 100];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(&mut text)];
    let received = recvmsg(socket, buffers, &mut ancillary, RecvFlags::empty());
    let length = received.expect("somebody says something").bytes;
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(from) => Some(from.pid),
        _ => None,
    });
    let sender = sender.expect("the kernel tells it").as_raw_nonzero().get().unsigned_abs();
    (String::from_utf8_lossy(&text[..length]).into_owned(), sender)
}

#[test]
fn the_main_process_tells_the_service_manager_that_the_proxy_listens() {
    for flags in [&[][..], &["--no-holder"]] {
        let site = LoopbackSite::new();
        let place = site.path().join("notify");
        let manager = UnixDatagram::bind(&place).expect("the folder is ours");
        set_socket_passcred(&manager, true).expect("an option is set");
        let patience = Some(etcp_testkit::loopback::PATIENCE);
        set_socket_timeout(&manager, rustix::net::sockopt::Timeout::Recv, patience)
            .expect("an option is set");
        let target = Echo::start().address.to_string();
        let port = HeldPort::take();
        let listen = format!("127.0.0.1:{}", port.number());
        TcpStream::connect(&listen).expect_err("nobody listens yet");
        let mut command = etcp(site.path(), ["sproxy", "--listen", &listen, "--target"]);
        command.arg(target).arg("--identity").arg(site.server_key());
        command.arg("--authorized-keys").arg(site.authorized_keys()).args(flags);
        command.env("NOTIFY_SOCKET", &place);
        let program = RunningProgram::start("sproxy", site.path(), command);
        let (said, sender) = receive(&manager);
        assert_eq!((said.as_str(), sender), ("READY=1", program.id()));
        TcpStream::connect(&listen).expect("it listens by then");
        assert_eq!(program.count(&format!("listening on {listen}")), 1, "and has said so");
    }
}
