//! Finds ports by the names of their services, as getservbyname(3) does (services(5)).

use std::fs::File;
use std::io::Read;

const FILE: &str = "/etc/services";

/// The maximum number of bytes that are read of the file.
const MAX_FILE: u64 = 4 << 20;

/// Returns the TCP port of a service.
pub(super) fn port_of(name: &str) -> Result<u16, &'static str> {
    let Ok(file) = File::open(FILE) else {
        return Err("there is no /etc/services with the names of ports: write its number");
    };
    let mut bytes = Vec::new();
    // The data that were read before an error are used.
    let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
    find(&String::from_utf8_lossy(&bytes), name)
        .ok_or("/etc/services has no TCP port of this name: write its number, from 1 to 65535")
}

/// Finds a name or an alias; lines that cannot be parsed are ignored.
fn find(services: &str, name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let (own, port) = (words.next()?, words.next()?);
        let port = port.strip_suffix("/tcp")?;
        let is_it = own == name || words.any(|alias| alias == name);
        is_it.then(|| port.parse().ok()).flatten().filter(|port| *port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &str = "# echo 9/tcp\necho\t\t7/tcp\necho 8/udp\nsyslog 514/udp\n\
        http 80/tcp www\t# WorldWideWeb\nbroken\nzero 0/tcp\nhigh 65536/tcp\nlast 1/tcp#x";

    #[test]
    fn a_service_is_found_by_its_name_and_its_aliases() {
        for (name, port) in [
            ("echo", Some(7)),
            ("http", Some(80)),
            ("www", Some(80)),
            ("last", Some(1)),
            ("syslog", None),
            ("HTTP", None),
            ("WorldWideWeb", None),
            ("broken", None),
            ("zero", None),
            ("high", None),
            ("#", None),
            ("7/tcp", None),
        ] {
            assert_eq!(find(SERVICES, name), port, "{name}");
        }
    }

    #[test]
    fn an_unknown_service_is_refused_and_the_file_is_named() {
        let problem = port_of("no-such-service").unwrap_err();
        assert!(problem.contains("/etc/services") && problem.contains("number"), "{problem}");
    }
}
