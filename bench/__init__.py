"""What de-duplication costs: ours beside loops written by hand, in one run on one machine. See bench/README.md."""
