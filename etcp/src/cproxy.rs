//! `etcp cproxy`.

use eternaltcp::address::{Listen, Target};
use eternaltcp::client::{Client, ClientConfig, Opener, Pins, RemoteForward};
use eternaltcp::control::Subject;
use eternaltcp::{Listener, Slots, this_instance};
use tracing::info;

use crate::cli::{CproxyArgs, OperatorArgs, ServerArgs};
use crate::credentials::Credentials;
use crate::exit::{Failure, of_client};
use crate::operator::Operator;
use crate::signals;
use crate::sproxy::tunnel_config;

/// Where cproxy listens unless told otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:5200";

/// A listener and where its sessions go; `None`: the server's default target.
type Rule = (Listen, Option<Target>);

/// What a cproxy is for.
struct Forwards {
    /// Those whose listeners are here.
    rules: Vec<Rule>,
    /// Those whose listeners are at the server.
    remotes: Vec<RemoteForward>,
}

pub(crate) fn run(args: CproxyArgs) -> Result<(), Failure> {
    let rules = rules(&args)?;
    let remotes = remotes(&args)?;
    let local = rules.iter().map(|(listen, _)| listen.to_string());
    let remote = remotes.iter().map(|remote| format!("R:{}", remote.forward.listen));
    let name = local.chain(remote).collect::<Vec<_>>().join(",");
    let mut config = client_config(args.server, name)?;
    (config.max_waiting, config.wait) = (args.max_waiting, args.wait);
    let slots = Slots::from_limit().map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let result = runtime.block_on(serve(config, Forwards { rules, remotes }, slots, args.operator));
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    result
}

fn rules(args: &CproxyArgs) -> Result<Vec<Rule>, Failure> {
    let mut rules: Vec<Rule> = args.listen.iter().map(|listen| (listen.clone(), None)).collect();
    let forwards = args.forward.iter().cloned();
    rules.extend(forwards.map(|forward| (forward.listen, Some(forward.target))));
    if rules.is_empty() && args.remote.is_empty() {
        rules.push((DEFAULT_LISTEN.parse().map_err(Failure::failed)?, None));
    }
    Ok(rules)
}

/// The forwards whose listeners are at the server, each at another address.
fn remotes(args: &CproxyArgs) -> Result<Vec<RemoteForward>, Failure> {
    let mut remotes: Vec<RemoteForward> = Vec::new();
    for forward in args.remote.iter().cloned() {
        let is_chosen = matches!(forward.listen, Listen::Tcp(address) if address.port() == 0);
        if !is_chosen && remotes.iter().any(|other| other.forward.listen == forward.listen) {
            let listen = &forward.listen;
            return Err(Failure::Usage(format!("-R is given twice for {listen}: leave one out")));
        }
        remotes.push(RemoteForward { forward, send_proxy: args.send_proxy });
    }
    Ok(remotes)
}

async fn serve(
    config: ClientConfig,
    forwards: Forwards,
    slots: Slots,
    operator: OperatorArgs,
) -> Result<(), Failure> {
    let stop = signals::stop()?;
    let mut listeners = Vec::new();
    for (listen, target) in forwards.rules {
        let listener = Listener::bind(&listen, slots.clone())
            .map_err(|error| Failure::Failed(format!("cannot listen on {listen}: {error}")))?;
        info!("listening on {}", listener.name());
        listeners.push((listener, target));
    }
    let client = Client::start(config).map_err(Failure::failed)?;
    let monitor = client.monitor();
    let names = listeners.iter().map(|(listener, _)| listener.name()).collect();
    let operator = Operator::start(operator, Subject::Client(monitor.clone()), names)?;
    for (listener, target) in listeners {
        let (accepting, draining) = (accept(listener, target, client.opener()), monitor.draining());
        tokio::spawn(async move {
            tokio::select! {
                () = accepting => {}
                () = draining => {}
            }
        });
    }
    for remote in forwards.remotes {
        // Where the server listens is told in the log.
        let _ = client.forward_remotely(remote, slots.clone());
    }
    let end = signals::run_client(client, stop).await;
    operator.end().await;
    of_client(end?)
}

/// Hands over every connection that `listener` gets.
pub(crate) async fn accept(mut listener: Listener, target: Option<Target>, opener: Opener) {
    loop {
        let stream = listener.accept().await;
        if !opener.carry(stream, target.as_ref()).await {
            return;
        }
    }
}

/// What every kind of client needs, of which `name` is the default name.
pub(crate) fn client_config(args: ServerArgs, name: String) -> Result<ClientConfig, Failure> {
    let Credentials { servers, keys, trust } = Credentials::from_args(&args)?;
    let instance = this_instance(args.name.unwrap_or(name));
    let mut config = ClientConfig::new(servers, keys, trust, instance);
    config.pins = Pins { address: args.bind_address, interface: args.bind_interface };
    config.mptcp = args.mptcp.into();
    config.tunnel = tunnel_config(&args.tunnel)?;
    config.give_up_after = args.give_up_after;
    config.spare = args.spare;
    Ok(config)
}
