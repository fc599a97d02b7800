//! One cproxy with several servers.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::operator::{OperatorOutput, control, operate, status};
use super::program::{RunningProgram, etcp, wait};
use super::{Echo, LoopbackSite, LoopbackSproxy};
use serde_json::Value;

/// Two servers, and a cproxy whose file has a table for each: `one` and `two`.
pub struct SeveralServers {
    pub cproxy: RunningProgram,
    pub one: LoopbackSproxy,
    pub two: LoopbackSproxy,
    pub echo: Echo,
    pub site: LoopbackSite,
    file: PathBuf,
    head: String,
}

impl SeveralServers {
    /// Starts all of them; `head` stands above the tables.
    pub fn new(head: &str) -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        let [one, two] = [(); 2].map(|()| LoopbackSproxy::start(&site, echo.address));
        let head = format!(
            "identity = '{}'\nknown-hosts = '{}'\nno-ssh-config = true\n{head}",
            site.client.path.display(),
            site.known_hosts().display(),
        );
        let file = site.path().join("several.toml");
        let tables = format!("{}{}", table("one", one.address, ""), table("two", two.address, ""));
        fs::write(&file, head.clone() + &tables).expect("the folder is ours");
        let command =
            etcp(site.path(), ["cproxy", "--config", file.to_str().expect("test paths are text")]);
        let cproxy = RunningProgram::start("several", site.path(), command);
        let all = Self { cproxy, one, two, echo, site, file, head };
        all.wait_until_attached("one", 1);
        all.wait_until_attached("two", 1);
        all
    }

    /// Returns the tables of both servers.
    pub fn both(&self) -> String {
        table("one", self.one.address, "") + &table("two", self.two.address, "")
    }

    /// Writes other tables into the file, and reloads it.
    #[track_caller]
    pub fn reload(&self, tables: &str) -> OperatorOutput {
        fs::write(&self.file, self.head.clone() + tables).expect("the folder is ours");
        self.operate(&["reload"])
    }

    /// Runs a command of an operator on the cproxy.
    #[track_caller]
    pub fn operate(&self, args: &[&str]) -> OperatorOutput {
        let socket = control(&self.site, "cproxy", &self.cproxy);
        operate(&self.site, &[args, &["--control", &socket]].concat())
    }

    pub fn status(&self) -> Value {
        status(&self.site, "cproxy", &self.cproxy)
    }

    /// Returns the lines of the log about a server.
    pub fn lines(&self, server: &str) -> Vec<String> {
        let field = format!(" server={server}");
        let is_of = |line: &&str| line.ends_with(&field) || line.contains(&format!("{field} "));
        self.cproxy.log().lines().filter(is_of).map(str::to_owned).collect()
    }

    /// Waits for a line about a server that has this text, the `count`th.
    #[track_caller]
    pub fn wait_for(&self, server: &str, text: &str, count: usize) -> String {
        let found =
            || self.lines(server).into_iter().filter(|line| line.contains(text)).nth(count - 1);
        wait(&format!("{text:?} of {server}"), || found().is_some());
        found().expect("it was just there")
    }

    #[track_caller]
    pub fn wait_until_attached(&self, server: &str, count: usize) {
        self.wait_for(server, "INFO attached", count);
    }

    /// Returns where the `count`th listener for a server is.
    #[track_caller]
    pub fn listening(&self, server: &str, count: usize) -> SocketAddr {
        let line = self.wait_for(server, "INFO listening on ", count);
        let address = line.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next());
        address.and_then(|address| address.parse().ok()).expect("an address")
    }
}

/// Returns the table of a server, with a listener and further lines.
pub fn table(name: &str, address: SocketAddr, more: &str) -> String {
    format!("[server.{name}]\nserver = '{address}'\nlisten = '127.0.0.1:0'\n{more}")
}
