//! A transaction left open in one psql, across every move, commits.

use std::net::TcpStream;

use etcp_testkit::terminal::Terminal;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::{
    IpFamily, Launch, NetworkFault, Process, ProcessFault, ProxyPair, Sproxy, TestFolder,
    TestWorld, skip,
};

const SERVER: &str = "127.0.0.1:5432";
const PROMPT: &str = "sql> ";

#[test]
fn an_open_transaction_commits_after_the_client_moved() {
    if !skip::can_run("netns::psql", &["initdb", "postgres", "psql"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let (_postgres, mut pair) = start_pair(&world, &folder);

    let mut psql = Terminal::start(psql("psql", 9000), &world.client, &folder);
    query(&mut psql, "CREATE TABLE moves (n int);", "CREATE TABLE");
    query(&mut psql, "CREATE TEMP TABLE mine AS SELECT 'same ' || 'backend' AS t;", "SELECT 1");
    for (n, fault) in (1..).zip(NetworkFault::CYCLE) {
        query(&mut psql, "BEGIN;", "BEGIN");
        query(&mut psql, &format!("INSERT INTO moves VALUES ({n});"), "INSERT 0 1");
        pair.survive(fault, &world);
        query(&mut psql, "COMMIT;", "COMMIT");
    }
    // A temporary table lives as long as its connection: this is the original one.
    query(&mut psql, "SELECT t FROM mine;", "same backend");

    // The row is visible to a client that never used the proxies.
    let mut witness = Terminal::start(psql_direct(), &world.server, &folder);
    query(&mut witness, "SELECT 'rows:' || count(*) FROM moves;", "rows:5");
    for mut terminal in [psql, witness] {
        terminal.line("\\q");
        assert!(terminal.process().wait(PATIENCE).success(), "psql is content");
    }
}

/// Numbers in the longest result: some megabytes.
const NUMBERS: u32 = 400_000;

#[test]
fn a_transaction_and_a_long_result_of_psql_survive_every_death_and_upgrade() {
    if !skip::can_run("netns::psql (deaths)", &["initdb", "postgres", "psql"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let (_postgres, mut pair) = start_pair(&world, &folder);
    let mut psql = Terminal::start(psql("psql", 9000), &world.client, &folder);
    query(&mut psql, "CREATE TEMP TABLE mine (n int);", "CREATE TABLE");
    let expected: String = (1..=NUMBERS).map(|number| format!("{number}\n")).collect();
    for (n, fault) in (1..).zip(ProcessFault::ALL) {
        query(&mut psql, "BEGIN;", "BEGIN");
        query(&mut psql, &format!("INSERT INTO mine VALUES ({n});"), "INSERT 0 1");
        // The result is on its way as the fault strikes.
        let copy = folder.join(&format!("{fault:?}"));
        psql.expect(PROMPT, PATIENCE);
        psql.line(&format!("\\o {}", copy.display()));
        psql.expect(PROMPT, PATIENCE);
        psql.line(&format!("SELECT * FROM generate_series(1, {NUMBERS});"));
        fault.strike(&mut pair, &world);
        psql.expect(PROMPT, PATIENCE);
        psql.line("\\o");
        query(&mut psql, "COMMIT;", "COMMIT");
        assert!(std::fs::read(&copy).is_ok_and(|it| it == expected.as_bytes()), "{fault:?}");
    }
    // A temporary table lives as long as its connection: this is the original one.
    query(
        &mut psql,
        "SELECT 'rows:' || count(*) FROM mine;",
        &format!("rows:{}", ProcessFault::ALL.len()),
    );
    psql.expect(PROMPT, PATIENCE);
    psql.line("\\q");
    assert!(psql.process().wait(PATIENCE).success(), "psql is content");
}

/// Types a query, waits for `answer`, which is not in it, and for the prompt.
fn query(psql: &mut Terminal, query: &str, answer: &str) {
    psql.expect(PROMPT, PATIENCE);
    psql.line(query);
    // The terminal's echo of the typed text comes first.
    psql.expect(query, PATIENCE);
    psql.expect(answer, PATIENCE);
}

fn psql_direct() -> Launch {
    psql("witness", 5432)
}

fn psql(name: &str, port: u16) -> Launch {
    Launch::new(name, "psql")
        .args(["-X", "-n", "-A", "-t", "-h", "127.0.0.1", "-U", "tester", "-d", "postgres"])
        .args(["-p", &port.to_string()])
        .args(["-v", &format!("PROMPT1={PROMPT}"), "-v", &format!("PROMPT2={PROMPT}")])
        .env("PAGER", "cat")
        .env("TERM", "dumb")
}

/// Starts a database, and both proxies in front of it.
fn start_pair(world: &TestWorld, folder: &TestFolder) -> (Process, ProxyPair) {
    let postgres = start_postgres(world, folder);
    let sproxy = Sproxy::start(world, folder, IpFamily::V4, SERVER, &[SERVER]);
    (postgres, ProxyPair::start(world, folder, sproxy, &[&format!("9000:{SERVER}")]))
}

/// Starts a server in the test's folder, as an ordinary user.
fn start_postgres(world: &TestWorld, folder: &TestFolder) -> Process {
    let data = folder.join("postgres");
    let initdb = skip::find("initdb").expect("was asked for");
    let mut initdb = Launch::new("initdb", initdb)
        .args(["-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
        .arg(&data)
        .start(&world.server, folder);
    assert!(initdb.wait(PATIENCE).success(), "initdb: {}", initdb.log());
    let postgres = skip::find("postgres").expect("was asked for");
    let mut process = Launch::new("postgres", postgres)
        .arg("-D")
        .arg(&data)
        .args(["-h", "127.0.0.1", "-p", "5432", "-c", "unix_socket_directories="])
        .start(&world.server, folder);
    process.wait_for("ready to accept connections", PATIENCE);
    until("PostgreSQL to accept", PATIENCE, || {
        world.server.run(|| TcpStream::connect(SERVER)).is_ok()
    });
    process
}
