"""The parts of `bench/run`, from the bottom up (what it shares with
`bench/recovery` is in `common`):

tools       the programs that take part: found, installed, built
process     CPU time and memory of a process and its descendants
world       client and server, with a cable or a slow link between them
load        the load generator's modes, as calls
subject     one way from the load to the server, and how it comes up
plain       those without encryption: direct TCP, MPTCP, socat, haproxy
encrypted   those with: ssh, stunnel, rathole, etcp
subjects    all of them by name
crowd       very many idle sessions at once
thousand    very many tunnels at once
results     every sample, and the medians
run         what all sections have: options, tools, results, progress
lanes       measurements side by side
sections    what is measured, a file for each
wanted      what etcp is to reach beside the others
plot        the pictures
tables      the tables
report      the page, around the text of speed.md
"""
