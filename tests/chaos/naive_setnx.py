"""A worker program: `variants.naive_setnx`."""

from tests.chaos.variants import naive_setnx, run

if __name__ == "__main__":
    run(naive_setnx)
