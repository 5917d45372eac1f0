"""A campaign: payments with repeats go through a group whose processes are killed again and again, and what became of
them is judged from the outside.

    payments.py   what is sent, and the books of what Kafka acknowledged
    ledger.py     the external effect: one line per start and per run, written by the handler itself
    worker.py     one process of the group (an App with one handler)
    watched.py    what passes between Kafka's client and the library in it
    workers.py    starts, kills and restarts them
    campaign.py   the course of events, from the first payment to the clean end
    history.py    everything that is known of a campaign afterwards, and the file it is kept in
    reports.py    what the library listed as in doubt
    checker.py    what it means: lost, stuck, doubled, in doubt (pure functions)
    attribution.py  which kill left a claim in doubt
    promises.py   which of that each semantics allows

`make chaos` and `make demo` are two campaigns. The verdict never reads the library's state: lost, stuck and doubled
come from the books above and from Kafka's committed offsets. Only what the library *reported* in doubt is asked of it.
"""
