//! `--on-event`: commands that run when a carrier is lost and when it is back.

use std::path::{Path, PathBuf};

use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};

/// A pair whose carriers can be cut, with a hook at both that writes to a file.
struct HookedPair {
    relay: LoopbackRelay,
    cproxy: Cproxy,
    sproxy: LoopbackSproxy,
    site: LoopbackSite,
}

impl HookedPair {
    /// Starts both proxies. `hook` is cproxy's; `FILE` in it stands for the file that [`Self::events`]
    /// reads.
    fn start(hook: &str) -> Self {
        let site = LoopbackSite::new();
        let command = |name: &str, hook: &str| {
            hook.replace("FILE", &text(&site.path().join(format!("{name}.events"))))
        };
        let server = command("server", r#"echo "$ETCP_EVENT $ETCP_KEY $ETCP_TUNNEL" >> FILE"#);
        let args = ["--listen", "127.0.0.1:0", "--on-event", &server];
        let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
        let relay = LoopbackRelay::start([127, 0, 0, 7], sproxy.address);
        let hook = command("client", hook);
        let args = ["--on-event", &hook];
        let cproxy = Cproxy::with(&site, relay.address, "cproxy", &site.client, &args).attached();
        Self { relay, cproxy, sproxy, site }
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.site.path().join(format!("{file}.events")))
            .unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Cuts the carrier, and waits until the next one is attached.
    fn cut(&self) {
        let before = self.cproxy.attached_again();
        self.relay.cut();
        wait("it to be attached again", || self.cproxy.attached_again() > before);
    }
}

fn text(path: &Path) -> String {
    PathBuf::from(path).into_os_string().into_string().expect("test paths are text")
}

#[test]
fn the_hook_runs_when_the_carrier_is_lost_and_when_it_is_back() {
    let pair = HookedPair::start(
        r#"echo "$ETCP_EVENT|$ETCP_SERVER|$ETCP_PATH|$ETCP_WHY|$ETCP_OUTAGE_MS|$ETCP_SESSIONS" >> FILE"#,
    );
    let steady = Steady::start(pair.cproxy.listen);
    wait("the first event", || !pair.lines("client").is_empty());
    pair.cut();
    steady.goes_on();
    // A busy machine may cause another doubt.
    let event = |name: &str| {
        let lines = pair.lines("client");
        let line = lines.iter().rfind(|line| line.starts_with(&format!("{name}|")));
        line.map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>())
    };
    wait("both events", || event("lost").is_some() && event("back").is_some());
    let server = pair.relay.address.to_string();
    for name in ["attached", "lost", "back"] {
        let fields = event(name).expect("it was there");
        assert_eq!(fields[1], server, "{fields:?}");
        assert!(fields[2].contains(" via "), "{fields:?}");
        assert_eq!(fields[3].is_empty(), name == "attached", "why: {fields:?}");
        assert_eq!(fields[4].parse::<u64>().is_ok(), name == "back", "how long: {fields:?}");
    }
    let first = pair.lines("client")[0].clone();
    assert!(first.starts_with("attached|"), "{first}");
    let has = |event: &str| pair.lines("server").iter().any(|line| line.starts_with(event));
    for event in ["attached SHA256:", "lost SHA256:", "back SHA256:"] {
        wait(&format!("{event} at the server"), || has(event));
    }
    steady.finish();
}

#[test]
fn a_hook_that_hangs_is_killed_with_its_children_and_holds_nothing_up() {
    let pair = HookedPair::start("echo $$ >> FILE; sleep 1000 & wait");
    let steady = Steady::start(pair.cproxy.listen);
    for _ in 0..3 {
        pair.cut();
        steady.goes_on();
    }
    let first = etcp_testkit::wait::until_some(
        "the hook to start",
        etcp_testkit::loopback::PATIENCE,
        || pair.lines("client").first()?.parse::<u32>().ok(),
    );
    wait("it to be killed", || pair.cproxy.program.count("was killed") > 0);
    let is_left = || {
        // As in proc(5): the process group is the fifth field.
        let processes = std::fs::read_dir("/proc").expect("it is there").flatten();
        let mut stats = processes.flat_map(|it| std::fs::read_to_string(it.path().join("stat")));
        stats.any(|stat| {
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let mut fields = rest.split(' ');
            let is_dead = fields.next() == Some("Z");
            !is_dead && fields.nth(1) == Some(first.to_string().as_str())
        })
    };
    wait("its children to be gone", || !is_left());
    wait("the next event's turn", || pair.lines("client").len() >= 2);
    assert!(pair.lines("client").len() <= 3, "one at a time");
    steady.goes_on();
    steady.finish();
}

#[test]
fn a_hook_that_fails_is_one_warning() {
    let pair = HookedPair::start("echo x >> FILE; exit 3");
    let steady = Steady::start(pair.cproxy.listen);
    for _ in 0..3 {
        let before = pair.lines("client").len();
        pair.cut();
        wait("its events", || pair.lines("client").len() >= before + 2);
    }
    let log = pair.cproxy.program.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("--on-event")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("its exit code is 3"), "{log}");
    steady.finish();
}

#[test]
fn a_proxy_that_ends_takes_its_hook_along() {
    let mut pair = HookedPair::start("echo $$ >> FILE; exec sleep 1000");
    wait("the hook to run", || !pair.lines("client").is_empty());
    pair.cproxy.program.signal(rustix::process::Signal::TERM);
    assert_eq!(pair.cproxy.program.end().0, Some(0));
    let id = pair.lines("client")[0].clone();
    wait("the hook to be gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(pair.sproxy.program.is_running());
}
