//! Chromium without a screen, driven by its own protocol over a pair of pipes (the Chrome DevTools
//! Protocol).

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use etcp_testkit::skip;
use serde_json::{Value, json};

/// The time that one step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The flags of Chromium: no screen, no graphics, no files of this user, and no services of its
/// maker. It shows only a page of this test, and as root it does not start with its sandbox.
const FLAGS: &str = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                     --disable-background-networking --disable-component-update --disable-sync \
                     --disable-extensions --hide-scrollbars --no-proxy-server";

/// A browser with one page. It ends with this value.
pub(super) struct Chromium {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<Value>,
    number: u64,
    session: Option<String>,
    /// The events that came beside answers.
    events: Vec<Value>,
    _folder: tempfile::TempDir,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chromium {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let program = skip::find("chromium").expect("it was found");
        // It reads requests from descriptor 3, and writes answers to 4.
        let line = format!(
            "exec {} {FLAGS} --user-data-dir={} --remote-debugging-pipe about:blank \
             3<&0 4>&1 </dev/null >/dev/null",
            program.display(),
            folder.path().join("profile").display()
        );
        let log = File::create(folder.path().join("log")).expect("the folder is ours");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "sh", "-c", &line]).env("HOME", folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("setpriv and sh run");
        let requests = child.stdin.take().expect("a pipe");
        let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, answers) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while reader.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                message.pop();
                let parsed = serde_json::from_slice(&message).expect("it speaks JSON");
                if sender.send(parsed).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let (number, session, events) = (0, None, Vec::new());
        let mut browser =
            Self { child, requests, answers, number, session, events, _folder: folder };
        browser.attach();
        browser
    }

    /// Opens a page, and asks for its events.
    fn attach(&mut self) {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Accessibility"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
    }

    /// Returns the result of a command.
    #[track_caller]
    pub(super) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let mut request = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = session.as_str().into();
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).expect("it reads");
        loop {
            let mut message = self.next(method);
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method} {params}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    #[track_caller]
    fn next(&self, what: &str) -> Value {
        let log = || fs::read_to_string(self._folder.path().join("log")).unwrap_or_default();
        let message = self.answers.recv_timeout(PATIENCE);
        message.unwrap_or_else(|error| panic!("{what}: {error}; Chromium says:\n{}", log()))
    }

    /// Loads a page, and waits until it is there.
    #[track_caller]
    pub(super) fn open(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": url }));
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let event = self.next(url);
            self.events.push(event);
        }
    }

    /// Returns the value of an expression of JavaScript, once it has one if it is a promise.
    #[track_caller]
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let how = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", &how);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until a condition of JavaScript holds: it is judged at each change of the page.
    #[track_caller]
    pub(super) fn wait_for(&mut self, condition: &str) {
        self.value(&format!(
            "new Promise((done) => {{
                const look = () => {{ if ({condition}) {{ watcher.disconnect(); done(true); }} }};
                const watcher = new MutationObserver(look);
                watcher.observe(document, {{ subtree: true, childList: true, characterData: true, \
                    attributes: true }});
                look();
            }})"
        ));
    }

    /// Presses and releases a key.
    pub(super) fn press(&mut self, key: &str, code: u32, text: &str) {
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let text = if kind == "keyUp" { "" } else { text };
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Sets the size of the page, and the scheme of its colours.
    pub(super) fn show_as(&mut self, width: u32, scheme: &str) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Returns a picture of the whole page, in base64.
    pub(super) fn picture(&mut self) -> String {
        let shot = self.call("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        shot["data"].as_str().expect("it has data").to_owned()
    }

    /// Returns the faults that the browser has reported: errors of scripts and of the policy.
    pub(super) fn faults(&self) -> Vec<&Value> {
        let kinds = ["Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"];
        let is_fault = |event: &&Value| kinds.iter().any(|kind| event["method"] == *kind);
        self.events.iter().filter(is_fault).collect()
    }
}

/// Writes a picture into the folder that `ETCP_PICTURES` names, for whoever wants to look at it.
pub(super) fn keep(name: &str, picture: &str) {
    let Some(folder) = std::env::var_os("ETCP_PICTURES") else { return };
    let file = Path::new(&folder).join(format!("{name}.png.base64"));
    fs::write(file, picture).expect("the folder can be written");
}
