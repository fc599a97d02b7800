//! `etcp connect`: stdin and stdout as one session.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use eternaltcp::Stream;
use eternaltcp::client::Client;

use crate::cli::ConnectArgs;
use crate::cproxy::client_config;
use crate::exit::{Failure, of_client};
use crate::signals;

/// Bytes moved at once between stdio and the session.
const CHUNK: usize = 64 * 1024;

pub(crate) fn run(args: ConnectArgs) -> Result<(), Failure> {
    let name = format!("connect {}", std::process::id());
    let mut config = client_config(args.server, name)?;
    config.connect_timeout = Some(args.connect_timeout);
    config.ends_when_idle = true;
    let (ours, theirs) = UnixStream::pair().map_err(Failure::failed)?;
    let output = start_stdio(&ours).map_err(Failure::failed)?;
    drop(ours);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let result = runtime.block_on(async {
        let stop = signals::stop()?;
        theirs.set_nonblocking(true).map_err(Failure::failed)?;
        let stream = tokio::net::UnixStream::from_std(theirs).map_err(Failure::failed)?;
        let client = Client::start(config).map_err(Failure::failed)?;
        client.opener().carry(Stream::unix(stream), args.target.as_ref()).await;
        of_client(signals::run_client(client, stop).await?)
    });
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    // What the session delivered is still on its way to stdout.
    if output.join().is_err() {
        return Err(Failure::Failed("cannot write to stdout".to_owned()));
    }
    result
}

/// Starts the two threads that move bytes; the one for stdout is returned.
/// Blocking threads serve every kind of stdio: pipes, terminals and files.
fn start_stdio(session: &UnixStream) -> io::Result<JoinHandle<()>> {
    let (mut to, mut from) = (session.try_clone()?, session.try_clone()?);
    let mut input = File::from(rustix::stdio::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(rustix::stdio::stdout().as_fd().try_clone_to_owned()?);
    thread::spawn(move || {
        // An input that fails has ended, whatever the reason.
        let _ = copy(&mut input, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    Ok(thread::spawn(move || {
        if copy(&mut from, &mut output).is_err() {
            // Nobody takes the output: the session learns it as a closed socket.
            let _ = from.shutdown(Shutdown::Both);
        }
    }))
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
