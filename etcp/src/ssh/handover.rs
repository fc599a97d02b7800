//! The data that `etcp ssh` leaves for the etcp that ssh starts as its `ProxyCommand`: a folder
//! that only this user can enter, removed as soon as it was read.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use eternaltcp::QuietConfig;
use eternaltcp::address::ServerAddress;
use eternaltcp::paths::{temporary, user_runtime};
use eternaltcp::tls::{Identity, PublicKey};

use crate::exit::ExitError;
use crate::paths::temporary_folder;
use crate::talk::Message;

/// The prefix of the names of such folders.
const PREFIX: &str = "etcp-ssh-";

/// Age at which a folder counts as left by an interrupted login.
const LEFT: Duration = Duration::from_secs(3600);

/// The route of carriers to the sproxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SproxyRoute {
    /// Their own connections, to each of these servers.
    Direct(Vec<ServerAddress>),
    /// Each carrier goes through an ssh with these arguments, the last of which is HOST.
    ViaSsh(Vec<OsString>),
}

/// Everything that is needed to forward a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Handover {
    pub(crate) host: String,
    pub(crate) route: SproxyRoute,
    pub(crate) port: u16,
    /// The key of the sproxy.
    pub(crate) key: PublicKey,
    /// The path of etcp at the server.
    pub(crate) program: String,
    /// An address at the server; the route to it decides when the network has changed.
    pub(crate) route_to: Option<String>,
    pub(crate) heartbeat: Duration,
    pub(crate) dead_after: Duration,
    pub(crate) quiet: Option<QuietConfig>,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) bind_address: Option<String>,
    pub(crate) bind_interface: Option<String>,
    /// The address family, in ssh's notation.
    pub(crate) address_family: Option<String>,
    /// The URL of the proxy, with its password.
    pub(crate) proxy: Option<String>,
    /// The place of the control socket, in the notation of its flag.
    pub(crate) control: Option<String>,
    /// The command for events.
    pub(crate) on_event: Option<String>,
    /// Whether the terminal's title says when the path is away.
    pub(crate) has_title: bool,
}

/// The folder with the key that was made for this connection.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates a folder with a key in it.
    pub(crate) fn make() -> Result<(Self, Identity), ExitError> {
        let places = user_runtime().into_iter().chain(temporary());
        let folder = temporary_folder(PREFIX, places.inspect(|place| sweep(place)))?;
        let identity = Identity::load_or_create(&folder.path().join("key"));
        let identity = identity.map_err(ExitError::failed)?;
        Ok((Self(folder.keep()), identity))
    }

    /// Returns the folder at this path, which [`Self::make`] created in another process.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, handover: &Handover) -> Result<(), ExitError> {
        let failed = |error| cannot("write to", &self.0, &error);
        if let Some(command) = &handover.on_event {
            // It may have several lines.
            fs::write(self.0.join("on-event"), command).map_err(failed)?;
        }
        fs::write(self.0.join("tunnel"), handover.to_message().to_string()).map_err(failed)?;
        fs::write(self.0.join("route"), join(&handover.route)).map_err(failed)
    }

    /// Reads the contents.
    pub(crate) fn read(&self) -> Result<(Handover, Identity), ExitError> {
        let identity = Identity::load(&self.0.join("key")).map_err(ExitError::failed)?;
        let text = |name| {
            fs::read(self.0.join(name)).map_err(|error| cannot("read from", &self.0, &error))
        };
        let (tunnel, route) = (text("tunnel")?, text("route")?);
        let handover = Handover::from_message(&String::from_utf8_lossy(&tunnel), &route);
        let on_event = fs::read_to_string(self.0.join("on-event")).ok();
        let handover = handover.map(|handover| Handover { on_event, ..handover });
        let broken = || ExitError::Failed(format!("the content of {} is broken", self.0.display()));
        Ok((handover.ok_or_else(broken)?, identity))
    }
}

