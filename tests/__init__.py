"""The tests. A package, so that `tests.support` can be imported wherever they are started from."""
