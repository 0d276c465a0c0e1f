"""What Python's collector of cycles looks through."""

import gc


def begin_loading() -> None:
    """Leave the collector off until `freeze_gc`: loading makes objects that stay, and going through them again
    and again is a fifth of its time.
    """
    gc.disable()


def freeze_gc() -> None:
    """Have the collector never again look at what there is now. Called when a process has loaded all it works with:
    some hundred thousand objects that stay to its end, and that it would go through again and again for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
