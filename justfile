# Short names for the scripts. All checks are in .ci/run.

# every check
ci:
    .ci/run

# the tests alone
test:
    cargo test --workspace --locked

# COUNT fresh worlds of the simulation on all cores; also --base SEED, --jobs N, --keep-going
sim count *args:
    cargo run --profile worlds --locked -p eternaltcp-sim --example worlds -- {{count}} {{args}}

# incidents of a fleet of 1000 nodes and a million tunnels on virtual time; also --nodes N, --tunnels N
sim-fleet *args:
    cargo run --profile worlds --locked -p eternaltcp-sim --example fleet -- {{args}}

# how fast etcp is, compared with other ways to carry TCP, into docs/benchmarks.md; needs root
bench *args:
    bench/run {{args}}

# how long the core's queues and the record layer take, by criterion; also --save-baseline NAME, --baseline NAME
bench-core *args:
    cargo bench --locked -p eternaltcp-bench -- {{args}}

# how long a stream pauses after each fault, into docs/recovery.md; needs root
recovery *args:
    bench/recovery {{args}}

# KILLS workers of real proxies under load, every byte compared; also --control flip, --pairs N; needs a release build
kills count="10000" *args:
    bench/kills {{count}} {{args}}

# Counts the bytes and wake-ups of an idle tunnel: run it as root
idle *args:
    bench/idle {{args}}

# the main job, whole, in one command
demo:
    cargo run --release --locked -- demo

# mixed sessions under a schedule of every fault, for MINUTES minutes; needs root
soak minutes="30":
    ETCP_SOAK_MINUTES={{minutes}} cargo test --release --locked -p etcp --test faults mixed -- --nocapture

# CLIENTS (at most 240) behind HAProxy, behind nginx, and with several addresses; needs root
fleet clients="200":
    ETCP_FLEET_CLIENTS={{clients}} cargo test --workspace --locked --test netns many_clients -- --nocapture --test-threads 1

# static programs, Debian packages, their components and checksums, into target/dist
dist *args:
    packaging/build {{args}}

# whether the library compiles for macOS; needs rustup and pip
check-macos:
    .ci/check-macos
