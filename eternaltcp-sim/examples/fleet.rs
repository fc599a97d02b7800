//! Runs incidents of a large fleet on virtual time. `--help` lists its options.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::process::ExitCode;
use std::time::Duration;

use eternaltcp_sim::fleet::{Fleet, FleetPlan, Incident};

const USAGE: &str = "\
Runs incidents that end the carriers of many tunnels of a fleet at once, and
prints how many handshakes met at one node, and when all tunnels had carriers.

Usage: fleet [--nodes N] [--tunnels N] [--max-startups N] [--seed N]

  --nodes N         the number of nodes (default 1000)
  --tunnels N       the number of tunnels of each node (default 1000)
  --max-startups N  the most handshakes in progress at a node (default 1024)
  --seed N          the seed of all that is left to chance (default 1)
  -h, --help        print this text

Exits with 0 if all tunnels had carriers in the end, and with 2 if the command
line is wrong.";

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<FleetPlan>, String> {
    let incident = Incident::UpgradeOfAll;
    let mut plan = FleetPlan { nodes: 1000, tunnels: 1000, max_startups: 1024, incident, seed: 1 };
    while let Some(arg) = args.next() {
        if matches!(arg.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let value = args.next().and_then(|text| text.parse::<u32>().ok());
        let value = value.filter(|value| *value > 0);
        let value = value.ok_or_else(|| format!("{arg}: expected a number above zero"))?;
        match arg.as_str() {
            "--nodes" => plan.nodes = value,
            "--tunnels" => plan.tunnels = value,
            "--max-startups" => plan.max_startups = value as usize,
            "--seed" => plan.seed = value.into(),
            _ => return Err(format!("{arg}: no such option")),
        }
    }
    match plan.nodes.checked_mul(plan.tunnels) {
        Some(_) if plan.nodes >= 4 => Ok(Some(plan)),
        Some(_) => Err("a fleet has 4 nodes at least".to_owned()),
        None => Err("too many tunnels".to_owned()),
    }
}

fn main() -> ExitCode {
    let plan = match parse(std::env::args().skip(1)) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}; see --help");
            return ExitCode::from(2);
        }
    };
    println!("{} nodes with {} tunnels each", plan.nodes, plan.tunnels);
    let blink = |seconds| Incident::NetworkBlinks(Duration::from_secs(seconds));
    let incidents = [
        ("10 nodes are upgraded each second", Incident::RollingUpgrade(10)),
        ("all nodes are upgraded at once", Incident::UpgradeOfAll),
        ("1 node dies", Incident::NodesDie(1)),
        ("1 of 20 nodes dies", Incident::NodesDie((plan.nodes / 20).max(1))),
        ("1 of 20 nodes leaves", Incident::NodesLeave((plan.nodes / 20).max(1))),
        ("1 of 4 load balancers restarts", Incident::BalancerRestarts(4)),
        ("all load balancers restart", Incident::AllBalancersRestart),
        ("no network for 5 s", blink(5)),
    ];
    for (what, incident) in incidents {
        let outcome = Fleet::new(FleetPlan { incident, ..plan }).run();
        println!("\n{what}:\n{outcome}");
        assert!(outcome.is_whole(), "clients are without a carrier");
    }
    ExitCode::SUCCESS
}
