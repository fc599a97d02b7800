//! Additions to the generated completion scripts, for values that only etcp knows.

/// Wraps the generated function: the words whose values etcp knows are completed here, and all
/// others there.
const BASH: &str = r#"
_etcp_values() {
    local kind="" before="$3"
    if [[ "$before" == "=" && "$COMP_CWORD" -ge 2 ]]; then
        before="${COMP_WORDS[COMP_CWORD - 2]}"
    fi
    case "$before" in
        -s|--server)
            case " ${COMP_WORDS[*]:0:COMP_CWORD} " in
                *" status "*|*" reconnect "*|*" sessions "*|*" doctor "*"--config"[\ =]*) kind=servers ;;
                *) kind=hosts ;;
            esac ;;
        --key) kind=keys ;;
        --control) kind=sockets ;;
        kill)
            case "${COMP_WORDS[1]}" in
                sessions) kind=sessions ;;
                tunnels) kind=tunnels ;;
            esac
            [[ "$2" == -* ]] && kind="" ;;
        page) [[ "$COMP_CWORD" -eq 2 && "$2" != -* ]] && kind=sockets ;;
        ssh) [[ "$COMP_CWORD" -eq 2 && "$2" != -* ]] && kind=hosts ;;
    esac
    if [[ -z "$kind" ]]; then
        _etcp "$@"
        return
    fi
    COMPREPLY=($(compgen -W "$("${1/#\~/$HOME}" complete-values "$kind" 2>/dev/null)" -- "$2"))
    if [[ "$kind" == sockets ]]; then
        COMPREPLY+=($(compgen -f -- "$2"))
    fi
}

complete -F _etcp_values -o bashdefault -o default etcp
"#;

/// The functions that the replaced actions of the generated script call.
const ZSH: &str = r#"
_etcp_values() {
    local -a values
    values=(${(f)"$(_call_program values etcp complete-values $1 2>/dev/null)"})
    compadd -a values
}
_etcp_hosts() { _etcp_values hosts }
_etcp_sessions() { _etcp_values sessions }
_etcp_sockets() { _etcp_values sockets; _files }
_etcp_tunnels() { _etcp_values tunnels }
_etcp_servers() { _etcp_values servers }
_etcp_keys() { _etcp_values keys }
"#;

const FISH: &str = r#"
for command in cproxy connect run
    complete -c etcp -n "__fish_etcp_using_subcommand $command" -s s -l server -x -a "(etcp complete-values hosts 2>/dev/null)"
end
for command in status reconnect reload drain sessions tunnels upgrade
    complete -c etcp -n "__fish_etcp_using_subcommand $command" -l control -r -F -a "(etcp complete-values sockets 2>/dev/null)"
end
complete -c etcp -n "__fish_etcp_using_subcommand page" -F -a "(etcp complete-values sockets 2>/dev/null)"
complete -c etcp -n "__fish_etcp_using_subcommand ssh" -a "(etcp complete-values hosts 2>/dev/null)"
for command in status reconnect sessions
    complete -c etcp -n "__fish_etcp_using_subcommand $command" -l server -x -a "(etcp complete-values servers 2>/dev/null)"
end
complete -c etcp -n "__fish_etcp_using_subcommand doctor; and __fish_seen_argument -l config" -l server -x -a "(etcp complete-values servers 2>/dev/null)"
for command in status tunnels
    complete -c etcp -n "__fish_etcp_using_subcommand $command" -l key -x -a "(etcp complete-values keys 2>/dev/null)"
end
complete -c etcp -n "__fish_etcp_using_subcommand tunnels; and __fish_seen_subcommand_from kill" -f -a "(etcp complete-values tunnels 2>/dev/null)"
complete -c etcp -n "__fish_etcp_using_subcommand sessions; and __fish_seen_subcommand_from kill" -f -a "(etcp complete-values sessions 2>/dev/null)"
"#;

pub(super) fn bash(mut script: Vec<u8>) -> Vec<u8> {
    script.extend_from_slice(BASH.as_bytes());
    script
}

pub(super) fn fish(mut script: Vec<u8>) -> Vec<u8> {
    script.extend_from_slice(FISH.as_bytes());
    script
}

/// Replaces the actions of the arguments whose values etcp knows. A value name with a colon is
/// replaced too: the generator does not escape it, and zsh would take its second half for an
/// action.
pub(super) fn zsh(script: Vec<u8>) -> Vec<u8> {
    let script = String::from_utf8_lossy(&script);
    let mut all = String::new();
    for line in script.lines() {
        let line = line
            .replace(":HOST[:PORT]:_default'", ":HOST:_etcp_hosts'")
            .replace(":HOST:PORT:_default'", ":TARGET: '")
            .replace(":[BIND:]PORT:HOST:HOSTPORT:_default'", ":FORWARD: '")
            .replace(":[BIND:]PORT:_default'", ":LISTEN: '")
            .replace(":START:RATE:FULL:_default'", ":STARTUPS: '")
            .replace(":MIN:MAX:_default'", ":PENALTIES: '");
        let is_socket = line.starts_with("'--control=[") || line.starts_with("'::proxy -- ");
        let action = if is_socket {
            Some("_etcp_sockets")
        } else if line.starts_with("':session -- ") {
            Some("_etcp_sessions")
        } else if line.starts_with("':tunnel -- ") || line.starts_with("'::tunnel -- ") {
            Some("_etcp_tunnels")
        } else if line.starts_with("'--server=[") {
            Some("_etcp_servers")
        } else if line.starts_with("'--key=[") || line.starts_with("'(tunnel)--key=[") {
            Some("_etcp_keys")
        } else if line.starts_with("'*::ssh -- ") {
            Some("_etcp_hosts")
        } else {
            None
        };
        match (action, line.rfind(":_")) {
            (Some(action), Some(at)) => {
                let end = line[at..].find('\'').map_or(line.len(), |end| at + end);
                all += &format!("{}:{action}{}\n", &line[..at], &line[end..]);
            }
            _ if line.starts_with("if [ \"$funcstack[1]\"") => all += &format!("{ZSH}\n{line}\n"),
            _ => all += &format!("{line}\n"),
        }
    }
    all.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zsh_asks_etcp_for_the_values_that_it_knows() {
        let script = "'*--server=[Where]:HOST[:PORT]:_default' \\\n\
                      '--control=[A\\: b]:PATH:_files' \\\n\
                      ':session -- The number:_default' \\\n\
                      '::proxy -- The proxy:_default' \\\n\
                      '::tunnel -- The name:_default' \\\n\
                      '--server=[To this one]:NAME:_default' \\\n\
                      '(tunnel)--key=[Of this one]:KEY:_default' \\\n\
                      '*::ssh -- What\\: it:_default' \\\n\
                      if [ \"$funcstack[1]\" = \"_etcp\" ]; then\n";
        let script = String::from_utf8(zsh(script.into())).unwrap();
        for line in [
            "'*--server=[Where]:HOST:_etcp_hosts' \\",
            "'--control=[A\\: b]:PATH:_etcp_sockets' \\",
            "':session -- The number:_etcp_sessions' \\",
            "'::proxy -- The proxy:_etcp_sockets' \\",
            "'::tunnel -- The name:_etcp_tunnels' \\",
            "'--server=[To this one]:NAME:_etcp_servers' \\",
            "'(tunnel)--key=[Of this one]:KEY:_etcp_keys' \\",
            "'*::ssh -- What\\: it:_etcp_hosts' \\",
            "_etcp_sockets() { _etcp_values sockets; _files }",
        ] {
            assert!(script.lines().any(|found| found == line), "{line}: {script}");
        }
    }
}
