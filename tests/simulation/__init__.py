"""A deterministic simulation: one seed is one schedule. The production engine and the memory store run in a world of
simulated processes, a simulated group, lossy wires and virtual time; checkers judge the history from the outside."""
