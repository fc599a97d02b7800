//! Compares the metrics of the programs with the document, the alert rules and the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use etcp_testkit::loopback::LoopbackRelay;

use super::MetricsFixture;
use super::http::{ask, get};
use super::prometheus::rules;

/// Returns a file of the repository.
fn read(path: &str) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A metric: its type, and the labels of its samples.
type Metric = (String, BTreeSet<String>);

/// Adds the metrics of a page in the form of Prometheus, by their names. Those of one role have its
/// name in front of their type.
fn add(page: &str, to: &mut BTreeMap<String, Metric>) {
    let mut current = String::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            current = name.to_owned();
            to.entry(current.clone()).or_insert((kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            let labels = labels.map_or("", |(labels, _)| labels).split(',');
            let names = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            let known = &mut to.get_mut(&current).expect("it was declared").1;
            known.extend(names.filter(|name| name != "le"));
        }
    }
}

/// Returns the metrics of a server, and those of a client.
fn metrics() -> [BTreeMap<String, Metric>; 2] {
    let all = MetricsFixture::new();
    let (_cproxy, client) = all.client(all.sproxy.address);
    [all.metrics, client].map(|address| {
        let mut found = BTreeMap::new();
        add(&get(address, "/metrics").text, &mut found);
        found
    })
}

/// Returns the words of a text that look like names of metrics.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    words
        .filter(|word| word.starts_with("etcp_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_is_described_with_its_type_its_labels_and_its_role() {
    let [server, client] = metrics();
    let page = read("docs/metrics.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `etcp_") || line.starts_with("| `process_"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let mut described = BTreeSet::new();
    for row in &rows {
        let name = row[1].trim_matches('`');
        described.insert(name.to_owned());
        let (kind, labels, role) = (row[2], row[3], row[4]);
        let found = [server.get(name), client.get(name)];
        let expected = match (found[0].is_some(), found[1].is_some()) {
            (true, true) => "both",
            (true, false) => "sproxy",
            (false, true) => "cproxy",
            (false, false) => panic!("docs/metrics.md: there is no {name}"),
        };
        let (has_kind, has) = found.into_iter().flatten().next().expect("one has it");
        let has: Vec<_> = has.iter().map(|label| format!("`{label}`")).collect();
        assert_eq!(
            (kind, labels, role),
            (has_kind.as_str(), has.join(", ").as_str(), expected),
            "{name}"
        );
    }
    let all: BTreeSet<_> = server.into_keys().chain(client.into_keys()).collect();
    assert_eq!(all, described, "docs/metrics.md describes the metrics of the programs");
}

#[test]
fn the_rules_and_the_dashboard_name_metrics_that_exist() {
    let [server, client] = metrics();
    let mut known = BTreeSet::new();
    for (name, (kind, _)) in server.into_iter().chain(client) {
        if kind == "histogram" {
            known.extend(["bucket", "sum", "count"].map(|it| format!("{name}_{it}")));
        }
        known.insert(name);
    }
    let dashboard = read("packaging/grafana/eternaltcp.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("it is JSON");
    let panels = parsed["panels"].as_array().expect("it has panels");
    assert!(panels.iter().all(|panel| panel["title"].is_string()));
    let rules = fs::read_to_string(rules()).expect("the rules are there");
    for (file, text) in
        [("the dashboard", dashboard), ("the rules", rules), ("the page", read("docs/metrics.md"))]
    {
        let names = named(&text);
        assert!(!names.is_empty());
        for name in names {
            let name =
                name.strip_suffix("_created").map_or(name.clone(), |it| format!("{it}_total"));
            assert!(known.contains(&name), "{file} names {name}, which does not exist");
        }
    }
}

#[test]
fn no_label_depends_on_who_connects() {
    let all = MetricsFixture::new();
    let relay = LoopbackRelay::start([127, 0, 0, 9], all.sproxy.address);
    let accept = "Accept: application/openmetrics-text\r\n";
    let series = || {
        let page = ask(all.metrics, "GET /metrics", accept).text;
        assert!(page.ends_with("# EOF\n"), "{page}");
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let names = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
        names.collect::<BTreeSet<_>>()
    };
    let before = series();
    let (cproxy, _) = all.client(relay.address);
    relay.cut();
    etcp_testkit::loopback::Steady::start(cproxy.listen).goes_on();
    assert_eq!(series(), before);
    assert!(before.iter().all(|name| !name.contains("127.0.0") && !name.contains("SHA256")));
}
