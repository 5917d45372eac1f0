"""A worker program: `variants.mark_after`."""

from tests.chaos.variants import mark_after, run

if __name__ == "__main__":
    run(mark_after)
