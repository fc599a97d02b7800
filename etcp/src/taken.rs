//! Explains why an address cannot be listened on: which process uses it, and what to do.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;

use eternaltcp::address::Listen;
use eternaltcp::clean;
use eternaltcp::control::ProcessStatus;
use eternaltcp::process::main_process;
use eternaltcp::status::Peer;

use crate::exit::ExitError;
use crate::running;

const ITSELF: &str = "this command itself listens there already";

/// Returns the failure to listen on `listen`, in one line.
pub(crate) fn cannot_listen(listen: &Listen, error: &io::Error) -> ExitError {
    ExitError::Failed(format!("cannot listen on {listen}: {}", explain(listen, error)))
}

/// Describes an error of listening there, and what to do about it.
pub(crate) fn explain(listen: &Listen, error: &io::Error) -> String {
    let advice = match (error.kind(), listen.port()) {
        (io::ErrorKind::PermissionDenied, Some(port)) => privileged(port, first_free_port()),
        (io::ErrorKind::AddrInUse, None) if !is_socket(listen) => {
            Some("another file is there: choose another path".to_owned())
        }
        (io::ErrorKind::AddrInUse, port) => {
            let other = match port {
                Some(_) => "choose another port",
                None => "choose another path",
            };
            let holder = ours(listen).or_else(|| port.and_then(of_port));
            let holder = holder.unwrap_or_else(|| match port {
                Some(port) => {
                    format!("another program has it (ss -ltnp 'sport = {port}' tells which)")
                }
                None => "another program has it".to_owned(),
            });
            Some(match holder.as_str() {
                ITSELF => format!("{holder}: {other}"),
                _ => format!("{holder}: {other}, or end that one"),
            })
        }
        (io::ErrorKind::AddrNotAvailable, Some(_)) => {
            Some("no interface of this machine has this address now".to_owned())
        }
        _ => None,
    };
    advice.map_or_else(|| error.to_string(), |advice| format!("{error}; {advice}"))
}

fn is_socket(listen: &Listen) -> bool {
    let Listen::Unix(path) = listen else { return false };
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// Returns the first port that needs no privilege (ip(7)).
fn first_free_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// Returns advice for a port below `limit`, which needs a privilege.
fn privileged(port: u16, limit: u16) -> Option<String> {
    if port >= limit {
        return None;
    }
    let program = std::env::current_exe()
        .map_or_else(|_| "PATH_OF_ETCP".to_owned(), |path| path.display().to_string());
    Some(format!(
        "ports below {limit} need a privilege: choose another port, or give it to this program (setcap \
         cap_net_bind_service=+ep {program}), or to every program (sysctl \
         net.ipv4.ip_unprivileged_port_start={port})"
    ))
}

/// Returns the proxy of this user that listens there, if any.
fn ours(listen: &Listen) -> Option<String> {
    let found = running::all(None);
    let mut statuses = found.iter().filter_map(|proxy| running::status(proxy).ok());
    statuses.find(|status| has(status, listen)).map(|status| describe(&status))
}

fn has(status: &ProcessStatus, listen: &Listen) -> bool {
    status.process != main_process()
        && status.listen.iter().filter_map(|text| text.parse::<Listen>().ok()).any(
            |it| match listen.port() {
                Some(port) => it.port() == Some(port),
                None => it == *listen,
            },
        )
}

fn describe(status: &ProcessStatus) -> String {
    let to = status.tunnels.iter().find_map(|tunnel| match &tunnel.peer {
        Peer::Server(server) => Some(format!(" to {}", clean(&server.address))),
        Peer::Client(_) => None,
    });
    format!("{}{} has it (process {})", status.role, to.unwrap_or_default(), status.process)
}

/// Returns the program that listens on a port, as far as this user may see it.
fn of_port(port: u16) -> Option<String> {
    let sockets: Vec<_> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|table| listeners(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    for process in processes {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if links.into_iter().any(|link| sockets.iter().any(|socket| link.as_os_str() == &**socket))
        {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let number = process.file_name().display().to_string();
            if [std::process::id(), main_process()].iter().any(|own| number == own.to_string()) {
                return Some(ITSELF.to_owned());
            }
            return Some(format!("{} has it (process {number})", clean(name.trim_end())));
        }
    }
    None
}

/// Returns the inodes of the sockets that listen on a port, from a table of proc(5).
fn listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTENS: &str = "0A";
    let rows = table.lines().skip(1).filter_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let (_, local) = words.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *words.get(3)? == LISTENS;
        is_it.then(|| words.get(9)?.parse().ok()).flatten()
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use etcp_testkit::HeldPort;

    #[test]
    fn the_table_of_sockets_tells_who_listens_on_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
            1: 0100007F:1F90 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n   \
            2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n\
            broken\n";
        assert_eq!(listeners(table, 8080), [4711]);
        assert_eq!(listeners(table, 22), [4713]);
        assert!(listeners(table, 80).is_empty() && listeners("", 80).is_empty());
    }

    #[test]
    fn the_owner_of_a_port_and_a_remedy_are_reported() {
        let held = HeldPort::take();
        let port = held.number();
        let listen: Listen = format!("127.0.0.1:{port}").parse().unwrap();
        let error = io::ErrorKind::AddrInUse.into();
        let text = cannot_listen(&listen, &error).text().to_owned();
        assert!(text.contains("another program has it (ss -ltnp"), "{text}");
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let text = cannot_listen(&listen, &error).text().to_owned();
        let own = "this command itself listens there already: choose another port";
        assert!(text.contains(own), "{text}");
    }

    #[test]
    fn a_privileged_port_comes_with_three_ways_out() {
        let text = privileged(1, 1024).unwrap();
        for way in ["choose another port", "setcap", "ip_unprivileged_port_start=1"] {
            assert!(text.contains(way), "{text}");
        }
        assert!(privileged(8080, 1024).is_none());
        let error = io::ErrorKind::PermissionDenied.into();
        let text = cannot_listen(&"unix:/x".parse().unwrap(), &error).text().to_owned();
        assert!(!text.contains("setcap"), "{text}");
    }
}
