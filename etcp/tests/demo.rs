//! `etcp demo`, as it runs in a pipe: it proves what it should, in its time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program's own contract.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_demo_proves_itself_in_a_pipe_within_its_time_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a folder can be made");
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_etcp"))
        .arg("demo")
        .env_remove("RUST_LOG")
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .output()
        .expect("etcp starts");
    let took = start.elapsed();
    let shown = String::from_utf8(output.stdout).expect("the demo prints text");
    let logged = String::from_utf8_lossy(&output.stderr);

    assert!(output.status.success(), "{:?}\n{shown}\n{logged}", output.status);
    assert!(took < LIMIT, "it took {took:?}");
    let is_plain = |text: char| text == '\n' || !text.is_control();
    assert!(shown.chars().all(is_plain), "control characters in {shown:?}");
    for kind in [
        "reset",
        "orderly close",
        "cut inside a TLS record",
        "silence both ways",
        "silence one way",
    ] {
        // Once in the show, once in the table.
        assert!(shown.matches(kind).count() >= 2, "no {kind:?} in\n{shown}");
    }
    let last = shown.lines().last().unwrap_or_default();
    assert!(last.starts_with("OK: 14 carriers died in 5 ways"), "{shown}");
    let left = std::fs::read_dir(temporary.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "the keys of the demo are still there");
}
