//! `etcp cproxy`.

use eternaltcp::address::{Listen, Target};
use eternaltcp::client::{Client, ClientConfig, Opener, Pins};
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

pub(crate) fn run(args: CproxyArgs) -> Result<(), Failure> {
    let rules = rules(&args)?;
    let name = rules.iter().map(|(listen, _)| listen.to_string()).collect::<Vec<_>>().join(",");
    let mut config = client_config(args.server, name)?;
    (config.max_waiting, config.wait) = (args.max_waiting, args.wait);
    let slots = Slots::from_limit().map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let result = runtime.block_on(serve(config, rules, slots, args.operator));
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    result
}

fn rules(args: &CproxyArgs) -> Result<Vec<Rule>, Failure> {
    let mut rules: Vec<Rule> = args.listen.iter().map(|listen| (listen.clone(), None)).collect();
    let forwards = args.forward.iter().cloned();
    rules.extend(forwards.map(|forward| (forward.listen, Some(forward.target))));
    if rules.is_empty() {
        rules.push((DEFAULT_LISTEN.parse().map_err(Failure::failed)?, None));
    }
    Ok(rules)
}

async fn serve(
    config: ClientConfig,
    rules: Vec<Rule>,
    slots: Slots,
    operator: OperatorArgs,
) -> Result<(), Failure> {
    let stop = signals::stop()?;
    let mut listeners = Vec::new();
    for (listen, target) in rules {
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
