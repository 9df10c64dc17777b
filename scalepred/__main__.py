"""`python -m scalepred` is `scalepred`."""

from scalepred.commands.train import main

if __name__ == "__main__":
    main()
