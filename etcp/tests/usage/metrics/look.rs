//! The page in a browser: live, by keyboard, for a screen reader, light and dark.

use etcp_testkit::loopback::{Cproxy, LoopbackRelay, Steady};
use etcp_testkit::skip;
use serde_json::{Value, json};

use super::MetricsFixture;
use super::chromium::{Chromium, keep};

/// A comment of a key that would do something as HTML.
const NAME: &str = "<img src=x onerror=alert(1)><script>document.title='taken'</script>";

/// A server with a client and a session, and its page in a browser.
struct PageFixture {
    all: MetricsFixture,
    relay: LoopbackRelay,
    _cproxy: Cproxy,
    steady: Steady,
    browser: Chromium,
}

impl PageFixture {
    fn open() -> Self {
        let all = MetricsFixture::new();
        all.site.admit(&[&format!("{} {NAME}", all.site.client.line)]);
        let relay = LoopbackRelay::start([127, 0, 0, 9], all.sproxy.address);
        let (cproxy, _) = all.client(relay.address);
        let steady = Steady::start(cproxy.listen);
        let mut browser = Chromium::start();
        browser.show_as(1200, "light");
        browser.open(&format!("http://{}/", all.metrics));
        Self { all, relay, _cproxy: cproxy, steady, browser }
    }

    fn is_live_and_shows_names_as_text(&mut self) {
        let browser = &mut self.browser;
        browser.wait_for("document.querySelectorAll('.tunnel tbody tr').length === 1");
        assert_eq!(browser.value("document.querySelector('.name').textContent"), NAME);
        assert_eq!(browser.value("document.images.length + document.scripts.length"), 1);
        let title = "sproxy: 1 of 1 tunnel attached";
        assert_eq!(browser.value("document.title"), title);
        let before = browser.value("document.querySelector('.rest').textContent");
        browser.wait_for(&format!("document.querySelector('.rest').textContent !== {before}"));
    }

    /// The path dies, and the page shows it without being asked.
    fn shows_a_pause(&mut self) {
        let browser = &mut self.browser;
        self.relay.close();
        self.relay.cut();
        browser.wait_for("document.querySelector('.state').textContent === 'detached'");
        let news = browser.value("document.getElementById('news').textContent");
        assert_eq!(news, format!("{NAME}: detached"), "a screen reader is told");
        self.relay.open();
        browser.wait_for("document.querySelector('.state').textContent === 'attached'");
        browser.wait_for("document.querySelectorAll('#chart rect').length > 0");
        let shown = browser.value("document.querySelector('#pauses-place tbody').textContent");
        assert!(shown.as_str().is_some_and(|it| it.contains(NAME)), "{shown}");
        self.steady.goes_on();
    }

    fn is_used_by_keyboard(&mut self) {
        let browser = &mut self.browser;
        let focused = "document.activeElement.textContent.trim()";
        browser.press("Tab", 9, "");
        assert_eq!(browser.value(focused), "Skip to the tunnels");
        browser.press("Enter", 13, "\r");
        assert_eq!(browser.value("document.activeElement.id"), "tunnels");
        // The only tunnel was open from the start.
        browser.press("Tab", 9, "");
        let name = browser.value("document.activeElement.querySelector('.name').textContent");
        assert_eq!(name, NAME);
        assert_eq!(browser.value("document.querySelector('.tunnel').open"), true);
        browser.press(" ", 32, " ");
        browser.wait_for("!document.querySelector('.tunnel').open");
        browser.press(" ", 32, " ");
        browser.wait_for("document.querySelector('.tunnel').open");
        // An update leaves the focus where it is.
        let before = browser.value("document.querySelector('.rest').textContent");
        browser.wait_for(&format!("document.querySelector('.rest').textContent !== {before}"));
        assert_eq!(browser.value("document.activeElement.tagName"), "SUMMARY");
    }

    /// Compares what a screen reader gets, also where rows are shown as blocks.
    fn is_read_aloud(&mut self) {
        let tree = self.browser.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("a list");
        let seen = nodes.iter().filter(|node| node["ignored"] != true);
        let found: Vec<(&str, &str)> = seen
            .map(|node| (&node["role"]["value"], &node["name"]["value"]))
            .map(|(role, name)| (role.as_str().unwrap_or(""), name.as_str().unwrap_or("")))
            .collect();
        let has = |role: &str, name: &str| {
            found.iter().any(|(is, called)| *is == role && called.contains(name))
        };
        for (role, name) in [
            ("heading", "sproxy on "),
            ("heading", "Pauses"),
            ("heading", "Tunnels"),
            ("status", ""),
            ("log", "Changes of tunnels"),
            ("image", "Pauses "),
            ("table", "Sessions"),
            ("columnheader", "Target"),
            ("rowheader", ""),
            ("cell", "the default target"),
        ] {
            assert!(has(role, name), "{role} {name:?} is not in {found:?}");
        }
    }

    /// Shows the page in all forms, and returns their backgrounds.
    fn shows_all_forms(&mut self) -> Vec<Value> {
        let open = "document.getElementById('pauses-list').open = true";
        self.browser.value(open);
        let mut backgrounds = Vec::new();
        for (name, width, scheme) in [
            ("wide-light", 1200, "light"),
            ("narrow-light", 380, "light"),
            ("wide-dark", 1200, "dark"),
            ("narrow-dark", 380, "dark"),
        ] {
            self.browser.show_as(width, scheme);
            let overflow = "document.documentElement.scrollWidth > innerWidth";
            assert_eq!(self.browser.value(overflow), false, "{name} fits its width");
            self.is_read_aloud();
            let colour = "getComputedStyle(document.body).backgroundColor";
            backgrounds.push(self.browser.value(colour));
            let picture = self.browser.picture();
            assert!(picture.starts_with("iVBORw0KGgo"), "it is a PNG file");
            keep(name, &picture);
        }
        backgrounds
    }
}

#[test]
fn the_page_is_live_and_usable_by_keyboard_and_screen_reader_light_and_dark() {
    let test = "the_page_is_live_and_usable_by_keyboard_and_screen_reader_light_and_dark";
    if !skip::can_find(test, &["chromium"]) {
        return;
    }
    let mut page = PageFixture::open();
    page.is_live_and_shows_names_as_text();
    page.shows_a_pause();
    page.is_used_by_keyboard();
    let backgrounds = page.shows_all_forms();
    assert_eq!(backgrounds[..2], ["rgb(255, 255, 255)", "rgb(255, 255, 255)"]);
    assert_eq!(backgrounds[2..], ["rgb(20, 22, 26)", "rgb(20, 22, 26)"]);
    let faults = page.browser.faults();
    assert!(faults.is_empty(), "{faults:?}");
    // The next worker serves the same page.
    page.all.sproxy.program.kill_worker();
    page.browser.wait_for("document.getElementById('live').textContent.startsWith('Live')");
    page.browser.wait_for("document.getElementById('sums').textContent.includes('died1')");
    page.steady.goes_on();
}
