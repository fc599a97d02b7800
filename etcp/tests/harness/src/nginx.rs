//! nginx as an ordinary user, all its files in the test's folder.

use std::net::TcpStream;

use super::folder::TestFolder;
use super::netns::Namespace;
use super::process::{Launch, Process, RunAs};
use super::skip;
use super::wait::{PATIENCE, until};

/// Starts nginx with these lines in its `server` block, and waits until it accepts at `probe`. It
/// serves the files of the folder.
pub fn start_nginx(
    namespace: &Namespace,
    folder: &TestFolder,
    lines: &str,
    probe: &str,
) -> Process {
    let temporary = folder.folder("nginx", RunAs::Nobody);
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {}/{name};\n", temporary.display()))
        .collect();
    let config = format!(
        "daemon off;
worker_processes 1;
pid {temporary}/pid;
error_log stderr;
events {{ }}
http {{
{paths}  access_log off;
  server {{ {lines} root {root}; }}
}}
",
        temporary = temporary.display(),
        root = folder.path().display(),
    );
    let config = folder.file("nginx.conf", &config, RunAs::Nobody);
    let nginx = skip::find("nginx").expect("was asked for");
    let mut process = Launch::new("nginx", nginx)
        .args(["-e", "stderr", "-c"])
        .arg(config)
        .start(namespace, folder);
    until("nginx to accept", PATIENCE, || {
        assert!(process.is_running(), "nginx ended");
        namespace.run(|| TcpStream::connect(probe)).is_ok()
    });
    process
}
