//! `etcp connect`: stdin and stdout as one session.

use std::convert::Infallible;
use std::fs::File;
use std::future::pending;
use std::io;
use std::time::Duration;

use eternaltcp::Session;
use eternaltcp::address::Target;
use eternaltcp::client::{Client, ClientConfig, ClientMonitor, OpenError};
use eternaltcp::control::{ProxyKind, Subject};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::stdio::dup2_stdout;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cli::{AccessArgs, ConnectArgs};
use crate::cproxy::client_config;
use crate::exit::{ExitError, of_client};
use crate::operator::Operator;
use crate::signals::{Hangup, Signals, Stop};
use crate::title::{PathTitle, TerminalTitle};
use crate::{runtime, stdio};

/// Time for the server to learn how the session ended, if it did not end in order.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(crate) fn run(args: ConnectArgs) -> Result<(), ExitError> {
    let name = format!("connect {}", std::process::id());
    let mut config = client_config(args.server, name)?;
    config.connect_timeout = Some(args.first_contact.connect_timeout);
    let about = args.target.as_ref().map_or("the default target".to_owned(), Target::to_string);
    let (target, operator) = (args.target, args.operator);
    carry(config, Carried { target, operator, role: ProxyKind::Connect, about, title: None })
}

/// The session of stdin and stdout, and the program that has it.
pub(crate) struct Carried {
    /// Its target; `None` for the server's default target.
    pub(crate) target: Option<Target>,
    pub(crate) operator: AccessArgs,
    pub(crate) role: ProxyKind,
    /// The purpose of the program, in a few words.
    pub(crate) about: String,
    /// The title of the terminal on which the session is shown.
    pub(crate) title: Option<TerminalTitle>,
}

/// Forwards stdin and stdout as the client's only session, and returns when the session ends.
pub(crate) fn carry(mut config: ClientConfig, carried: Carried) -> Result<(), ExitError> {
    config.ends_when_idle = true;
    let Carried { target, operator, role, about, title } = carried;
    let title = title.map(PathTitle::new);
    runtime::block_on(async {
        // ssh stops its ProxyCommand with SIGHUP.
        let signals = Signals::listen(Hangup::Ends)?;
        let mut client = Client::start(config).map_err(ExitError::failed)?;
        let subject = Subject::client(client.monitor()).in_role(role, Some(about));
        let operator = Operator::of_command(operator, subject, Vec::new())?;
        let session = match target {
            Some(target) => client.open(target).await,
            None => client.open_default().await,
        };
        let session = session.map_err(|error: OpenError| ExitError::failed(error))?;
        let end = serve(&mut client, session, signals, title).await;
        operator.end().await;
        match end {
            ConnectEnd::InOrder => Ok(()),
            ConnectEnd::Client(failure) => Err(failure),
            ConnectEnd::Stopped(stop) => {
                close(&mut client).await;
                Err(ExitError::Ended(stop.exit_code()))
            }
            ConnectEnd::Stdio(failure) => {
                // If there is a carrier, the server learns of the session's end from the stream
                // itself.
                let _ = timeout(LAST_WORDS, client.ended()).await;
                close(&mut client).await;
                Err(failure)
            }
        }
    })?
}

/// The end of the client's one session.
enum ConnectEnd {
    InOrder,
    /// The client has ended, for this reason.
    Client(ExitError),
    /// A signal arrived; the client still runs.
    Stopped(Stop),
    /// stdin or stdout failed; the client still runs.
    Stdio(ExitError),
}

/// Runs until the client has ended and everything that it delivered is written, or until a signal
/// arrives. If the session has not ended in order by then, it is reset, so that the server never takes
/// a truncated stream for a complete one.
async fn serve(
    client: &mut Client,
    mut session: Session,
    signals: Signals,
    title: Option<PathTitle>,
) -> ConnectEnd {
    let stop = signals.handle(client.monitor());
    let following = follow(title.clone(), client.monitor());
    let (tell_over, over) = oneshot::channel();
    let exchange =
        async { exchange(&mut session, over, title.as_ref()).await.map_err(ConnectEnd::Stdio) };
    let client = async { of_client(client.ended().await).map_err(ConnectEnd::Client) };
    let both = async {
        tokio::pin!(exchange, client);
        tokio::select! {
            result = &mut exchange => {
                let input = result?;
                client.await?;
                Ok(input)
            }
            result = &mut client => {
                // Delivered data may still be on its way to stdout.
                drop(tell_over);
                let input = exchange.await?;
                result?;
                Ok(input)
            }
        }
    };
    let result = tokio::select! {
        stop = stop => Err(ConnectEnd::Stopped(stop)),
        result = both => result,
        never = following => match never {},
    };
    match result {
        Err(ended) => {
            session.abort();
            ended
        }
        Ok(StdinRead::Whole) => ConnectEnd::InOrder,
        Ok(StdinRead::Unreadable) => ConnectEnd::Client(ExitError::Failed(
            "stdin is not open for reading, and is treated as empty: give </dev/null".to_owned(),
        )),
    }
}

