"""``python -m nanh2lib.cli``: the same as ``nanh2``."""

from nanh2lib.cli.app import main

if __name__ == "__main__":
    main()