/// Removes the folders of interrupted logins of this user.
fn sweep(place: &Path) {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::getuid().as_raw();
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
        // For a symbolic link, this returns the metadata of the link itself.
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
        if is_ours && metadata.is_dir() && metadata.uid() == user && age > Some(LEFT) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The folder holds a key, so all of it is removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Handover {
    fn to_message(&self) -> Message {
        let message = Message::new("tunnel")
            .with("host", &self.host)
            .with("port", self.port)
            .with("key", &self.key)
            .with("program", &self.program)
            .with("heartbeat", self.heartbeat.as_millis())
            .with("dead-after", self.dead_after.as_millis());
        let text = |time: Duration| time.as_millis().to_string();
        let give_up_after = self.give_up_after.map(text);
        [
            ("quiet-after", self.quiet.map(|quiet| text(quiet.after))),
            ("quiet-heartbeat", self.quiet.map(|quiet| text(quiet.heartbeat))),
            ("route-to", self.route_to.clone()),
            ("give-up-after", give_up_after),
            ("bind-address", self.bind_address.clone()),
            ("bind-interface", self.bind_interface.clone()),
            ("address-family", self.address_family.clone()),
            ("proxy", self.proxy.clone()),
            ("control", self.control.clone()),
            ("title", self.has_title.then(|| "yes".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .fold(message, |message, (name, value)| message.with(name, value))
    }

    fn from_message(line: &str, route: &[u8]) -> Option<Self> {
        let message = Message::parse(line).ok()??;
        let text = |name| message.text(name).map(str::to_owned);
        let millis = |name| Some(Duration::from_millis(message.get(name).ok()?));
        Some(Self {
            host: text("host")?,
            route: split(route)?,
            port: message.get("port").ok()?,
            key: PublicKey::from_openssh(message.text("key")?).ok()?,
            program: text("program")?,
            route_to: text("route-to"),
            heartbeat: millis("heartbeat")?,
            dead_after: millis("dead-after")?,
            quiet: millis("quiet-after")
                .zip(millis("quiet-heartbeat"))
                .map(|(after, heartbeat)| QuietConfig { after, heartbeat }),
            give_up_after: millis("give-up-after"),
            bind_address: text("bind-address"),
            bind_interface: text("bind-interface"),
            address_family: text("address-family"),
            proxy: text("proxy"),
            control: text("control"),
            on_event: None,
            has_title: text("title").is_some(),
        })
    }
}

/// Joins arguments, which may contain every byte except NUL; a NUL ends each.
fn join(route: &SproxyRoute) -> Vec<u8> {
    let words: Vec<OsString> = match route {
        SproxyRoute::Direct(servers) => {
            let servers = servers.iter().map(|server| server.to_string().into());
            [OsString::from("direct")].into_iter().chain(servers).collect()
        }
        SproxyRoute::ViaSsh(args) => [OsString::from("ssh")].iter().chain(args).cloned().collect(),
    };
    words.iter().flat_map(|word| word.as_bytes().iter().chain(&[0])).copied().collect()
}

fn split(bytes: &[u8]) -> Option<SproxyRoute> {
    let mut words = bytes.strip_suffix(&[0])?.split(|byte| *byte == 0);
    match words.next()? {
        b"direct" => {
            let parse = |word| std::str::from_utf8(word).ok()?.parse().ok();
            words.map(parse).collect::<Option<_>>().map(SproxyRoute::Direct)
        }
        b"ssh" => {
            Some(SproxyRoute::ViaSsh(words.map(|word| OsString::from_vec(word.to_vec())).collect()))
        }
        _ => None,
    }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> ExitError {
    ExitError::Failed(format!("cannot {what} {}: {error}", path.display()))
}

/// Quotes one word for the shell that runs a `ProxyCommand`, in which ssh expands `%`.
pub(crate) fn proxy_word(word: &OsStr) -> OsString {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            b'%' => quoted.extend(b"%%"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handover(route: SproxyRoute) -> Handover {
        Handover {
            host: "me@host".to_owned(),
            route,
            port: 41_234,
            key: Identity::generate().unwrap().public_key(),
            program: "/home/me/my programs/etcp".to_owned(),
            route_to: None,
            heartbeat: Duration::from_secs(1),
            dead_after: Duration::from_millis(2500),
            quiet: Some(QuietConfig::default()),
            give_up_after: Some(Duration::from_secs(60)),
            bind_address: None,
            bind_interface: Some("wlan0".to_owned()),
            address_family: Some("inet6".to_owned()),
            proxy: Some("http://me:a%20b@proxy.test:3128".to_owned()),
            control: Some("none".to_owned()),
            on_event: Some("printf '%s\n' \"$ETCP_EVENT\"\nexit 0".to_owned()),
            has_title: true,
        }
    }

    #[test]
    fn the_handover_arrives_and_leaves_no_files() {
        let args = ["-p", "22", "-i", "a b", "host"].map(OsString::from).to_vec();
        for route in [
            SproxyRoute::Direct(vec!["host:1".parse().unwrap(), "[::1]:1".parse().unwrap()]),
            SproxyRoute::ViaSsh(args),
        ] {
            let (folder, identity) = Folder::make().unwrap();
            let path = folder.path().to_owned();
            let handover = handover(route);
            folder.write(&handover).unwrap();
            let (read, key) = Folder::at(path.clone()).read().unwrap();
            assert_eq!(read, handover);
            assert_eq!(key.public_key(), identity.public_key());
            assert!(!path.exists());
            std::mem::forget(folder);
        }
    }

    #[test]
    fn only_old_folders_of_broken_log_ins_are_swept_away() {
        let place = tempfile::tempdir().unwrap();
        let hours_ago = std::time::SystemTime::now() - 2 * LEFT;
        for (name, is_old) in [("etcp-ssh-old", true), ("etcp-ssh-new", false), ("other", true)] {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("key"), "").unwrap();
            if is_old {
                fs::File::open(&path).unwrap().set_modified(hours_ago).unwrap();
            }
        }
        sweep(place.path());
        let mut left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["etcp-ssh-new", "other"]);
    }

    #[test]
    fn a_word_of_a_proxy_command_is_left_as_it_is() {
        assert_eq!(proxy_word(OsStr::new("/a b/100%'s")), r"'/a b/100%%'\''s'");
    }
}
