"""How is `python -m reactivedb` the same as the `reactivedb` command?"""

from .cli.main import main

if __name__ == "__main__":
    main()
