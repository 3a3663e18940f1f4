"""`python -m mint_core` is `mint`."""

from mint_core.cli import main

if __name__ == "__main__":
    main()
