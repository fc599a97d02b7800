//! `etcp connect`: stdin and stdout as one session.

use std::fs::File;

use eternaltcp::Session;
use eternaltcp::address::Target;
use eternaltcp::client::{Client, ClientConfig, OpenError};
use rustix::net::{Shutdown, shutdown};
use rustix::stdio::dup2_stdout;
use tokio::io::{
    self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split, stdin,
    stdout,
};
use tokio::task::AbortHandle;

use crate::cli::ConnectArgs;
use crate::cproxy::client_config;
use crate::exit::{Failure, of_client};
use crate::{runtime, signals};

/// Bytes moved at once between stdio and the session.
const CHUNK: usize = 64 * 1024;

pub(crate) fn run(args: ConnectArgs) -> Result<(), Failure> {
    let name = format!("connect {}", std::process::id());
    let mut config = client_config(args.server, name)?;
    config.connect_timeout = Some(args.connect_timeout);
    carry(config, args.target)
}

/// Carries stdin and stdout as the one session of a client, and ends with it.
pub(crate) fn carry(mut config: ClientConfig, target: Option<Target>) -> Result<(), Failure> {
    config.ends_when_idle = true;
    runtime::block_on(async {
        let stop = signals::stop_of_child()?;
        let client = Client::start(config).map_err(Failure::failed)?;
        let session = match target {
            Some(target) => client.open(target).await,
            None => client.open_default().await,
        };
        let (from, to) = split(session.map_err(|error: OpenError| Failure::failed(error))?);
        let input = tokio::spawn(send_input(to)).abort_handle();
        let output = tokio::spawn(write_output(from, input));
        let end = signals::run_client(client, stop).await?;
        // What the session delivered is still on its way to stdout.
        output.await.map_err(|_| Failure::Failed("cannot write to stdout".to_owned()))?;
        of_client(end)
    })?
}

async fn send_input(mut to: WriteHalf<Session>) {
    // An input that fails has ended, whatever the reason. A session that was
    // reset tells it to the output too.
    let _ = copy(&mut stdin(), &mut to).await;
    let _ = to.shutdown().await;
}

async fn write_output(mut from: ReadHalf<Session>, input: AbortHandle) {
    match copy(&mut from, &mut stdout()).await {
        Ok(()) => end_output(),
        // Nobody takes the output, or nothing comes any more: with the input's
        // half the session is dropped, and the server learns of it.
        Err(_) => input.abort(),
    }
}

/// Shows whoever reads stdout its end, while the input may go on: ssh waits for
/// it before it hangs up.
fn end_output() {
    // One socket may be both stdin and stdout; anything else has no halves.
    let _ = shutdown(std::io::stdout(), Shutdown::Write);
    if let Ok(nowhere) = File::options().write(true).open("/dev/null") {
        let _ = dup2_stdout(nowhere);
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.flush().await,
            count => {
                to.write_all(&buffer[..count]).await?;
                to.flush().await?;
            }
        }
    }
}
