"""The parts of `bench/recovery`, from the bottom up (what it shares with
`bench/run` is in `common`):

conntrack   the router's table of flows
relay       a TCP proxy on the router, a program of its own
world       client, router and server with all of that between them
stream      the stream that pauses, and when its messages arrived
subjects    what carries the stream: plain TCP, MPTCP, etcp
faults      what happens to it, and what is wanted then
programs    the programs that take part
sample      one fault, measured
plan        all of them, many worlds side by side
summary     what the samples of a cell come to
report      the tables, around the text of recovery.md
plot        the pictures
"""