/// Keeps the title of the terminal right. Never ends.
async fn follow(title: Option<PathTitle>, client: ClientMonitor) -> Infallible {
    if let Some(title) = title {
        title.follow(client).await;
    }
    pending().await
}

async fn close(client: &mut Client) {
    client.close().await;
    client.ended().await;
}

/// The result of a read from stdin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StdinRead {
    Whole,
    /// stdin cannot be read at all.
    Unreadable,
}

/// Moves bytes both ways until the session ends, or stdin or stdout fails. `over` reports that the
/// client, and the session with it, has ended.
async fn exchange(
    session: &mut Session,
    over: oneshot::Receiver<()>,
    title: Option<&PathTitle>,
) -> Result<StdinRead, ExitError> {
    if stdio::is_stdin_terminal() {
        // Before the client is admitted, typed text may be a passphrase or an answer to a question.
        // The output task also reports a session that fails.
        let _ = session.connected().await;
    }
    let (mut from, mut to) = split(session);
    let mut read = StdinRead::Whole;
    let (input, output) = (send_input(&mut to), write_output(&mut from, title));
    tokio::pin!(input, output);
    tokio::select! {
        result = &mut output => match result? {
            // The output ended in order; the input continues.
            StdoutEnd::Ended => tokio::select! {
                result = input => read = result?,
                _ = over => {}
            },
            StdoutEnd::Reset => {}
        },
        result = &mut input => {
            read = result?;
            output.await?;
        }
    }
    Ok(read)
}

async fn send_input(to: &mut (impl AsyncWrite + Unpin)) -> Result<StdinRead, ExitError> {
    let mut buffer = Vec::new();
    loop {
        buffer = match stdio::read_chunk(buffer).await {
            Ok(chunk) => chunk,
            Err(error) if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) => {
                // nohup(1) leaves such a stdin. No data can have been lost.
                let _ = to.shutdown().await;
                return Ok(StdinRead::Unreadable);
            }
            Err(error) => {
                return Err(ExitError::Failed(format!(
                    "cannot read stdin: {error}; the connection was reset"
                )));
            }
        };
        // The output task also reports a session that was reset.
        if buffer.is_empty() {
            let _ = to.shutdown().await;
            return Ok(StdinRead::Whole);
        }
        if to.write_all(&buffer).await.is_err() {
            return Ok(StdinRead::Whole);
        }
    }
}

/// The end of the direction to stdout.
enum StdoutEnd {
    /// The server program ended its stream.
    Ended,
    /// The session was reset; the end of the client gives the reason.
    Reset,
}

async fn write_output(
    from: &mut (impl AsyncRead + Unpin),
    title: Option<&PathTitle>,
) -> Result<StdoutEnd, ExitError> {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        buffer.reserve(stdio::CHUNK);
        match from.read_buf(&mut buffer).await {
            Ok(0) => {
                end_output();
                return Ok(StdoutEnd::Ended);
            }
            Ok(length) => {
                if let Some(title) = title {
                    title.before_output(length);
                }
            }
            Err(_) => return Ok(StdoutEnd::Reset),
        }
        buffer = stdio::write_chunk(buffer).await.map_err(|error| output_failed(&error))?;
    }
}

/// Returns the failure for an error on stdout. If the reader is gone, the program exits silently
/// with the code of a program that SIGPIPE ends.
fn output_failed(error: &io::Error) -> ExitError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ExitError::BROKEN_PIPE,
        _ => ExitError::Failed(format!(
            "cannot write to stdout: {error}; the connection was reset, and its output is incomplete"
        )),
    }
}

/// Shows the end of the stream to the reader of stdout while the input may continue: ssh waits for
/// it before it hangs up.
fn end_output() {
    // A socket that is both stdin and stdout stays open; other files have no halves.
    if stdio::are_one() {
        let _ = shutdown(rustix::stdio::stdout(), Shutdown::Write);
    }
    if let Ok(nowhere) = File::options().write(true).open("/dev/null") {
        let _ = dup2_stdout(nowhere);
    }
}
