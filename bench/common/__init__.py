"""The parts that the benches share, from the bottom up:

stop        waiting that ends when the run does
netns       namespaces, and the programs that run in them
linkem      the link emulator between two of them
machine     what the machine must have, and the build
keys        an ssh key for each side of etcp
page        tables in Markdown
svg         pictures
"""
