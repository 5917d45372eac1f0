"""Money moved between accounts, once for each payment; see README.md."""
