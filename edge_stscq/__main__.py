"""`python -m edge_stscq` is the `edge-stscq` command."""

from edge_stscq.cli import main

if __name__ == "__main__":
    main()
