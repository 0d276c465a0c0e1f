"""Control of Python's cyclic garbage collector."""

import gc


def begin_loading() -> None:
    """Disable the collector until `freeze_gc`: loading creates objects that stay, and scanning them repeatedly takes a
    fifth of the loading time.
    """
    gc.disable()


def freeze_gc() -> None:
    """Exclude all present objects from collection, and enable the collector. Call it when a process has loaded its
    code: some hundred thousand objects then live until it exits, and scanning them repeatedly finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
