//! The command that the user's shell at the server runs: a line that finds etcp, and stores a copy
//! of it if there is none.
//!
//! Every shell passes text in single quotes to sh unchanged. Therefore the script contains no
//! quotes, backslashes and exclamation marks.

use super::copy::Copies;

/// The etcp to use at the server.
#[derive(Debug)]
pub(crate) enum EtcpChoice {
    /// The first one that is found at the usual places.
    Found,
    /// The program at this path.
    Path(String),
    /// A copy from here, of the program for the server's kind of machine.
    Copied(Copies),
}

impl EtcpChoice {
    /// Returns the first line of the script's input: a path, or nothing.
    pub(crate) fn path(&self) -> String {
        match self {
            // ssh runs commands in the home folder.
            Self::Path(path) => match path.strip_prefix("~/") {
                Some(inside) => format!("./{inside}"),
                None => path.clone(),
            },
            Self::Found | Self::Copied(_) => String::new(),
        }
    }
}

/// The folder of copies at the server, as the variable `c`.
const CACHE: &str = r#"c="${XDG_CACHE_HOME:-$HOME/.cache}/eternaltcp"; "#;

/// Returns the command that starts etcp at the server and passes its stdin on to it. It first reads
/// two lines: a path or nothing, and another that it ignores if there is no etcp.
pub(crate) fn serve(wanted: &EtcpChoice) -> String {
    let candidates = match wanted {
        EtcpChoice::Found | EtcpChoice::Path(_) => {
            let version = env!("CARGO_PKG_VERSION");
            format!(
                "set -- etcp \"$HOME/.local/bin/etcp\" \"$HOME/.cargo/bin/etcp\" /usr/local/bin/etcp \
                 \"$c\"/etcp-{version}-\"$(uname -m)\"-*"
            )
        }
        EtcpChoice::Copied(copies) => {
            let cases: String = copies
                .names()
                .map(|(kind, name)| format!("\"{kind}\") set -- \"$c/{name}\";; "))
                .collect();
            format!("case \"$(uname -sm)\" in {cases}*) set --;; esac")
        }
    };
    let find = format!(
        "read -r p; {CACHE}\
         if [ -n \"$p\" ]; then set -- \"$p\"; else {candidates}; fi; \
         for e do if command -v \"$e\" >/dev/null 2>&1; then exec \"$e\" one-user; fi; done; \
         read -r w; echo; echo \"ETERNALTCP 1 missing\tsystem=$(uname -sm)\"; "
    );
    let take = match wanted {
        EtcpChoice::Found | EtcpChoice::Path(_) => "",
        // Nothing is sent to a server of another kind.
        EtcpChoice::Copied(_) => {
            "read -r n && [ \"$n\" -gt 0 ] && mkdir -p \"$c\" && \
             head -c \"$n\" >\"$c/.$$\" && [ \"$(wc -c <\"$c/.$$\")\" -eq \"$n\" ] && \
             chmod 755 \"$c/.$$\" && mv \"$c/.$$\" \"$1\" && \
             echo \"ETERNALTCP 1 copied\" && exec \"$1\" one-user; rm -f \"$c/.$$\""
        }
    };
    in_sh(&format!("{find}{take}"))
}

/// Returns the command that connects a carrier. It first reads the path of etcp. If that program was
/// a copy and was removed since, another copy connects it.
pub(crate) fn carry() -> String {
    in_sh(&format!(
        "read -r p; {CACHE}\
         [ -x \"$p\" ] || for e in \"$c\"/etcp-*-\"$(uname -m)\"-*; do [ -x \"$e\" ] && p=$e; done; \
         exec \"$p\" one-user"
    ))
}

fn in_sh(script: &str) -> String {
    format!("exec sh -c '{script}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_passes_the_scripts_on_as_they_are() {
        let copied = EtcpChoice::Copied(Copies::find().unwrap());
        let wanted = [EtcpChoice::Found, EtcpChoice::Path("x".to_owned()), copied];
        for script in wanted.iter().map(serve).chain([carry()]) {
            let inner = script.strip_prefix("exec sh -c '").unwrap().strip_suffix('\'').unwrap();
            assert!(!inner.contains(['\'', '\\', '!', '\n']), "{script}");
        }
    }

    #[test]
    fn a_path_in_the_home_folder_there_may_be_written_with_a_tilde() {
        let path = |text: &str| EtcpChoice::Path(text.to_owned()).path();
        assert_eq!(path("~/etcp"), "./etcp");
        assert_eq!(path("/opt/etcp"), "/opt/etcp");
        assert_eq!(EtcpChoice::Found.path(), "");
    }
}
