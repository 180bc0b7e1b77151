"""Python's garbage collector during a start: off, because whatever is loaded stays.

Each collection walks everything that is there, and loading modules makes nothing but things that
are there: a sixth of the processor time of the imports. What holds a large state that stays walks
it now and then, not whenever some new objects were made.
"""

import gc


def pause() -> None:
    """No collections until `resume`."""
    gc.disable()


def resume() -> None:
    """Collect once, then never again walk what is there now; nothing where it was not paused."""
    if not gc.isenabled():
        gc.collect()
        gc.freeze()
        gc.enable()


def settle() -> None:
    """Collect, then do not walk what is there now until this is called again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
