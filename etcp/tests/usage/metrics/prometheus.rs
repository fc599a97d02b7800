//! The real Prometheus, and its promtool.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{Cproxy, LoopbackRelay, Steady};
use etcp_testkit::{HeldPort, skip};
use serde_json::Value;

use super::MetricsFixture;
use super::http::get;

/// Prometheus, which scrapes proxies several times a second.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _port: HeldPort,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(targets: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let targets: Vec<_> = targets.iter().map(|it| format!("'{it}'")).collect();
        let config = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n- job_name: etcp\n  static_configs:\n  - targets: [{}]\n",
            rules().display(),
            targets.join(", ")
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("the folder is ours");
        let port = HeldPort::take();
        let address: SocketAddr = ([127, 0, 0, 1], port.number()).into();
        let mut command = Command::new(skip::find("prometheus").expect("it was found"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("prometheus runs");
        Self { child, address, _port: port, _folder: folder }
    }

    /// Returns the sum of the values that an expression has now, once it has any.
    fn value(&self, expression: &str) -> Option<f64> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            encoded += &format!("%{byte:02x}");
        }
        std::net::TcpStream::connect(self.address).ok()?;
        let answer = get(self.address, &format!("/api/v1/query?query={encoded}"));
        let found: Value = serde_json::from_str(body(&answer.text)).ok()?;
        let values = found["data"]["result"].as_array()?.iter();
        let values = values.filter_map(|it| it["value"][1].as_str()?.parse::<f64>().ok());
        values.reduce(|a, b| a + b)
    }

    #[track_caller]
    fn wait_for(&self, expression: &str, is_right: impl Fn(f64) -> bool) {
        wait(&format!("Prometheus to see {expression}"), || {
            self.value(expression).is_some_and(&is_right)
        });
    }
}

/// Returns the text of a chunked answer, which is one chunk, or of a plain one.
fn body(text: &str) -> &str {
    let start = text.find('{').unwrap_or_default();
    let end = text.rfind('}').map_or(text.len(), |end| end + 1);
    &text[start..end]
}

/// The alert rules.
pub(super) fn rules() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/prometheus/eternaltcp.rules.yml"
    ))
}

#[test]
fn prometheus_sees_a_tunnel_its_bytes_an_outage_and_a_refusal() {
    let test = "prometheus_sees_a_tunnel_its_bytes_an_outage_and_a_refusal";
    if !skip::can_find(test, &["prometheus"]) {
        return;
    }
    let all = MetricsFixture::new();
    let relay = LoopbackRelay::start([127, 0, 0, 9], all.sproxy.address);
    let (cproxy, client) = all.client(relay.address);
    let prometheus = Prometheus::start(&[all.metrics, client]);
    let steady = Steady::start(cproxy.listen);
    steady.goes_on();
    prometheus.wait_for("etcp_tunnels{state='attached'}", |sum| sum == 2.0);
    prometheus.wait_for("etcp_sessions", |sum| sum == 2.0);
    for bytes in ["etcp_sent_bytes_total", "etcp_received_bytes_total"] {
        prometheus.wait_for(&format!("min({bytes})"), |least| least > 0.0);
    }
    assert_eq!(prometheus.value("sum(etcp_outage_seconds_count)"), Some(0.0));

    // The network is away for a while.
    relay.close();
    relay.cut();
    prometheus.wait_for("sum(etcp_tunnels{state='detached'})", |sum| sum == 2.0);
    relay.open();
    steady.goes_on();
    prometheus.wait_for("min(etcp_outage_seconds_count)", |least| least >= 1.0);
    prometheus.wait_for("min(etcp_pause_seconds_sum)", |least| least > 0.0);
    let ends = "min(sum by (instance) (etcp_carriers_ended_total{reason=~'closed|reset'}))";
    prometheus.wait_for(ends, |least| least >= 1.0);

    let stranger = all.site.key("stranger");
    let _refused = Cproxy::with(&all.site, all.sproxy.address, "stranger", &stranger, &[]);
    prometheus.wait_for("etcp_refusals_total{reason='key-unknown'}", |sum| sum >= 1.0);
    // The form is the one with the time since when a counter counts.
    prometheus.wait_for("count(etcp_sent_bytes_created)", |count| count == 2.0);
    steady.goes_on();
}

#[test]
fn promtool_finds_no_fault_in_the_metrics_and_the_alert_rules() {
    let test = "promtool_finds_no_fault_in_the_metrics_and_the_alert_rules";
    if !skip::can_find(test, &["promtool"]) {
        return;
    }
    let promtool = skip::find("promtool").expect("it was found");
    let all = MetricsFixture::new();
    let (_cproxy, client) = all.client(all.sproxy.address);
    for metrics in [all.metrics, client] {
        let page = get(metrics, "/metrics").text;
        let mut command = Command::new(&promtool);
        command.args(["check", "metrics"]).stdin(Stdio::piped());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("piped").write_all(page.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
    }
    let output = Command::new(&promtool).args(["check", "rules"]).arg(rules()).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{output:?}");
}
