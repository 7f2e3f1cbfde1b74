"""Of a thousand pages a few cannot be parsed. The others are, and all errors come in one.

Prints:

    3 of 1 000 failed: items 17, 204, 981
    page 17: Torn, 12 % is left
    page 204: Torn, 12 % is left
    page 981: Torn, 12 % is left
    997 pages, 45406 words
"""

import safemp


class Torn(Exception):
    """An exception whose constructor wants a keyword: stock pools break when one comes back."""

    def __init__(self, *, left):
        super().__init__(f"{left} % is left")
        self.left = left


def words(page):
    if page in (17, 204, 981):
        raise Torn(left=12)
    return page % 94


def main():
    try:
        counts = safemp.map(words, range(1000), on_error="collect")
    except safemp.MapError as error:
        print(error.message)
        for page, torn in zip(error.items, error.exceptions, strict=True):
            print(f"page {page}: {type(torn).__name__}, {torn}")
        counts = [count for count in error.results if isinstance(count, int)]
    print(f"{len(counts)} pages, {sum(counts)} words")


if __name__ == "__main__":
    main()
