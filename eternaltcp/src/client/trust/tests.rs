//! Tests of the decision about a server's key.

use super::*;
use eternaltcp_tls::Identity;

#[test]
fn several_files_are_read_and_one_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let [mine, global] = ["mine", "global"].map(|name| folder.path().join(name));
    let [key, other] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
    let server: ServerAddress = "a".parse().unwrap();
    let trust = || Trust::new(mine.clone()).reading(vec![global.clone()]);
    let line = |key| known_hosts_line(&server, key);
    trust().check(&server, &key).unwrap_err();
    std::fs::write(&global, line(&key)).unwrap();
    trust().check(&server, &key).unwrap();
    let changed = trust().accepting_new().check(&server, &other).unwrap_err().to_string();
    assert!(changed.contains("HAS CHANGED") && changed.contains("global:1"), "{changed}");
    std::fs::write(&mine, format!("@revoked * {key}")).unwrap();
    assert!(trust().check(&server, &key).unwrap_err().to_string().contains("mine:1"));
    let list = folder.path().join("list");
    std::fs::write(&list, other.to_string()).unwrap();
    let revoking = || trust().accepting_new().revoking(list.clone());
    let c: ServerAddress = "c".parse().unwrap();
    assert!(revoking().check(&c, &other).unwrap_err().to_string().contains("is revoked"));
    assert!(trust().revoking(list.join("none")).check(&server, &key).is_err());
    let b: ServerAddress = "b".parse().unwrap();
    trust().accepting_new().check(&b, &other).unwrap();
    assert!(std::fs::read_to_string(&mine).unwrap().ends_with(&format!("[b]:6200 {other}\n")));
    assert_eq!(std::fs::read_to_string(&global).unwrap(), line(&key));
}

#[test]
fn several_keys_of_one_name_are_each_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let [one, two, other] = [(); 3].map(|()| Identity::generate().unwrap().public_key());
    let server: ServerAddress = "fleet".parse().unwrap();
    let lines = [&one, &two].map(|key| known_hosts_line(&server, key));
    std::fs::write(&file, lines.join("\n")).unwrap();
    for key in [&one, &two] {
        assert_eq!(Trust::new(file.clone()).check(&server, key), Ok(()));
    }
    let why = Trust::new(file).accepting_new().check(&server, &other).unwrap_err();
    assert!(why.to_string().contains("HAS CHANGED"), "{why}");
}

#[test]
fn an_authority_of_certificates_makes_no_server_known_and_the_refusal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let [key, authority] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
    let server: ServerAddress = "node-1.example.org".parse().unwrap();
    for (name, is_told) in
        [("*.example.org", true), ("[node-1.example.org]:6200", true), ("*.example.net", false)]
    {
        // Also a line with the very key that the server proves.
        for key_of_line in [&authority, &key] {
            std::fs::write(&file, format!("\n@cert-authority {name} {key_of_line}\n")).unwrap();
            let why = Trust::new(file.clone()).check(&server, &key).unwrap_err().to_string();
            assert!(why.contains("is not in") && why.contains("or add the line: "), "{why}");
            let told = format!("({}:2, @cert-authority, is for ssh alone)", file.display());
            assert_eq!(why.contains(&told), is_told, "{why}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_passed_over_and_reported_if_the_server_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    let odd = vec![folder.path().to_owned(), good.join("below"), good.clone()];
    let key = Identity::generate().unwrap().public_key();
    let server: ServerAddress = "a".parse().unwrap();
    let trust = || Trust::new(folder.path().join("none")).reading(odd.clone());
    let why = trust().check(&server, &key).unwrap_err().to_string();
    assert!(why.contains("is not a regular file"), "{why}");
    std::fs::write(&good, format!("a {key}")).unwrap();
    assert_eq!(trust().check(&server, &key), Ok(()));
}

#[test]
fn no_server_counts_as_new_while_the_file_that_gets_new_ones_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let [mine, global] = ["mine", "global"].map(|name| folder.path().join(name));
    std::fs::create_dir(&mine).unwrap();
    let key = Identity::generate().unwrap().public_key();
    let server: ServerAddress = "a".parse().unwrap();
    let trust = |mine: &Path, global: &Path| {
        Trust::new(mine.to_owned()).reading(vec![global.to_owned()]).accepting_new()
    };
    let why = trust(&mine, &global).check(&server, &key).unwrap_err().to_string();
    assert!(why.contains("cannot tell") && why.contains("not a regular file"), "{why}");
    assert_eq!(trust(&global, &mine).check(&server, &key), Ok(()), "others are ignored");
    assert_eq!(trust(&mine, &global).check(&server, &key), Ok(()), "it is known there");
}

#[test]
fn a_name_without_a_port_is_believed_also_by_its_alias() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let [key, sshds] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
    let [server, alias] = ["192.0.2.1", "alias"].map(|name| name.parse::<ServerAddress>().unwrap());
    std::fs::write(&file, format!("alias {key}\n192.0.2.1 {sshds}\n")).unwrap();
    let trust = Trust::new(file.clone()).naming(server.clone(), alias);
    assert_eq!(trust.check(&server, &key), Ok(()));
    // A key of sshd is no evidence about sproxy's.
    let why = Trust::new(file.clone()).check(&server, &key).unwrap_err().to_string();
    assert!(why.contains("is not in"), "{why}");
    Trust::new(file).accepting_new().check(&server, &key).unwrap();
}

