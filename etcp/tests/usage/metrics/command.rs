//! `etcp page`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use etcp_testkit::loopback::operator::{OperatorOutput, control, operate};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{LoopbackSite, LoopbackSproxy, etcp};
use etcp_testkit::skip;

use super::MetricsFixture;

/// The line that a proxy logs once it can be asked for its status.
const CONTROL: &str = "INFO control socket ";

/// Runs `etcp page` without a screen.
fn page(site: &LoopbackSite, args: &[&str]) -> OperatorOutput {
    let args = [&["page"], args].concat();
    let mut command = etcp(site.path(), &args);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    let output = command.stderr(Stdio::piped()).stdout(Stdio::piped()).output();
    let output = output.expect("setpriv and setsid run");
    let text = |bytes| String::from_utf8(bytes).expect("it says text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    OperatorOutput { code: output.status.code(), out, err }
}

#[test]
fn the_address_of_a_page_is_found_by_the_name_of_its_proxy() {
    let test = "the_address_of_a_page_is_found_by_the_name_of_its_proxy";
    if !skip::has_no_service(test) {
        return;
    }
    let mut all = MetricsFixture::new();
    all.sproxy.program.wait_for(CONTROL);
    let (url, id) = (format!("http://{}/\n", all.metrics), all.sproxy.program.id().to_string());
    let socket = control(&all.site, "sproxy", &all.sproxy.program);
    let full = format!("sproxy.{id}");
    for args in [&[][..], &["sproxy"], &[&id], &[&full], &[&socket], &["sproxy", "--print"]] {
        let said = page(&all.site, args);
        assert_eq!((said.code, &said.out), (Some(0), &url), "{args:?}: {said:?}");
    }
    let said = page(&all.site, &["cproxy"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("no program is called cproxy"), "{said:?}");
    // A client has a page, too.
    let (cproxy, client) = all.client(all.sproxy.address);
    let said = page(&all.site, &[]);
    assert_eq!(said.code, Some(2));
    let named = format!("cproxy.{} (http://{client}/)", cproxy.program.id());
    assert!(said.err.contains(&named) && said.err.contains(url.trim()), "{said:?}");
    assert_eq!(page(&all.site, &["cproxy"]).out, format!("http://{client}/\n"));
}

#[test]
fn a_proxy_without_a_page_is_told_how_to_have_one() {
    let site = LoopbackSite::new();
    let mut sproxy = LoopbackSproxy::plain(&site, &["--listen", "127.0.0.1:0"]);
    sproxy.program.wait_for(CONTROL);
    let said = page(&site, &["sproxy"]);
    let name = format!("there is no page of sproxy.{}: ", sproxy.program.id());
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains(&name) && said.err.contains("--metrics 9163"), "{said:?}");
    drop(sproxy);

    let at = format!("unix:{}", site.path().join("metrics.sock").display());
    let mut sproxy = LoopbackSproxy::plain(&site, &["--listen", "127.0.0.1:0", "--metrics", &at]);
    sproxy.program.wait_for("INFO metrics on ");
    sproxy.program.wait_for(CONTROL);
    let said = page(&site, &[&sproxy.program.id().to_string()]);
    assert_eq!(said.code, Some(1));
    let is_told = said.err.contains(&at) && said.err.contains("a browser cannot open");
    assert!(is_told, "{said:?}");
}

#[test]
fn the_page_is_opened_where_there_is_a_screen() {
    let mut all = MetricsFixture::new();
    all.sproxy.program.wait_for(CONTROL);
    let folder = all.site.path().join("bin");
    fs::create_dir(&folder).expect("the folder is ours");
    let (program, told) = (folder.join("xdg-open"), all.site.path().join("opened"));
    let told_as = told.display();
    let script = format!("#!/bin/sh\necho \"$@\" >{told_as}.new && mv {told_as}.new {told_as}\n");
    fs::write(&program, script).expect("the folder is ours");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = std::env::var("PATH").expect("there is a PATH");
    let url = format!("http://{}/\n", all.metrics);
    let run = |args: &[&str], path: &str| {
        let mut command = etcp(all.site.path(), args);
        command.env("DISPLAY", ":77").env("PATH", path);
        command.stdout(Stdio::piped()).output().expect("setpriv and setsid run")
    };
    let with_it = format!("{}:{path}", folder.display());
    let printed = run(&["page", "sproxy", "--print"], &with_it);
    assert_eq!(String::from_utf8_lossy(&printed.stdout), url);
    assert!(!told.exists(), "it was only printed");
    let opened = run(&["page", "sproxy"], &with_it);
    assert_eq!(String::from_utf8_lossy(&opened.stdout), url);
    wait("xdg-open to be told", || told.exists());
    assert_eq!(fs::read_to_string(&told).expect("it is there"), url);
}

#[test]
fn the_status_has_the_address_of_the_metrics_also_after_a_reload_and_a_death() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    let text = |metrics: &str| format!("listen = '127.0.0.1:0'\ntarget = '127.0.0.1:9'\n{metrics}");
    fs::write(&file, text("metrics = '127.0.0.1:0'\n")).expect("the folder is ours");
    let args = ["--config", file.to_str().expect("test paths are text")];
    let mut sproxy = LoopbackSproxy::plain(&site, &args);
    let id = sproxy.program.id().to_string();
    let first = super::http::address(&mut sproxy.program);
    sproxy.program.wait_for(CONTROL);
    assert_eq!(page(&site, &[&id]).out, format!("http://{first}/\n"));
    sproxy.program.kill_worker();
    wait("the next worker's page", || page(&site, &[&id]).out == format!("http://{first}/\n"));
    fs::write(&file, text("")).expect("the folder is ours");
    let socket = control(&site, "sproxy", &sproxy.program);
    assert_eq!(operate(&site, &["reload", "--control", &socket]).code, Some(0));
    assert_eq!(page(&site, &[&id]).code, Some(1), "it is off");
}
