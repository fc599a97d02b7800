//! The metrics of a cproxy with several servers.

use etcp_testkit::loopback::several::table;
use etcp_testkit::loopback::{SeveralServers, Steady};
use etcp_testkit::skip;
use serde_json::json;

use super::chromium::{Chromium, keep};
use super::events::EventReader;
use super::http::{address, get, sample};
use super::{fs, wait};

#[test]
fn the_metrics_of_several_servers_are_sums_that_outlive_a_server() {
    let mut all = SeveralServers::new("metrics = '127.0.0.1:0'\n");
    let metrics = address(&mut all.cproxy);
    let [attached, ended] = ["etcp_tunnels{state=\"attached\"}", "etcp_servers_ended"];
    let of_one = Steady::start(all.listening("one", 1));
    let of_two = Steady::start(all.listening("two", 1));
    assert_eq!((sample(metrics, attached), sample(metrics, ended)), (2.0, 0.0));
    wait("it to count both", || sample(metrics, "etcp_sessions_opened_total") == 2.0);
    assert_eq!(sample(metrics, "etcp_sessions"), 2.0);

    // One that is refused for good is no reason to restart the others.
    let key = format!("identity = '{}'\n", all.site.key("stranger").path.display());
    let said = all.reload(&(all.both() + &table("strange", all.two.address, &key)));
    assert_eq!(said.code, Some(0), "{said:?}");
    wait("the refused one to have ended", || sample(metrics, ended) == 1.0);
    assert_eq!((sample(metrics, attached), get(metrics, "/readyz").status), (2.0, 200));
    assert_eq!(sample(metrics, "etcp_refusals_total{reason=\"key-unknown\"}"), 1.0);
    let state = EventReader::open(metrics).wait_for("the end", |it| it["ended"][0].is_object());
    let shown = &state["ended"][0];
    assert_eq!(shown["who"], "strange", "{state}");
    assert!(
        shown["why"].as_str().is_some_and(|it| it.contains("does not know the key")),
        "{state}"
    );
    let said = all.operate(&["status", "--server", "strange"]);
    assert!(said.out.contains("no tunnel to strange: ended for good"), "{said:?}");
    assert!(!said.out.contains("tunnel to one"), "{said:?}");

    // What a server that is removed has counted is not taken away.
    let [dials, attaches] =
        ["etcp_dials_total", "etcp_attaches_total"].map(|name| (name, sample(metrics, name)));
    let said = all.reload(&table("one", all.one.address, ""));
    assert_eq!(said.code, Some(0), "{said:?}");
    wait("one tunnel to be left", || sample(metrics, attached) == 1.0);
    assert_eq!((sample(metrics, ended), sample(metrics, "etcp_sessions")), (0.0, 1.0));
    for (name, before) in [dials, attaches, ("etcp_sessions_opened_total", 2.0)] {
        assert!(sample(metrics, name) >= before, "{name}");
    }
    of_one.goes_on();
    drop(of_two);

    // The address belongs to the process: a table cannot have it, and a reload moves it.
    let said = all.reload(&table("one", all.one.address, "metrics = '127.0.0.1:0'\n"));
    assert!(said.err.contains("metrics applies to the whole program"), "{said:?}");
    all.cproxy.kill_worker();
    wait("the next worker to count", || sample(metrics, "etcp_restarts_total") == 1.0);
    wait("its tunnel to be attached", || sample(metrics, attached) == 1.0);
    of_one.finish();
}

#[test]
fn the_page_in_a_browser_shows_a_server_that_has_ended_until_it_is_gone() {
    let test = "the_page_in_a_browser_shows_a_server_that_has_ended_until_it_is_gone";
    if !skip::can_find(test, &["chromium"]) {
        return;
    }
    let mut all = SeveralServers::new("metrics = '127.0.0.1:0'\n");
    let mut browser = Chromium::start();
    browser.show_as(1200, "light");
    browser.open(&format!("http://{}/", address(&mut all.cproxy)));
    browser.wait_for("document.querySelectorAll('.tunnel').length === 2");
    assert_eq!(browser.value("document.getElementById('ended').hidden"), true);

    let key = format!("identity = '{}'\n", all.site.key("stranger").path.display());
    let said = all.reload(&(all.both() + &table("strange", all.two.address, &key)));
    assert_eq!(said.code, Some(0), "{said:?}");
    browser.wait_for("document.querySelectorAll('#ended li').length === 1");
    let shown = browser.value("document.getElementById('ended').textContent");
    let shown = shown.as_str().expect("a text");
    assert!(shown.starts_with("strange · ended for good "), "{shown}");
    assert!(shown.contains("does not know the key"), "{shown}");
    let news = browser.value("document.getElementById('news').textContent");
    assert_eq!(news, "strange: ended for good", "a screen reader is told");
    let tree = browser.call("Accessibility.getFullAXTree", &json!({}));
    let list = "Servers whose tunnel has ended for good";
    let is_list = |node: &&serde_json::Value| node["name"]["value"] == list;
    let list = tree["nodes"].as_array().and_then(|nodes| nodes.iter().find(is_list));
    assert_eq!(list.expect("it has its name")["role"]["value"], "list");
    for (name, width, scheme) in [("ended-wide", 1200, "light"), ("ended-narrow", 380, "dark")] {
        browser.show_as(width, scheme);
        let overflow = "document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.value(overflow), false, "{name} fits its width");
        keep(name, &browser.picture());
    }

    let said = all.reload(&all.both());
    assert_eq!(said.code, Some(0), "{said:?}");
    browser.wait_for("document.getElementById('ended').hidden");
    let faults = browser.faults();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn no_server_may_listen_where_the_metrics_are() {
    let site = etcp_testkit::loopback::LoopbackSite::new();
    let file = site.path().join("c.toml");
    let text = "metrics = '127.0.0.1:1080'\n[server.a]\nserver = 'h'\ndynamic-forward = 1080\n";
    fs::write(&file, text).expect("the folder is ours");
    let said = super::operate(&site, &["check", file.to_str().expect("text")]);
    let fault = "c.toml:1:1: server a: --metrics 127.0.0.1:1080: the proxy itself listens on localhost:1080";
    assert!(said.code == Some(1) && said.err.contains(fault), "{said:?}");
}