#[test]
fn a_hashed_name_is_found_again_and_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let key = Identity::generate().unwrap().public_key();
    let [server, alias] =
        ["192.0.2.1", "secret"].map(|name| name.parse::<ServerAddress>().unwrap());
    let trust = || Trust::new(file.clone()).hashing().naming(server.clone(), alias.clone());
    trust().accepting_new().check(&server, &key).unwrap();
    trust().check(&server, &key).unwrap();
    Trust::new(file.clone()).check(&alias, &key).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|") && !text.contains("secret"), "{text}");
}

#[test]
fn dev_null_stands_for_no_file() {
    let key = Identity::generate().unwrap().public_key();
    let trust = Trust::new("/dev/null".into());
    let server: ServerAddress = "a".parse().unwrap();
    assert!(trust.check(&server, &key).unwrap_err().to_string().contains("give --accept-new"));
    trust.accepting_new().check(&server, &key).unwrap();
}

#[test]
fn with_one_key_given_no_other_is_trusted() {
    let key = || Identity::generate().unwrap().public_key();
    let (wanted, other) = (key(), key());
    let trust = Trust::only(wanted.clone()).accepting_new();
    let server = "server.test".parse().unwrap();
    assert_eq!(trust.check(&server, &wanted), Ok(()));
    let why = trust.check(&server, &other).unwrap_err().to_string();
    assert!(why.contains("not the expected server"), "{why}");
}

/// Returns a server's present key and the next one, and the server.
fn change() -> (PublicKey, PublicKey, ServerAddress) {
    let [present, next] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
    (present, next, "server.test".parse().unwrap())
}

#[test]
fn a_key_that_is_announced_is_stored_once_and_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let (present, next, server) = change();
    std::fs::write(&file, known_hosts_line(&server, &present)).unwrap();
    let trust = Trust::new(file.clone());
    for _ in 0..2 {
        trust.update(&server.clone().into(), &present, &next);
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = [&present, &next].map(|key| format!("[server.test]:6200 {key}\n")).concat();
    assert_eq!(text, lines);
    for key in [&present, &next] {
        assert_eq!(Trust::new(file.clone()).check(&server, key), Ok(()));
    }
}

#[test]
fn a_line_without_a_port_still_serves_for_the_present_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let (present, next, server) = change();
    std::fs::write(&file, format!("server.test {present}\n")).unwrap();
    Trust::new(file.clone()).hashing().update(&server.clone().into(), &present, &next);
    for key in [&present, &next] {
        assert_eq!(Trust::new(file.clone()).check(&server, key), Ok(()));
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("\n|1|").count(), 2, "{text}");
}

#[test]
fn a_key_that_is_announced_is_not_stored_if_that_is_denied_or_the_file_does_not_know_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let [mine, global] = ["mine", "global"].map(|name| folder.path().join(name));
    let (present, next, server) = change();
    let update = |trust: Trust| trust.update(&server.clone().into(), &present, &next);
    std::fs::write(&global, known_hosts_line(&server, &present)).unwrap();
    update(Trust::new(mine.clone()).reading(vec![global.clone()]));
    assert!(!mine.exists());
    update(Trust::new(global.clone()).without_updates());
    update(Trust::only(present.clone()));
    assert_eq!(std::fs::read_to_string(&global).unwrap(), known_hosts_line(&server, &present));
    // This process accepts what a trusted server has announced where no file says otherwise.
    let trust = Trust::new(mine).accepting_new();
    update(trust.clone());
    assert_eq!(trust.check(&server, &next), Ok(()));
}

/// [ANNOUNCE-4]
#[test]
fn a_revoked_key_is_not_learned() {
    let folder = tempfile::tempdir().unwrap();
    let [file, list] = ["known_hosts", "revoked"].map(|name| folder.path().join(name));
    let (present, next, server) = change();
    let line = known_hosts_line(&server, &present);
    std::fs::write(&file, &line).unwrap();
    std::fs::write(&list, next.to_string()).unwrap();
    Trust::new(file.clone()).revoking(list).update(&server.clone().into(), &present, &next);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), line);
    let revoked = format!("{line}\n@revoked * {next}\n");
    std::fs::write(&file, &revoked).unwrap();
    Trust::new(file.clone()).update(&server.into(), &present, &next);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), revoked);
}
