"""What real servers were seen to do, as scripts that run on the simulated ones and on the real ones."""
