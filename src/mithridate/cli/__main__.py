"""``python -m mithridate.cli``, the form that ``accelerate launch -m`` starts."""

from mithridate.cli.main import main

if __name__ == "__main__":
    main()
