"""A storm: for a minute the members of a group are started, stopped, killed, frozen past their session and woken, hung
past max.poll.interval.ms, in a mix drawn by a seed, while payments with repeats go through it. What became of them is
judged from the outside.

    plan.py        what a storm does: protocol, membership, times
    deck.py        the mix of deeds, drawn by the seed
    members.py     the processes, and what is done to them
    observer.py    reads the group's committed offsets every 75 ms, and the whole log at the end
    storm.py       the course of events, until everything is settled again
    history.py     everything that is known of it afterwards
    books.py       that history, sorted: what each checker looks things up in
    checkers.py    one function per promise (pure)
    happenings.py  the counts of everything that happened, and which of it must have
    variants.py    workers with one protection off, to show that the checkers see it

Payments, ledger and workers are those of `kafka_once.testing.campaign`; `make storm` runs it.
"""
