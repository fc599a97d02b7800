//! One of the two proxies: a process that keeps descriptors and memory, and its workers.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use eternaltcp::address::{Listen, ServerAddress, Target};
use eternaltcp::client::{Client, ClientConfig, RemoteForward, Trust, serve_dynamic};
use eternaltcp::recovery::Recovery;
use eternaltcp::server::{Server, ServerConfig};
use eternaltcp::store::{Size, StoreMemory};
use eternaltcp::tls::Identity;
use eternaltcp::{Listener, this_instance};
use eternaltcp_sys::{Ended, Holding, spawn_worker};

/// The argument with which this program is a proxy.
pub(crate) const WORD: &str = "--proxy";

/// The last argument of a proxy that keeps nothing.
pub(crate) const KEEPS_NOTHING: &str = "nothing";

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The files in which the programs tell each other their addresses.
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file at once.
    pub(crate) fn tell(&self, name: &str, text: &str) -> std::io::Result<()> {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(new, self.path(name))
    }

    /// Returns what was written.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }
}

/// Starts workers until one ends by itself.
pub(crate) fn hold(role: &str, folder: &str, keeps: &str) -> Outcome<ExitCode> {
    let files = Files(folder.into());
    let memory = StoreMemory::create(&Size::for_held(64 << 20, 16, 1000))?;
    let keeps = keeps != KEEPS_NOTHING;
    let holding = Holding::begin()?;
    loop {
        let worker = spawn_worker(&holding, |inherited| {
            // The holder opens nothing: a worker that starts would close it.
            if let Err(error) = files.tell(role, &std::process::id().to_string()) {
                eprintln!("{role}: {error}");
                return 4;
            }
            let recovery = if keeps {
                Recovery::begin(memory.clone(), inherited, false)
            } else {
                // The descriptors are closed, like those of a process that dies alone.
                let mut inherited = inherited;
                inherited.take_rest().for_each(drop);
                Recovery::none()
            };
            match work(role, &files, recovery) {
                Ok(()) => 3,
                Err(error) => {
                    eprintln!("{role}: {error}");
                    4
                }
            }
        })?;
        if let Ended::Exited(code) = worker.wait()? {
            eprintln!("{role}: a worker has ended by itself, with {code}");
            return Ok(ExitCode::FAILURE);
        }
    }
}

fn work(role: &str, files: &Files, recovery: Recovery) -> Outcome<()> {
    // As in the programs, a server has several threads, a client has one.
    let mut builder = match role {
        "server" => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match role {
            "server" => serve(files, recovery).await,
            _ => connect(files, recovery).await,
        }
    })
}

fn identity(files: &Files, name: &str) -> Outcome<Identity> {
    Ok(Identity::load_or_create(&files.path(name))?)
}

async fn serve(files: &Files, mut recovery: Recovery) -> Outcome<()> {
    let host = identity(files, "host_key")?;
    let mut config = ServerConfig::new("127.0.0.1:0".parse()?, host, files.path("authorized_keys"));
    // The folder is inside one that everybody may write to.
    config.strict_modes = None;
    let sockets = format!("unix:{}/*", files.0.display());
    config.permits = vec!["*:*".parse()?, sockets.parse()?];
    let server = Server::recover_or_bind(&mut recovery, config)?;
    recovery.finish();
    files.tell("server_address", &server.local_addr()?.to_string())?;
    server.run(std::future::pending()).await;
    Ok(())
}

async fn connect(files: &Files, mut recovery: Recovery) -> Outcome<()> {
    let server: ServerAddress = files.read("server_address").ok_or("no server")?.parse()?;
    let user = identity(files, "user_key")?;
    let trust = Trust::new(files.path("known_hosts")).accepting_new();
    let mut listeners = Vec::new();
    let (mut addresses, unix) = (Vec::new(), format!("unix:{}", files.path("apps").display()));
    for (listen, target) in [("127.0.0.1:0", "tcp_target"), (&unix, "unix_target")] {
        let listen: Listen = listen.parse()?;
        let target: Target = files.read(target).ok_or("no target")?.parse()?;
        let listener = Listener::recover_or_bind(&mut recovery, &listen)?;
        addresses.push(listener.name());
        listeners.push((listener, target));
    }
    let dynamic = Listener::recover_or_bind(&mut recovery, &"127.0.0.2:0".parse()?)?;
    let config = ClientConfig::new(server.into(), user, trust, this_instance("restarts"));
    let mut client = Client::recover_or_start(&mut recovery, config)?;
    recovery.finish();
    files.tell("tcp_address", &addresses[0])?;
    files.tell("dynamic_address", &dynamic.name())?;
    tokio::spawn(serve_dynamic(dynamic, client.opener()));
    let target = files.read("tcp_target").ok_or("no target")?;
    let remote = RemoteForward::new(format!("127.0.0.1:0:{target}").parse()?);
    let mut place = client.forward_remotely(remote);
    let remote_files = Files(files.0.clone());
    tokio::spawn(async move {
        while let Ok(at) = place.wait_for(Option::is_some).await.map(|at| at.clone()) {
            let text = at.map(|at| at.to_string()).unwrap_or_default();
            if let Err(error) = remote_files.tell("remote_address", &text) {
                eprintln!("{error}");
            }
            if place.changed().await.is_err() {
                return;
            }
        }
    });
    for (mut listener, target) in listeners {
        let opener = client.opener();
        tokio::spawn(
            async move { while opener.carry(listener.accept().await, Some(&target)).await {} },
        );
    }
    Err(client.ended().await.into())
}

/// Returns whether the files of keys are there, and makes them if not.
pub(crate) fn make_keys(folder: &Path) -> Outcome<()> {
    let files = Files(folder.to_owned());
    identity(&files, "host_key")?;
    let user = identity(&files, "user_key")?;
    std::fs::write(files.path("authorized_keys"), format!("{}\n", user.public_key()))?;
    Ok(())
}
