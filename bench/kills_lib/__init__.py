"""The parts of `bench/kills`, from the bottom up:

streams     sessions that compare every byte
pair        a cproxy and an sproxy with their sessions
killer      the deaths of their workers
"""
